"""What single training steps changed, for the batches that hold declared records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from efface.data.epoch import Epoch
from efface.data.part import Part

__all__ = ["LoggedPart"]


class LoggedPart:
    """A part that yields its batches unchanged and, by two hooks of `Trainer`, logs what a step on them changed.

    A training that is stopped goes on with what was logged: it is `carried` by `fit`.

    Records are declared in units, sets of records that are only ever asked for together. A step counts if its batch
    holds a record of a unit, and the changes of steps whose batches hold the same units are summed: whoever wants to
    undo one of them wants to undo all. So a single unit costs one copy of the parameters, however long training is.

    The change is that of the trained parameters, whatever the optimiser made of the gradient (momentum, weight decay).
    Buffers such as BatchNorm's statistics are not logged: an average over all batches so far is no sum of changes.

    Args:
        part: Samples to train on.
        units: U sets of positions in the part's samples, int64 each; those that are not in the part are never met.
    """

    def __init__(self, part: Part, units: Sequence[np.ndarray]) -> None:
        self.part, self.units = part, len(units)
        self._units_of: dict[int, list[int]] = defaultdict(list)
        for number, unit in enumerate(units):
            for index in unit.tolist():
                self._units_of[index].append(number)
        self._held: frozenset[int] = frozenset()
        self._before: list[Tensor] = []
        self._changes: dict[frozenset[int], dict[str, Tensor]] = {}
        self.batches_logged = 0

    def __len__(self) -> int:
        return len(self.part)

    def at_most(self, epochs: float, batch_size: int) -> int:
        """Return a bound on the number of sums that training will leave, known before it starts."""
        records = sum(int(i) in self._units_of for i in self.part.indices)
        batches = -(-len(self.part) // batch_size)
        return min(int(np.ceil(epochs)) * min(batches, records), 2**self.units - 1)

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield exactly what `Part.batches` does, and keep in mind which units the whole batch holds."""
        order = self.part.order(epoch)
        own = [epoch.share(b) for b in order]
        labels = self.part.labels
        for whole, mine, x in zip(order, own, self.part.read(own, epoch), strict=True):
            indices = self.part.indices[whole.numpy()].tolist()
            self._held = frozenset(u for i in indices for u in self._units_of.get(i, ()))
            yield x, labels[mine].to(epoch.device)

    def before_step(self, model: nn.Module) -> None:
        """Remember the trained parameters if the batch at hand counts; for `on_gradients`."""
        if self._held:
            self._before = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    def after_step(self, model: nn.Module) -> None:
        """Add what the step changed to the sum for the batch's units, on the CPU; for `on_step`."""
        if not self._held:
            return
        trained = [(name, p.detach()) for name, p in model.named_parameters() if p.requires_grad]
        change = {name: (p - old).cpu() for (name, p), old in zip(trained, self._before, strict=True)}
        self._before = []
        self.batches_logged += 1
        sums = self._changes.setdefault(self._held, change)
        if sums is not change:
            for name, c in change.items():
                sums[name] += c

    def state(self) -> dict[str, Tensor]:
        """Return what was logged so far."""
        found = {"logged": torch.tensor(self.batches_logged), "holds": self._holds()}
        for row, sums in enumerate(self._changes.values()):
            found |= {f"{row}/{name}": total for name, total in sums.items()}
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from there."""
        self.batches_logged = int(tensors["logged"])
        self._changes = {frozenset(row.nonzero()[:, 0].tolist()): {} for row in tensors["holds"]}
        rows = list(self._changes.values())
        for key, total in tensors.items():
            row, slash, name = key.partition("/")
            if slash:
                rows[int(row)][name] = total

    def _holds(self) -> Tensor:
        """Return which sum is of batches that hold which units, (G, U) bool."""
        holds = torch.zeros(len(self._changes), self.units, dtype=torch.bool)
        for row, held in enumerate(self._changes):
            holds[row, list(held)] = True
        return holds

    def take(self, model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the log and empty it, so that the sums are not held twice.

        Args:
            model: The trained model, for the names and shapes of its parameters.

        Returns:
            Which sum is of batches that hold which units, (G, U) bool; and by parameter the sums, (G, *shape) each.
        """
        holds = self._holds()
        sums = list(self._changes.values())
        self._changes = {}
        stacked = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                rows = [s.pop(name) for s in sums]
                stacked[name] = torch.stack(rows) if rows else torch.zeros(0, *p.shape, dtype=p.dtype)
        return holds, stacked
