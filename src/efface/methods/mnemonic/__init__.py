"""Mnemonic code: train with one random image per class mixed in, then forget a class in one step from those images."""

from efface.methods.mnemonic.mnemonic import Mnemonic

__all__ = ["Mnemonic"]
