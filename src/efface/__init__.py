"""Efface makes trained PyTorch classifiers forget on request, and shows how far they did."""

__version__ = "0.1.0"
