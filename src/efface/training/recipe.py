"""How to train."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from efface.data.augment import Augment
from efface.running.run import Precision

__all__ = ["Recipe"]


class Recipe(BaseModel):
    """How to train.

    Attributes:
        optimiser: `sgd`, `adam` or `adamw`.
        lr: Learning rate at the start.
        momentum: For SGD.
        nesterov: For SGD.
        weight_decay: L2 penalty (decoupled for adamw).
        schedule: `constant`; `cosine` to zero over all steps; `step`: times `gamma` at each milestone.
        milestones: Epochs at which a step schedule drops.
        gamma: Factor of a step schedule.
        epochs: Passes over the part; fractions are allowed.
        batch_size: Samples per step, over all processes together.
        augment: Random crop and flip.
        label_smoothing: Mass moved from the label to all classes.
        clip_norm: Largest gradient norm, or None.
        precision: `32-true` or `bf16-mixed`.
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
    schedule: Literal["constant", "cosine", "step"] = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = Field(default=0.1, gt=0, le=1)
    epochs: float = Field(default=10, ge=0, allow_inf_nan=False)
    batch_size: int = Field(default=128, ge=1)
    augment: Augment = Augment()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Precision = "32-true"
    seed: int = Field(default=0, ge=0)

    def but(self, **changes: Any) -> Recipe:
        """Return a copy with some fields changed and checked again."""
        return Recipe.model_validate({**self.model_dump(), **changes})

    def bare(self, **changes: Any) -> Recipe:
        """Return a copy at a constant rate with nothing beside the loss, and with some fields changed.

        No weight decay, Nesterov momentum, label smoothing, clipping or augmentation: how official codes forget.
        """
        plain: dict[str, Any] = {"schedule": "constant", "nesterov": False, "weight_decay": 0.0, "augment": Augment()}
        return self.but(**plain, label_smoothing=0.0, clip_norm=None, **changes)
