"""Amnesiac unlearning: log what batches with sensitive records change, and take it back on request."""

from efface.methods.amnesiac.amnesiac import Amnesiac

__all__ = ["Amnesiac"]
