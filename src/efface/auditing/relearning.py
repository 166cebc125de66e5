"""Relearning: how many training steps until the forget data is known again?

Knowledge that was hidden rather than removed comes back sooner than a retrained model learns it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from efface.auditing.outputs import logits_of
from efface.auditing.utility import accuracy
from efface.data.part import Part
from efface.errors import InputError
from efface.run import Run
from efface.training import Recipe, Trainer

__all__ = ["RELEARNING", "Relearning", "anamnesis_index", "relearn"]

RELEARNING = Recipe(optimiser="adam", lr=1e-3, momentum=0.0, weight_decay=0.0, batch_size=256)
"""Adam, 1e-3, batch 256, no augmentation: the values of Zero-Shot MU's code."""


@dataclass(frozen=True)
class Relearning:
    """How a model relearned.

    Attributes:
        steps: Optimiser steps until the target was reached, or the cap.
        reached: Whether it was reached within the cap.
        accuracies: Forget accuracy after 0, 1, ..., `steps` steps.
    """

    steps: int
    reached: bool
    accuracies: tuple[float, ...]


def relearn(
    model: nn.Module,
    part: Part,
    target: float,
    run: Run,
    *,
    recipe: Recipe = RELEARNING,
    cap: int = 100,
    watched: Part | None = None,
) -> Relearning:
    """Fine-tune a copy of the model on a part until its accuracy there reaches a target.

    BatchNorm keeps its running statistics: batches of one class would wreck them, which is not forgetting.

    Args:
        model: Any module; never changed.
        part: What it is trained on, e.g. D_f.
        target: Accuracy to reach, usually the original model's less alpha = 0.05.
        run: Device and randomness; equal runs give each model the same batches.
        recipe: Optimiser, learning rate and batch size; its epochs are not used.
        cap: Most steps.
        watched: Where accuracy is read; `part` by default.

    Raises:
        InputError: If a part is empty, the target is no accuracy, the cap is below 1, or training diverges.
    """
    if not 0 <= target <= 1 or cap < 1:
        raise InputError(f"target is {target} and cap is {cap}; give an accuracy in [0, 1] and at least one step.")
    seen = part if watched is None else watched
    labels = seen.labels
    copy = run.copied(model)
    for parameter in copy.parameters():
        parameter.requires_grad_(True)
    trainer = Trainer(copy, part, recipe, run.twin(), stage="audit/relearning", total_steps=cap, freeze_batch_norm=True)
    accuracies = [accuracy(logits_of(copy, seen), labels)]
    while accuracies[-1] < target and len(accuracies) <= cap:
        trainer.advance(1)
        accuracies.append(accuracy(logits_of(copy, seen), labels))
    return Relearning(len(accuracies) - 1, accuracies[-1] >= target, tuple(accuracies))


def anamnesis_index(ours: Relearning, theirs: Relearning) -> float:
    """Return AIN = steps(M_u) / steps(M_r) (arXiv 2201.05629): 1 is best.

    Below 1 knowledge is left, above 1 the model was made hard to teach. A model that never reached the target counts
    with the cap, so the index is then a bound.

    Args:
        ours: The unlearned model's relearning.
        theirs: The retrained model's, with the same target, recipe and cap.

    Returns:
        0 if the unlearned model never left the target; 1 if neither did; infinity if only the retrained model did not.
    """
    if theirs.steps == 0:
        return 1.0 if ours.steps == 0 else float("inf")
    return ours.steps / theirs.steps
