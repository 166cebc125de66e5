"""Training on data to forget under random labels, together with retained data: what RL, amnesiac and SalUn share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.data.split import Split
from efface.running.run import Run
from efface.training.checkpoint import EpochDraws

__all__ = ["LabelSet", "Order", "Relabelled", "random_labels", "relabelled"]

LabelSet = Literal["all", "others", "kept"]
"""Which labels may be drawn: any class; any but the sample's own; any that is neither its own nor forgotten."""

Order = Literal["mixed", "forget-first"]
"""Both parts shuffled together, or in each epoch the relabelled data before the retained."""


def random_labels(
    labels: Tensor, classes: int, generator: torch.Generator, over: LabelSet, forgotten: tuple[int, ...] = ()
) -> Tensor:
    """Draw a label for every sample, uniform over the allowed ones.

    Args:
        labels: True labels, int64 (N,).
        classes: Number of classes K.
        generator: A CPU generator.
        over: Which labels are allowed.
        forgotten: Class numbers that `kept` leaves out besides the sample's own; empty for a request of items.

    Returns:
        int64 (N,) on the CPU.
    """
    allowed = torch.ones(len(labels), classes, dtype=torch.bool)
    if over == "kept":
        allowed[:, list(forgotten)] = False
    if over != "all":
        allowed[torch.arange(len(labels)), labels] = False
    # The r-th allowed class for r uniform below the row's count: exact, and one draw per sample whatever is allowed.
    counts = allowed.sum(1)
    rank = (torch.rand(len(labels), generator=generator, dtype=torch.float64) * counts).long()
    return (allowed.cumsum(1) > rank[:, None]).int().argmax(1)


@dataclass
class Relabelled:
    """Epochs of relabelled forget data and retained data, for `efface.training`; see `Part.batches`.

    Attributes:
        forget: The samples that get random labels.
        retain: The samples that keep theirs; may be empty.
        classes: Number of classes.
        over: Which labels are drawn.
        forgotten: Class numbers of a request of classes.
        fresh: Draw anew in every epoch; otherwise once.
        order: How the two parts are arranged within an epoch. The border batch of `forget-first` holds both.
        generator: Source of the labels.
        draws: `carried` by `fit`, so that a training that was stopped goes on with the same labels.
    """

    forget: Part
    retain: Part
    classes: int
    over: LabelSet
    forgotten: tuple[int, ...]
    fresh: bool
    order: Order
    generator: torch.Generator
    draws: EpochDraws = field(init=False)
    _fixed: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Watch the generator."""
        self.draws = EpochDraws(self.generator)

    def __len__(self) -> int:
        return len(self.forget) + len(self.retain)

    def draw(self) -> Tensor:
        """Return the forget data's labels for the next epoch."""
        if self.fresh or self._fixed is None:
            self._fixed = random_labels(self.forget.labels, self.classes, self.generator, self.over, self.forgotten)
        return self._fixed

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch; see `Part.batches`."""
        whole, rest = divmod(len(self), epoch.size)
        yield from self.draws.over(self._batches(epoch), max(whole + (rest > 0 and not epoch.drop_last), 1))

    def _batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        part = self.forget.relabelled(self.draw()).joined(self.retain)
        generator = epoch.generator
        if self.order == "mixed" or generator is None:
            yield from part.batches(epoch)
            return
        first, rest = len(self.forget), len(self.retain)
        positions = torch.cat(
            [torch.randperm(first, generator=generator), first + torch.randperm(rest, generator=generator)]
        )
        ordered = part.take(positions)
        order = [epoch.share(b) for b in ordered.order(dataclasses.replace(epoch, generator=None))]
        labels = ordered.labels.to(epoch.device)
        for chosen, x in zip(order, ordered.read(order, epoch), strict=True):
            yield x, labels[chosen.to(labels.device)]


def relabelled(
    split: Split, run: Run, over: LabelSet, fresh: bool, order: Order, retain_share: float = 1.0
) -> Relabelled:
    """Return the epochs of a split's forget part under random labels with (a share of) its retained part.

    Args:
        split: The data under the request; its retained part is touched only if a share of it is used.
        run: Gives randomness.
        over: Which labels are drawn.
        fresh: Draw anew in every epoch.
        order: How the two parts are arranged within an epoch.
        retain_share: Share of the retained data to use, in [0, 1].
    """
    if retain_share > 0:
        whole = split.retain
        retain = whole.sample(math.ceil(retain_share * len(whole)), run.generator("random labels/retain share"))
    else:
        retain = split.forget.take([], "no retain")
    return Relabelled(
        split.forget,
        retain,
        len(split.data.classes),
        over,
        split.forget_classes,
        fresh,
        order,
        run.generator("random labels"),
    )
