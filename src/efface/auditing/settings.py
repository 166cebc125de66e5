"""What an audit may spend, and its tolerances."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from efface.fields import Fields

__all__ = ["AuditSettings"]


class AuditSettings(Fields):
    """What an audit may spend; every bound that bites is named in the audit's notes.

    The tolerances that stand in for an unknown floor come from settings of which no error rate is published; see "How
    often the audit is wrong" in docs/metrics.md.

    Attributes:
        retain_samples: Most kept training records that are looked at.
        attack_samples: Most records on each side of an attack.
        probe_per_class: Training records of each class for the full probe.
        probe_classes: Most classes that probes tell apart, drawn where there are more: forgotten ones up to half of
            them, and others. The work of a full probe grows with their square.
        few_per_class: Training records of each class for the probe from a few records.
        few_draws: Draws of that probe.
        probe_test: Most unseen records of the forgotten classes for probes.
        relearn_cap: Most relearning steps of a retrained model, or where there is none; 0 leaves relearning out.
        relearn_alpha: How close to the original's forget accuracy relearning must come.
        resamples: Bootstrap resamples.
        fpr: False-positive rate for true-positive rates; raised to what the records support.
        confidence: Of all intervals.
        tolerance: Gap in a share (accuracy, AUC, recall) that counts as run-to-run noise while no floor is known.
        probe_tolerance: The same for the probe from a few records, which varies more from run to run.
        shift_tolerance: The same for the score `forget_shift`.
        exposure_factor: Multiple of unseen records' largest deviation that counts as noise for one record while no
            floor is known.
        separation_factor: Factor in `separation` that counts as noise while no floor is known.
        ain_factor: Factor in relearning steps that counts as noise while no floor is known.
        recipe_tolerance: How far retrained models may lie below the original on kept training data before the recipe
            counts as another one than the original's.
        reference_knows: Share of a forgotten class that a retrained model may answer; above, it must have seen it.
        floor_models: Most further retrained models whose features and relearning are measured for floors.
        exposed: How many records to list.
        klom_bins: How KLoM's histograms end: `closed` counts every margin; `published` loses each record's largest, as
            public code does, for figures that are to be put beside that code's.
        sealed: Ask the sealed questions too: what a search passed may still fail here. No search may set it.
        canaries: Ask about the canaries of training where the request names them; a search does not.
        kept_steps: Steps of training on kept data alone, for the sealed questions; 0 leaves that one out.

    Example:
        >>> import efface
        >>> quick = efface.AuditSettings(relearn_cap=0, few_draws=10)
        >>> quick.relearn_cap, quick.confidence
        (0, 0.95)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    retain_samples: int = Field(default=10_000, ge=1)
    attack_samples: int = Field(default=2_000, ge=2)
    probe_per_class: int = Field(default=200, ge=1)
    probe_classes: int = Field(default=100, ge=4)
    few_per_class: int = Field(default=1, ge=1)
    few_draws: int = Field(default=100, ge=2)
    probe_test: int = Field(default=1_000, ge=1)
    relearn_cap: int = Field(default=100, ge=0)
    relearn_alpha: float = Field(default=0.05, ge=0, lt=1)
    resamples: int = Field(default=1_000, ge=100)
    fpr: float = Field(default=0.01, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    tolerance: float = Field(default=0.02, ge=0, lt=1)
    probe_tolerance: float = Field(default=0.10, ge=0, lt=1)
    shift_tolerance: float = Field(default=0.45, ge=0, lt=0.5)
    exposure_factor: float = Field(default=1.9, gt=1)
    separation_factor: float = Field(default=1.6, gt=1)
    ain_factor: float = Field(default=2.0, gt=1)
    recipe_tolerance: float = Field(default=0.05, ge=0, lt=1)
    reference_knows: float = Field(default=0.05, ge=0, lt=1)
    floor_models: int = Field(default=7, ge=0)
    exposed: int = Field(default=10, ge=0)
    klom_bins: Literal["closed", "published"] = "closed"
    sealed: bool = False
    canaries: bool = True
    kept_steps: int = Field(default=50, ge=0)
