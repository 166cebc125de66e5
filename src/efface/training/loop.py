"""The one training loop that training, retraining and fine-tuning all use."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.models.batch_norm import recompute_statistics
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.running.subnormal import flushed
from efface.training.averaging import Average
from efface.training.checkpoint import Carried, Checkpoint
from efface.training.optimiser import optimiser_of, scheduler_of
from efface.training.recipe import Recipe

__all__ = ["Batched", "Endless", "Loss", "Trainer", "cross_entropy", "epoch_of", "fit", "warm_up"]

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
        optimiser = optimiser_of(trained, recipe, axes=1 + getattr(model, "stacked_axes", 0))
        self._scheduler = scheduler_of(optimiser, recipe, self.total_steps, self.steps_per_epoch)
        self._wrapped, self._optimiser = run.fabric.setup(model, optimiser)
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._left = 0
        self.step = 0
        self._epoch_loss = torch.zeros((), device=run.device, dtype=torch.float64)
        self._epoch_started = _clocks()

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
        with flushed(), seeded(self.run.number(f"{self.stage}/dropout from step {self.step}")):
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a stopped training needs beside its arguments to go on: tensors, and what JSON can hold."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()} | {"epoch_loss": self._epoch_loss}
        for index, held in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{k}": v for k, v in held.items() if v is not None}
        wall, cpu = self._spent()
        return tensors, {"step": self.step, "wall": wall, "cpu": cpu, "history": self.run.history.of(self.stage)}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go to the step at which `state` was taken, on a trainer that has made none."""
        self.model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        held: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser/"):
                _, index, key = name.split("/")
                own = parameters[int(index)]
                # A fused step walks through memory: what belongs to a weight must lie there as the weight does.
                alike = tensor if tensor.shape != own.shape else torch.empty_like(own).copy_(tensor)
                held.setdefault(int(index), {})[key] = alike
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": held, "param_groups": groups})
        self.step = numbers["step"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler")  # the steps were made elsewhere
            if self._scheduler is not None:
                for _ in range(min(self.step, self.total_steps)):
                    self._scheduler.step()
        self.run.history.rows.extend(numbers["history"])
        if read := self.step % self.steps_per_epoch:
            self._start_epoch()
            for _ in itertools.islice(self._batches, read):
                self._left -= 1
        self._epoch_loss.copy_(tensors["epoch_loss"])
        wall, cpu = _clocks()
        self._epoch_started = wall - numbers["wall"], cpu - numbers["cpu"]

    def _one(self) -> None:
        if self._left == 0:
            self._start_epoch()
        x, y = next(self._batches)
        self._left -= 1
        if self.recipe.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
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
        self._batches = self.part.batches(epoch_of(self.part, self.recipe, self.run, f"{self.stage}/epoch {epoch}"))
        self._left = self.steps_per_epoch
        self._epoch_loss.zero_()
        self._epoch_started = _clocks()

    def _end_epoch(self) -> None:
        self._check_finite()
        mean = float(self._epoch_loss) / self.steps_per_epoch
        wall, cpu = self._spent()
        self.run.history.add(
            self.stage, epoch=self.step // self.steps_per_epoch, loss=mean, seconds=wall, cpu_seconds=cpu
        )

    def _spent(self) -> tuple[float, float]:
        """Return the seconds of wall clock and of this process's cores since the epoch began."""
        wall, cpu = (now - then for now, then in zip(_clocks(), self._epoch_started, strict=True))
        return wall, cpu

    def _check_finite(self) -> None:
        if not math.isfinite(float(self._epoch_loss)):
            raise InputError(
                f"{self.stage}: the loss is not finite at step {self.step}; lower the learning rate ({self.recipe.lr}) "
                "or set clip_norm"
            )


class Endless:
    """Shuffled, augmented batches of a part for ever, epoch after epoch; `carried` by `fit`.

    For losses that pair each batch of the part that drives `fit` with one of a second part. As there, a last batch of
    one sample is dropped if there are others.

    Args:
        part: The second part.
        recipe: Gives batch size and augmentation.
        run: Gives device and randomness.
        stage: Name that the randomness derives from.
    """

    def __init__(self, part: Batched, recipe: Recipe, run: Run, stage: str) -> None:
        epochs = (epoch_of(part, recipe, run, f"{stage}/endless {epoch}") for epoch in itertools.count())
        self._batches = itertools.chain.from_iterable(part.batches(epoch) for epoch in epochs)
        self._taken = 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self._taken += 1
        return next(self._batches)

    def state(self) -> dict[str, Tensor]:
        """Return how many batches were taken."""
        return {"taken": torch.tensor(self._taken)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take as many."""
        for _ in range(int(tensors["taken"])):
            next(self)


def epoch_of(part: Batched, recipe: Recipe, run: Run, purpose: str) -> Epoch:
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
    carried: Carried | None = None,
) -> nn.Module:
    """Train a model in place for the recipe's epochs, with progress, and return it in eval mode.

    Where the recipe averages, the average is returned. Where the run keeps checkpoints, a training that was stopped
    goes on from its last one, and ends with the same bits: what loss or hooks carry from step to step (their draws, a
    log) is `carried`. See `Trainer` for the other arguments and errors.
    """
    if recipe.epochs == 0:
        return model.to(run.device).eval()
    average: Average | None = None

    def after(stepped: nn.Module) -> None:
        if on_step is not None:
            on_step(stepped)
        if average is not None:
            average.update(stepped)

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
        on_step=after,
    )
    if recipe.average:
        average = Average(trainer.model, recipe.average, trainer.total_steps)
    checkpoint = _checkpoint(trainer, average, carried)
    chunk = min(trainer.steps_per_epoch, 50)
    starts = range(trainer.step, trainer.total_steps, chunk)
    for start in run.track(starts, f"{stage} ({recipe.epochs:g} epochs)", len(starts)):
        trainer.advance(min(chunk, trainer.total_steps - start))
        if checkpoint is not None:
            checkpoint.save()
    if average is not None:
        average.into(model)
        if not trainer.freeze_batch_norm:
            again = epoch_of(part, recipe, run, f"{stage}/statistics of the average")
            recompute_statistics(model, part.batches(dataclasses.replace(again, rank=0, world=1)))
    if checkpoint is not None:
        checkpoint.remove()
    return model.eval()


def _checkpoint(trainer: Trainer, average: Average | None, carried: Carried | None) -> Checkpoint | None:
    """Return where the training is kept now and then, if the run keeps it, after going on from there."""
    run, part = trainer.run, trainer.part
    if run.checkpoints is None or run.fabric.world_size > 1:
        return None
    before = None if carried is None else carried.state()
    first = next(iter(part.batches(epoch_of(part, trainer.recipe, run, f"{trainer.stage}/epoch 0"))))
    if carried is not None and before is not None:
        carried.restore(before)  # a look at the first batch is no part of the training
    checkpoint = Checkpoint(run.checkpoints, trainer, average, carried, first)
    checkpoint.restore()
    return checkpoint


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


def _clocks() -> tuple[float, float]:
    """Return the wall clock and the time of all cores on this process, in seconds."""
    return time.perf_counter(), time.process_time()
