"""NTK forgetting: move the weights by the difference of two minimisers of the linearised loss."""

from efface.methods.ntkf.ntkf import NTKF

__all__ = ["NTKF"]
