"""Models from inputs to logits: a few of our own, and the loading of anyone's."""
