"""ARCANE: one one-class model per class, trained on that class alone; a deletion touches its class and no other."""

from efface.methods.arcane.arcane import Arcane

__all__ = ["Arcane"]
