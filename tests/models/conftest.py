"""The models that these tests share."""

from tests.world import world

__all__ = ["world"]
