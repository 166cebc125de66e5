"""ClassProjection: take the directions that only the forgotten class uses out of every layer's input space."""

from efface.methods.class_projection.class_projection import ClassProjection

__all__ = ["ClassProjection"]
