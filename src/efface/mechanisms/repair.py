"""Training a damaged network back to use: on labels, on a teacher's answers, or on both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.mechanisms.distillation import kl
from efface.mechanisms.weight_distance import rms_distance
from efface.models.batch_norm import batch_norms, recompute_statistics
from efface.models.mode import evaluating
from efface.running.run import Run
from efface.training.loop import Loss, Trainer
from efface.training.recipe import Recipe

__all__ = ["Lesson", "Teacher", "lesson_loss", "masked_teacher", "pushed", "repair", "repair_recipe", "statistics_anew"]

Lesson = Literal["labels", "teacher", "both", "logits"]
"""Cross-entropy on labels; KL from the teacher; their sum; squared distance of the kept classes' logits."""

_BATCHES = 40  # of retained data that BatchNorm's statistics are averaged over


class Teacher(Protocol):
    """From inputs (B, ...) to logits (B, K), without gradients; -inf for a class that has no mass."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits."""


def masked_teacher(model: nn.Module, classes: Sequence[int]) -> Teacher:
    """Return the model as a teacher, in eval mode, whose logits of some classes are -inf: the logit mask.

    Args:
        model: Not changed; must not be trained meanwhile.
        classes: Classes without mass; empty leaves the answers as they are.
    """
    masked = list(classes)

    def answer(x: Tensor) -> Tensor:
        with evaluating(model), torch.no_grad():
            z = model(x).float()
        z[:, masked] = -math.inf
        return z

    return answer


def lesson_loss(lesson: Lesson, teacher: Teacher | None, temperature: float = 1.0, smoothing: float = 0.0) -> Loss:
    """Return the mean loss of one batch.

    labels   CE(S(x), y)
    teacher  KL(softmax(T(x)/t) || softmax(S(x)/t)), not scaled by t^2
    both     their sum
    logits   mean over classes with a finite T(x)_k of (S(x)_k - T(x)_k)^2

    Args:
        lesson: Which.
        teacher: T; not needed for labels.
        temperature: t.
        smoothing: Label smoothing of the cross-entropy.
    """
    if lesson == "labels":
        return lambda model, x, y: F.cross_entropy(model(x), y, label_smoothing=smoothing)
    if teacher is None:
        raise ValueError(f"the lesson {lesson!r} needs a teacher")

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        taught, answer = teacher(x), model(x)
        if lesson == "logits":
            finite = taught.isfinite()
            return F.mse_loss(answer[finite], taught[finite])
        distance = kl(taught, answer, temperature).mean()
        if lesson == "teacher":
            return distance
        return distance + F.cross_entropy(answer, y, label_smoothing=smoothing)

    return loss


def pushed(loss: Loss, model: nn.Module, original: nn.Module, push: float) -> Loss:
    """Return the loss less `push` times the root mean square distance of the model's weights to the original's.

    Args:
        loss: Of one batch.
        model: Whose weights are meant: the one that is trained.
        original: Where its weights shall lead away from; of the same architecture.
        push: Weight of the distance; 0 returns the loss itself.
    """
    if push == 0:
        return loss
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    start = {n: p.detach().to(trained[n]).clone() for n, p in original.named_parameters() if n in trained}
    return lambda wrapped, x, y: loss(wrapped, x, y) - push * rms_distance(model, start)


def repair_recipe(recipe: Recipe, optimiser: str, lr: float, epochs: float, momentum: float | None = None) -> Recipe:
    """Return a recipe with a cosine to zero and no weight decay, which would pull elsewhere than the lesson does.

    Args:
        recipe: The original's: batch size, augmentation, precision and what is not given here stay.
        optimiser: `adam` or `sgd`.
        lr: Learning rate at the start.
        epochs: Passes over the data.
        momentum: Of SGD; the recipe's own if None.
    """
    return recipe.but(
        optimiser=optimiser,
        momentum=recipe.momentum if momentum is None else momentum,
        lr=lr,
        weight_decay=0.0,
        schedule="cosine",
        epochs=epochs,
    )


def repair(
    model: nn.Module,
    part: Part,
    recipe: Recipe,
    run: Run,
    *,
    stage: str,
    loss: Loss,
    average: float = 0.0,
    enough: Callable[[nn.Module], bool] | None = None,
    looks: int = 20,
) -> nn.Module:
    """Train a model in place for the recipe's epochs, at least one step unless they are 0, and return it in eval mode.

    Args:
        model: Trained.
        part: Retained data.
        recipe: How to train; 0 epochs return the model as it is.
        run: Device, precision, randomness, history.
        stage: Name for history, progress and randomness.
        loss: Mean loss of one batch.
        average: Share of the last steps whose weights are averaged into the result.
        enough: Asked `looks` times on the way; True ends the training.
        looks: How often to ask.
    """
    if recipe.epochs == 0:
        return model.eval()
    steps = max(1, round(recipe.epochs * math.ceil(len(part) / recipe.batch_size)))
    first = steps - math.ceil(average * steps)
    mean = AveragedModel(model) if average else None
    taken = 0

    def on_step(trained: nn.Module) -> None:
        nonlocal taken
        taken += 1
        if mean is not None and taken > first:
            mean.update_parameters(trained)

    trainer = Trainer(model, part, recipe, run, stage=stage, loss=loss, total_steps=steps, on_step=on_step)
    chunk = max(1, math.ceil(steps / looks))
    starts = range(0, steps, chunk)
    for start in run.track(starts, f"{stage} ({recipe.epochs:g} epochs)", len(starts)):
        trainer.advance(min(chunk, steps - start))
        if enough is not None and enough(model):
            run.note(f"{stage}: stopped after {trainer.step} of {steps} steps")
            break
    if mean is not None and int(mean.n_averaged):
        model.load_state_dict(mean.module.state_dict())
    run.history.add(stage, steps=trainer.step)
    return model.eval()


def statistics_anew(model: nn.Module, part: Part, recipe: Recipe, run: Run, purpose: str) -> None:
    """Average BatchNorm's statistics over retained data, at most 40 batches; without BatchNorm nothing is read.

    Args:
        model: Its statistics are replaced.
        part: Retained data.
        recipe: Gives the batch size.
        run: Gives device and the random choice.
        purpose: Names the choice.
    """
    if batch_norms(model):
        chosen = part.sample(_BATCHES * recipe.batch_size, run.generator(f"{purpose}/statistics"))
        recompute_statistics(model, chosen.batches(Epoch(recipe.batch_size, device=run.device)))
