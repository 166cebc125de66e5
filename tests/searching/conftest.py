"""The models that the audit's tests use."""

from tests.world import world

__all__ = ["world"]
