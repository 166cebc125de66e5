"""Grids of methods, requests and seeds from one YAML plan: the verb `compare`."""

from __future__ import annotations

from efface.comparing.grid import compare
from efface.comparing.plan import Entry, Plan
from efface.comparing.tables import Comparison

__all__ = ["Comparison", "Entry", "Plan", "compare"]
