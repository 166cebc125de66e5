"""Checking again what was said of a model."""

from efface.verifying.finding import Finding, Verification

__all__ = ["Finding", "Verification"]
