"""Mnemonic code: train with one random image per class (or person) mixed in, then forget it in one step from those."""

from efface.methods.mnemonic.groups import MnemonicGroups
from efface.methods.mnemonic.mnemonic import Mnemonic

__all__ = ["Mnemonic", "MnemonicGroups"]
