"""How to train, and the training loop."""
