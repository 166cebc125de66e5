"""How to train."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from efface.data.augment import Augment
from efface.fields import Fields
from efface.running.run import Precision

__all__ = ["Recipe"]


class Recipe(Fields):
    """How to train.

    Attributes:
        optimiser: `sgd`, `adam` or `adamw`.
        lr: Learning rate at the start; of `one-cycle`, the highest.
        momentum: For SGD.
        nesterov: For SGD.
        weight_decay: L2 penalty (decoupled for adamw).
        decay_vectors: Whether weight decay also holds for parameters of one axis: biases, BatchNorm's.
        schedule: `constant`; `cosine` to zero over all steps; `step`: times `gamma` at each milestone; `one-cycle`: up
            from lr / 25 over the first `warm_up` of all steps, down to nothing over the others, both as a cosine.
        warm_up: Share of the steps in which a one-cycle schedule rises.
        milestones: Epochs at which a step schedule drops.
        gamma: Factor of a step schedule.
        average: 0, or the memory of an exponential moving average of the weights, as a share of all steps; the
            average is what training returns, with BatchNorm's statistics computed anew. Goes with the schedule.
        epochs: Passes over the part; fractions are allowed.
        batch_size: Samples per step, over all processes together.
        augment: Random crop and flip.
        label_smoothing: Mass moved from the label to all classes.
        clip_norm: Largest gradient norm, or None.
        precision: `32-true` or `bf16-mixed`.
        channels_last: Batches of images lie in memory with the channels last: faster convolutions, other rounding.
        seed: Seed of initial weights, order and augmentation.

    Example:
        >>> import efface
        >>> efface.Recipe(lr=0.1, epochs=5).but(epochs=1).epochs
        1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    decay_vectors: bool = True
    schedule: Literal["constant", "cosine", "step", "one-cycle"] = "constant"
    warm_up: float = Field(default=0.25, gt=0, lt=1)
    milestones: tuple[float, ...] = ()
    gamma: float = Field(default=0.1, gt=0, le=1)
    average: float = Field(default=0.0, ge=0, lt=1)
    epochs: float = Field(default=10, ge=0, allow_inf_nan=False)
    batch_size: int = Field(default=128, ge=1)
    augment: Augment = Augment()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Precision = "32-true"
    channels_last: bool = False
    seed: int = Field(default=0, ge=0)

    def but(self, **changes: Any) -> Recipe:
        """Return a copy with some fields changed and checked again; another schedule leaves the average behind."""
        kept = self.model_dump()
        if changes.get("schedule", self.schedule) != self.schedule:
            kept["average"] = 0.0
        return Recipe(**{**kept, **changes})

    def bare(self, **changes: Any) -> Recipe:
        """Return a copy at a constant rate with nothing beside the loss, and with some fields changed.

        No weight decay, Nesterov momentum, smoothing, average, clipping or augmentation: how official codes forget.
        """
        plain: dict[str, Any] = {"schedule": "constant", "nesterov": False, "weight_decay": 0.0, "augment": Augment()}
        return self.but(**plain, average=0.0, label_smoothing=0.0, clip_norm=None, **changes)
