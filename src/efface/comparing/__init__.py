"""Grids of methods, requests and seeds from one YAML plan."""

from efface.comparing.plan import Entry, Plan
from efface.comparing.results import Comparison

__all__ = ["Comparison", "Entry", "Plan"]
