"""Many models of one architecture trained side by side: one batched network instead of many small ones."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap
from torch.nn import functional as F

from efface.data.augment import Augment
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.models.batch_norm import recompute_statistics
from efface.models.functional import call_with
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import Loss, epoch_of, fit
from efface.training.recipe import Recipe

__all__ = ["Stack", "fit_together", "stackable"]


class Stack(nn.Module):
    """Models of one architecture with their parameters stacked along a first axis K, run by `torch.func.vmap`.

    BatchNorm's running statistics are stacked too, so that each model has its own; dropout draws differ between models.

    Args:
        models: At least one, on one device, all alike but for their values; they are not changed.

    Raises:
        InputError: The models cannot be stacked or vmapped (e.g. their forward pass branches on values).
    """

    stacked_axes = 1

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        try:
            parameters, buffers = stack_module_state(list(models))
        except RuntimeError as error:
            raise InputError(f"these models cannot be stacked: {error}; train them one by one") from None
        self.names = list(parameters)
        self.values = nn.ParameterList(nn.Parameter(v.detach(), v.requires_grad) for v in parameters.values())
        self.buffer_names = list(buffers)
        for i, value in enumerate(buffers.values()):
            self.register_buffer(f"buffer{i}", value.detach())
        # Not registered: its own parameters are placeholders.
        self._one = (copy.deepcopy(models[0]),)

    def train(self, mode: bool = True) -> Stack:
        """Set the mode of all models."""
        self._one[0].train(mode)
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (K, B, ...) to logits (K, B, classes)."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
            logits: Tensor = call_with(self._one[0], parameters | buffers, inputs)
            return logits

        return vmap(one, randomness="different")(*self._state(), x)

    def into(self, models: Sequence[nn.Module]) -> None:
        """Copy each model's values out of the stack."""
        parameters, buffers = self._state()
        for k, model in enumerate(models):
            own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            with torch.no_grad():
                for name, value in {**parameters, **buffers}.items():
                    own[name].copy_(value[k])

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        buffers = {name: getattr(self, f"buffer{i}") for i, name in enumerate(self.buffer_names)}
        return dict(zip(self.names, self.values, strict=True)), buffers


class _Lockstep:
    """Epochs of a part in as many orders as there are runs: inputs (K, B, ...), labels (K, B)."""

    def __init__(self, part: Part, runs: Sequence[Run], stage: str) -> None:
        self.part, self.runs, self.stage = part, runs, stage
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.part)

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each run's own batches, as `Part.batches` would give them to a model trained alone."""
        generators = [run.generator(f"{self.stage}/epoch {self.epoch}") for run in self.runs]
        own = [dataclasses.replace(epoch, generator=g) for g in generators]
        self.epoch += 1
        if epoch.augment is not None and epoch.augment != Augment():
            # Each sample's crop and flip are drawn batch by batch from its run's own generator.
            for pairs in zip(*(self.part.batches(e) for e in own), strict=True):
                yield torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
            return
        orders = [torch.stack(b) for b in zip(*(self.part.order(e) for e in own), strict=True)]
        labels = self.part.labels.to(epoch.device)
        plain = dataclasses.replace(epoch, augment=None)
        for positions, x in zip(orders, self.part.read([o.flatten() for o in orders], plain), strict=True):
            yield x.unflatten(0, positions.shape), labels[positions.to(labels.device)]


def fit_together(
    models: Sequence[nn.Module], part: Part, recipe: Recipe, runs: Sequence[Run], *, stage: str = "train"
) -> None:
    """Train models in place, each as `efface.training.loop.fit` would train it alone with its own run.

    The sum of the models' mean losses is minimised: no parameter is shared, so each model gets its own gradient, and
    the optimisers work element by element. Equal to training one by one up to floating-point rounding, except for
    dropout, whose draws are others.

    Args:
        models: Alike but for their values, on the runs' device.
        part: Where batches come from; every model sees it in its own order.
        recipe: How to train.
        runs: One per model, with its seed; the history gets the mean loss over all models.
        stage: As in `fit`.

    Raises:
        InputError: See `Stack` and `efface.training.Trainer`.
    """
    if recipe.epochs == 0:
        return
    stack = Stack(models)
    shared = runs[0].child()
    clip = None if recipe.clip_norm is None else recipe.clip_norm
    fit(
        stack,
        _Lockstep(part, runs, stage),
        recipe.but(clip_norm=None, channels_last=False),  # inputs have five axes here
        shared,
        stage=stage,
        loss=_summed(len(models), recipe.label_smoothing),
        on_gradients=None if clip is None else lambda _: _clip_each(stack, clip),
    )
    stack.into(models)
    if recipe.average:  # the stack has no BatchNorm layers of its own
        for model, run in zip(models, runs, strict=True):
            again = epoch_of(part, recipe, run, f"{stage}/statistics of the average")
            recompute_statistics(model, part.batches(again))
    for run in runs:
        for row in shared.history.of(stage):
            run.history.rows.append({**row, "loss": row["loss"] / len(models)})
    for model in models:
        model.eval()


def _summed(count: int, label_smoothing: float) -> Loss:
    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        # All batches are of one size, so the mean over everything is the mean of the models' means.
        return count * F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=label_smoothing)

    return loss


def _clip_each(stack: Stack, largest: float) -> None:
    """Scale each model's gradient to at most this norm, as `torch.nn.utils.clip_grad_norm_` does for one model."""
    gradients = [p.grad for p in stack.values if p.grad is not None]
    norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in gradients]).norm(dim=0)
    factor = (largest / (norms + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(factor.reshape(-1, *[1] * (g.ndim - 1)))


def stackable(model: nn.Module, example: Tensor) -> str:
    """Return why a model cannot be trained side by side with its likes, or nothing.

    Args:
        model: Not changed.
        example: A batch of inputs, on the model's device.
    """
    tied = sum(1 for _ in model.named_parameters(remove_duplicate=False)) - sum(1 for _ in model.parameters())
    if tied:
        return "some of its parameters are tied"
    try:
        stack: Any = Stack([model, model]).train()
        with torch.no_grad(), seeded(0):
            stack(torch.stack([example, example]))
    except (InputError, RuntimeError, ValueError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""
