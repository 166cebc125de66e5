"""Gated knowledge transfer: a new network learns from images that a generator makes, less those of the class."""

from efface.methods.zero_shot_gkt.zero_shot_gkt import ZeroShotGKT

__all__ = ["ZeroShotGKT"]
