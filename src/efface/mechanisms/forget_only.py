"""Training on the data to forget alone: what BatchNorm needs for it, and whether it did anything."""

from __future__ import annotations

from torch import nn

from efface.data.part import Part
from efface.errors import InputError
from efface.models.batch_norm import batch_norms
from efface.models.predictions import accuracy_of
from efface.running.run import Run

__all__ = ["note_if_left", "require_more_than_one"]


def require_more_than_one(name: str, model: nn.Module, part: Part, frozen: bool, instead: str) -> None:
    """Raise if BatchNorm would have to normalise a single sample.

    Args:
        name: The method's.
        model: What is trained.
        part: The data to forget.
        frozen: BatchNorm keeps its statistics, so that it does not matter.
        instead: Name of another method.

    Raises:
        InputError: One sample, and BatchNorm in train mode.
    """
    if len(part) == 1 and not frozen and batch_norms(model):
        raise InputError(
            f"{name} trains on the forget data alone, and BatchNorm cannot normalise a single sample; set "
            f"freeze_batch_norm, or use {instead}"
        )


def note_if_left(name: str, model: nn.Module, part: Part, lr: float, run: Run) -> None:
    """Note as a failure if more than a tenth of the data to forget is still recognised: the rate was too small."""
    left = accuracy_of(model, part)
    if left > 0.1:
        run.fail(f"{name}: {left:.0%} of the forget data is still recognised; raise lr ({lr:g})")
