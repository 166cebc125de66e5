"""Data dealt to shards and slices, and a member trained on one shard slice by slice, so that a deletion costs little.

What a record's place is depends on a seed and its position in the training set alone, and every draw of training on the
shard, slice and epoch: taking records out and going on from the last untouched slice gives, bit for bit, what training
on the reduced data from the start gives.

Source: Bourtoule et al., "Machine Unlearning", IEEE S&P 2021 (arXiv 1912.03817).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from efface.data.data import Data
from efface.data.part import Part
from efface.errors import InputError
from efface.mechanisms.kept_slices import KeptSlices
from efface.running.run import Run
from efface.training.loop import Loss, fit
from efface.training.recipe import Recipe

__all__ = [
    "Shards",
    "Slices",
    "States",
    "epochs_by_slice",
    "first_touched",
    "kept_slices",
    "require_passes",
    "require_unfrozen",
    "seeded_as",
    "states_of",
    "train_slices",
]

Slices = list[np.ndarray]
"""The positions of one shard, slice by slice, sorted."""

States = dict[int, dict[str, Tensor]]
"""The state of a member after a slice, on the CPU, by slice."""


@dataclass(frozen=True, eq=False)
class Shards:
    """The place of every position of a training set, held-out and deleted ones included.

    Attributes:
        shard: Shard of each position (N,).
        piece: Slice of each position (N,).
        slices: Slices per shard.
    """

    shard: np.ndarray
    piece: np.ndarray
    slices: int

    @classmethod
    def dealt(cls, data: Data, shards: int, slices: int, generator: torch.Generator, groups: bool = False) -> Shards:
        """Deal positions at random, evenly; or whole groups, each to one slice of one shard.

        Raises:
            InputError: The data has no groups to keep together, or fewer positions (or groups) than slices.
        """
        unit = np.arange(len(data.train))
        if groups:
            if data.groups is None:
                raise InputError(
                    "the data has no group ids to keep together; give `groups` when making the Data, or train without "
                    "groups=true"
                )
            _, unit = np.unique(data.groups, return_inverse=True)
        count = int(unit.max()) + 1
        if count < shards * slices:
            raise InputError(f"{count} {'groups' if groups else 'records'} are too few for {shards} x {slices} slices")
        place = np.empty(count, np.int64)
        place[torch.randperm(count, generator=generator).numpy()] = np.arange(count)
        return cls((place % shards)[unit], (place // shards * slices // math.ceil(count / shards))[unit], slices)

    @classmethod
    def by_class(cls, data: Data, slices: int, generator: torch.Generator) -> Shards:
        """Make every class a shard, cut at random into equal slices."""
        labels = data.train_labels
        piece = np.empty(len(labels), np.int64)
        for c in range(len(data.classes)):
            own = np.flatnonzero(labels == c)
            piece[own[torch.randperm(len(own), generator=generator).numpy()]] = (
                np.arange(len(own)) * slices // max(len(own), 1)
            )
        return cls(labels, piece, slices)

    def lists(self, shard: int, positions: np.ndarray) -> Slices:
        """Return which of the positions lie in each slice of a shard."""
        own = np.sort(positions[self.shard[positions] == shard])
        return [own[self.piece[own] == j] for j in range(self.slices)]


def first_touched(lists: Slices) -> int | None:
    """Return the number of the first slice that holds anything; None if none does."""
    return next((j for j, positions in enumerate(lists) if len(positions)), None)


def epochs_by_slice(epochs: float, slices: int) -> tuple[float, ...]:
    """Return e_j = floor(j e) - floor((j-1) e), e = 2 E / (R + 1): as many visits of samples as E plain epochs.

    Args:
        epochs: E.
        slices: R; with one slice E itself, fractions included.
    """
    if slices == 1:
        return (epochs,)
    each = 2 * Fraction(str(epochs)) / (slices + 1)
    ends = [math.floor(j * each) for j in range(slices + 1)]
    return tuple(float(b - a) for a, b in itertools.pairwise(ends))


def train_slices(
    model: nn.Module,
    data: Data,
    lists: Slices,
    recipe: Recipe,
    run: Run,
    stage: str,
    *,
    start: int = 0,
    loss: Loss | None = None,
) -> States:
    """Train in place on slices 0..j for j = start, ..., R-1, with a new optimiser (and schedule) at every j.

    Args:
        model: Its state is that after slice `start` - 1.
        data: Whose training samples the lists name.
        lists: What remains of the shard.
        recipe: Its epochs are divided by `epochs_by_slice`.
        run: Its seed is that of the original training. With `checkpoints`, the state after each slice is kept in a file
            there, and a training that was stopped goes on after the last one.
        stage: Names the shard, for the draws.
        start: First slice to train with.
        loss: As in `fit`.

    Returns:
        The state after each slice but the last, on the CPU, by slice.
    """
    kept = kept_slices(model, data, lists, recipe, run, stage, start)
    states: States = {}
    for j, epochs in enumerate(epochs_by_slice(recipe.epochs, len(lists))):
        if j < start:
            continue
        found = None if kept is None else kept.read(j)
        if found is not None:
            model.load_state_dict(found[0])
            run.history.rows.extend(found[1])
            run.note(f"{stage} went on after slice {j}, which an earlier process had finished")
        else:
            before = len(run.history.rows)
            positions = np.concatenate(lists[: j + 1])
            if len(positions) and epochs:
                part = Part(stage, data.train, positions)
                fit(model, part, recipe.but(epochs=epochs), run, stage=f"{stage}/slice {j}", loss=loss)
            if kept is not None:
                kept.write(j, _state(model), run.history.rows[before:])
        if j + 1 < len(lists):
            states[j] = _state(model)
    return states


def kept_slices(
    model: nn.Module, data: Data, lists: Slices, recipe: Recipe, run: Run, stage: str, start: int
) -> KeptSlices | None:
    """Return where a training that has yet to begin keeps its slices, if the run keeps any; see `train_slices`."""
    if run.checkpoints is None:
        return None
    return KeptSlices(run.checkpoints, run, stage, model, lists, recipe, start, data.fingerprint)


def _state(model: nn.Module) -> dict[str, Tensor]:
    held = model.state_dict().items()
    return {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in held}


def seeded_as(run: Run, seed: int) -> Run:
    """Return a run whose draws are those of another seed, and whose history and notes are this run's."""
    other = run.child(seed)
    other.history, other.notes = run.history, run.notes
    return other


def require_unfrozen(model: nn.Module, method: str) -> None:
    """Refuse frozen parameters: members are trained from fresh weights, all of them.

    Raises:
        InputError: It names the first.
    """
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise InputError(
            f"{method} trains members from fresh weights, but {frozen[0]} is frozen (requires_grad); unfreeze it, or "
            "use certified-removal for a head on fixed layers"
        )


def require_passes(method: str, epochs: float, slices: int, of: str) -> None:
    """Refuse so few epochs that the last slices would get none: their records would be in no member.

    Args:
        method: Its name.
        epochs: E.
        slices: R.
        of: What the method calls its slices.

    Raises:
        InputError: It says how many epochs are enough.
    """
    passes = epochs_by_slice(epochs, slices)
    idle = len(passes) - max((j + 1 for j, e in enumerate(passes) if e), default=0)
    if idle:
        raise InputError(
            f"{method} divides {epochs:g} epochs among {slices} {of}, which leaves none for the last {idle}: their "
            f"records would not be trained on. Take at least {(slices + 1) / 2:g} epochs, or fewer {of}"
        )


def states_of(memory: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return what is kept under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in memory.items() if k.startswith(prefix)}
