"""Boundary Shrink: every forget image is given to the class across its nearest decision boundary."""

from efface.methods.boundary_shrink.boundary_shrink import BoundaryShrink

__all__ = ["BoundaryShrink"]
