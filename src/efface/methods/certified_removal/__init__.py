"""Certified removal: a perturbed linear head whose records can be removed by a Newton step with a guarantee."""

from efface.methods.certified_removal.certified_removal import CertifiedRemoval

__all__ = ["CertifiedRemoval"]
