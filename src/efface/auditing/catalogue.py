"""Every measure by key, gathered from where it is computed."""

from __future__ import annotations

from typing import get_args

from efface.auditing.scores import (
    agreement,
    canaries,
    cost,
    deeper,
    ensembles,
    exposure,
    features,
    membership,
    relearning,
    utility,
)
from efface.auditing.scores.measure import Group, Measure

__all__ = ["ALL", "CANARY_MEASURES", "MEASURES", "SEALED_MEASURES", "Measure"]

SECTIONS = (utility, agreement, membership, exposure, features, relearning, ensembles, cost)

MEASURES: dict[str, Measure] = {
    m.key: m for m in sorted((m for s in SECTIONS for m in s.MEASURES), key=lambda m: get_args(Group).index(m.group))
}
"""Every score by its key, in the order of a row's scores."""

SEALED_MEASURES: dict[str, Measure] = {m.key: m for m in deeper.MEASURES}
"""Those that only a sealed audit adds to its rows."""

CANARY_MEASURES: dict[str, Measure] = {m.key: m for m in canaries.MEASURES}
"""Those that only the audit of a request which names canaries adds."""

ALL: dict[str, Measure] = MEASURES | SEALED_MEASURES | CANARY_MEASURES
