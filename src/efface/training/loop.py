"""The one training loop that training, retraining and fine-tuning all use."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe

__all__ = ["Batched", "Loss", "Trainer", "cross_entropy", "endless", "fit", "warm_up"]

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, inputs, labels) -> scalar mean loss; the model may be called as often as the loss needs."""


class Batched(Protocol):
    """Anything that yields epochs of (inputs, labels); `efface.data.Part` does."""

    def __len__(self) -> int: ...

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch; see `Part.batches`."""


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of the model's logits."""
    return F.cross_entropy(model(x), y)


class Trainer:
    """Runs optimiser steps on a model, any number at a time; the order of the data runs on across calls.

    A last batch of one sample is dropped, because BatchNorm cannot normalise it; if there is but one sample in all,
    BatchNorm stays in eval mode.

    Args:
        model: Trained in place; moved to the run's device.
        part: Where batches come from.
        recipe: Optimiser, schedule and batch size.
        run: Device, precision, randomness, history.
        stage: Name for history and progress, and for the randomness derived from the seed.
        loss: Mean loss of one batch; cross-entropy (with the recipe's label smoothing) by default.
        total_steps: Length of the schedule; the recipe's epochs by default.
        parameters: What the optimiser holds; every parameter that requires a gradient by default.
        freeze_batch_norm: Keep BatchNorm in eval mode, so that running statistics stay.
        on_gradients: Called with the model between the backward pass and the step, e.g. to mask gradients.
        on_step: Called with the model after each step, e.g. to project its weights.

    Raises:
        InputError: The part is empty, or there is nothing to train.
    """

    def __init__(
        self,
        model: nn.Module,
        part: Batched,
        recipe: Recipe,
        run: Run,
        *,
        stage: str = "train",
        loss: Loss | None = None,
        total_steps: int | None = None,
        parameters: list[nn.Parameter] | None = None,
        freeze_batch_norm: bool = False,
        on_gradients: Callable[[nn.Module], None] | None = None,
        on_step: Callable[[nn.Module], None] | None = None,
    ) -> None:
        if len(part) == 0:
            raise InputError(f"{stage}: the data to train on is empty")
        self.part, self.recipe, self.run, self.stage = part, recipe, run, stage
        self.loss = loss or _smoothed(recipe.label_smoothing)
        self.freeze_batch_norm = freeze_batch_norm or len(part) == 1
        self.on_gradients, self.on_step = on_gradients, on_step
        whole, rest = divmod(len(part), recipe.batch_size)
        self.steps_per_epoch = whole + (rest > 0 and not _drops_last(part, recipe))
        self.total_steps = round(recipe.epochs * self.steps_per_epoch) if total_steps is None else total_steps
        self.model = model.to(run.device)
        trained = [p for p in model.parameters() if p.requires_grad] if parameters is None else parameters
        if not trained:
            raise InputError(f"{stage}: no parameter requires a gradient; there is nothing to train")
        optimiser = _optimiser(trained, recipe)
        self._scheduler = _scheduler(optimiser, recipe, self.total_steps, self.steps_per_epoch)
        self._wrapped, self._optimiser = run.fabric.setup(model, optimiser)
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._left = 0
        self.step = 0
        self._epoch_loss = torch.zeros((), device=run.device, dtype=torch.float64)
        self._epoch_started = time.perf_counter()

    def advance(self, steps: int) -> None:
        """Run this many optimiser steps.

        Raises:
            InputError: The loss became NaN or infinite (checked at the end of each epoch and of the call).
        """
        self._wrapped.train()
        if self.freeze_batch_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        with seeded(self.run.number(f"{self.stage}/dropout from step {self.step}")):
            for _ in range(steps):
                try:
                    self._one()
                except ValueError as error:
                    if "more than 1 value per channel" not in str(error):
                        raise
                    raise InputError(
                        f"{self.stage}: BatchNorm cannot normalise a batch of one sample; use a batch_size of at least "
                        f"2 (given: {self.recipe.batch_size})"
                    ) from error
        self._check_finite()
        self.model.eval()

    def set_rate(self, lr: float) -> None:
        """Set the learning rate from the next step on; for schedules that a recipe cannot express."""
        for group in self._optimiser.param_groups:
            group["lr"] = lr

    def share_optimiser(self, other: Trainer) -> None:
        """Step with another trainer's optimiser: one momentum and one learning rate, which that trainer schedules."""
        self._wrapped, self._optimiser, self._scheduler = other._wrapped, other._optimiser, None

    def _one(self) -> None:
        if self._left == 0:
            self._start_epoch()
        x, y = next(self._batches)
        self._left -= 1
        self._optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self._wrapped, x, y)
        self.run.fabric.backward(loss)
        if self.on_gradients is not None:
            self.on_gradients(self.model)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self._optimiser.step()
        if self.on_step is not None:
            self.on_step(self.model)
        if self._scheduler is not None and self.step < self.total_steps:
            self._scheduler.step()
        self.step += 1
        self._epoch_loss += loss.detach()
        if self._left == 0:
            self._end_epoch()

    def _start_epoch(self) -> None:
        epoch = self.step // self.steps_per_epoch
        self._batches = self.part.batches(_epoch(self.part, self.recipe, self.run, f"{self.stage}/epoch {epoch}"))
        self._left = self.steps_per_epoch
        self._epoch_loss.zero_()
        self._epoch_started = time.perf_counter()

    def _end_epoch(self) -> None:
        self._check_finite()
        mean = float(self._epoch_loss) / self.steps_per_epoch
        seconds = time.perf_counter() - self._epoch_started
        self.run.history.add(self.stage, epoch=self.step // self.steps_per_epoch, loss=mean, seconds=seconds)

    def _check_finite(self) -> None:
        if not math.isfinite(float(self._epoch_loss)):
            raise InputError(
                f"{self.stage}: the loss is not finite at step {self.step}; lower the learning rate ({self.recipe.lr}) "
                "or set clip_norm"
            )


def endless(part: Batched, recipe: Recipe, run: Run, stage: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled, augmented batches of a part for ever, epoch after epoch.

    For losses that pair each batch of the part that drives `fit` with one of a second part. As there, a last batch of
    one sample is dropped if there are others.

    Args:
        part: The second part.
        recipe: Gives batch size and augmentation.
        run: Gives device and randomness.
        stage: Name that the randomness derives from.
    """
    for epoch in itertools.count():
        yield from part.batches(_epoch(part, recipe, run, f"{stage}/endless {epoch}"))


def _epoch(part: Batched, recipe: Recipe, run: Run, purpose: str) -> Epoch:
    """Return a shuffled, augmented epoch of training; a last batch of one sample is dropped if there are others."""
    return Epoch(
        recipe.batch_size,
        device=run.device,
        generator=run.generator(purpose),
        augment=recipe.augment,
        drop_last=_drops_last(part, recipe),
        rank=run.fabric.global_rank,
        world=run.fabric.world_size,
    )


def _drops_last(part: Batched, recipe: Recipe) -> bool:
    return len(part) > recipe.batch_size and len(part) % recipe.batch_size == 1


def fit(
    model: nn.Module,
    part: Batched,
    recipe: Recipe,
    run: Run,
    *,
    stage: str = "train",
    loss: Loss | None = None,
    parameters: list[nn.Parameter] | None = None,
    freeze_batch_norm: bool = False,
    on_gradients: Callable[[nn.Module], None] | None = None,
    on_step: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Train a model in place for the recipe's epochs, with progress, and return it in eval mode.

    See `Trainer` for the arguments and errors.
    """
    if recipe.epochs == 0:
        return model.to(run.device).eval()
    trainer = Trainer(
        model,
        part,
        recipe,
        run,
        stage=stage,
        loss=loss,
        parameters=parameters,
        freeze_batch_norm=freeze_batch_norm,
        on_gradients=on_gradients,
        on_step=on_step,
    )
    chunk = min(trainer.steps_per_epoch, 50)
    starts = range(0, trainer.total_steps, chunk)
    for start in run.track(starts, f"{stage} ({recipe.epochs:g} epochs)", len(starts)):
        trainer.advance(min(chunk, trainer.total_steps - start))
    return model.eval()


def warm_up(run: Run) -> None:
    """Load what the first training of a process loads, seconds of it, so that it does not count as training time.

    torch's optimisers import its compiler on their first step, whether it is used or not.

    Args:
        run: Its Fabric is made ready.
    """
    parameter = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], lr=0.0)
    optimiser.zero_grad()
    assert run.fabric.world_size


def _smoothed(label_smoothing: float) -> Loss:
    if label_smoothing == 0:
        return cross_entropy
    return lambda model, x, y: F.cross_entropy(model(x), y, label_smoothing=label_smoothing)


def _optimiser(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    fused = all(p.device.type in {"cpu", "cuda"} and p.dtype == torch.float32 for p in parameters)
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": fused}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **shared)
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, **shared)
    return torch.optim.AdamW(parameters, **shared)


def _scheduler(
    optimiser: torch.optim.Optimizer, recipe: Recipe, total_steps: int, steps_per_epoch: int
) -> LRScheduler | None:
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=max(total_steps, 1))
    if recipe.schedule == "step":
        return MultiStepLR(optimiser, [round(m * steps_per_epoch) for m in recipe.milestones], recipe.gamma)
    return None
