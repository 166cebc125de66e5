"""What a stopped training needs to go on bit for bit: one file, written now and then, gone when training ends."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from efface.files import write_file

if TYPE_CHECKING:
    from efface.training.averaging import Average
    from efface.training.loop import Trainer

__all__ = ["Carried", "Checkpoint", "Draws", "EpochDraws"]

B = TypeVar("B")

EVERY = 60.0
"""Seconds between two writings."""


class Carried(Protocol):
    """What a training carries from step to step beside model, optimiser and order of the data."""

    def state(self) -> dict[str, Tensor]:
        """Return it."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put it back."""


class Draws:
    """A generator that a loss draws from, step after step.

    Args:
        generator: On the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state(self) -> dict[str, Tensor]:
        """Return how far it came."""
        return {"generator": self.generator.get_state()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go there."""
        self.generator.set_state(tensors["generator"])


class EpochDraws(Draws):
    """A generator that a part draws from while it yields an epoch.

    A training that goes on within an epoch reads the epoch's beginning again, so what is carried then is where the
    generator stood at that beginning.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self._beginning: Tensor | None = None

    def over(self, batches: Iterator[B], total: int) -> Iterator[B]:
        """Yield the batches of an epoch, `total` of them, that are drawn with the generator."""
        self._beginning = self.generator.get_state()
        for number, batch in enumerate(batches, start=1):
            if number == total:
                self._beginning = None
            yield batch

    def state(self) -> dict[str, Tensor]:
        """Return where the generator stands, or stood at the beginning of the epoch that is being read."""
        return super().state() if self._beginning is None else {"generator": self._beginning}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go there."""
        self._beginning = None
        super().restore(tensors)


class Checkpoint:
    """The state of one training in a file of its own, named by all that the training starts from.

    That is what the run is for (a method and its settings), the recipe, the seed, the stage, the network with its
    initial weights and the first batch: a file of another training is never taken for this one's. Nothing is unpickled.

    Args:
        folder: Where the file goes; made if need be.
        trainer: At its first step.
        average: Of the weights, if there is one.
        carried: What else goes from step to step, if anything does.
        start: The first batch of the training, inputs and labels.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        average: Average | None,
        carried: Carried | None,
        start: tuple[Tensor, Tensor],
    ) -> None:
        self.trainer, self.average, self.carried = trainer, average, carried
        digest = hashlib.sha256(trainer.recipe.model_dump_json().encode())
        digest.update(f"{trainer.run.seed}/{trainer.total_steps}/{len(trainer.part)}/{torch.__version__}".encode())
        digest.update(f"/{trainer.run.purpose}/{trainer.run.device.type}/{trainer.model!r}".encode())
        for tensor in (*trainer.model.state_dict().values(), *start):
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        stage = "".join(c if c.isalnum() else "-" for c in trainer.stage)
        self.path = folder / f"{stage}-{digest.hexdigest()[:16]}.safetensors"
        self._written = time.monotonic()

    def restore(self) -> None:
        """Put the trainer, and the average, where a stopped training was; nothing happens if there is none."""
        if not self.path.is_file():
            return
        try:
            with safe_open(self.path, framework="pt") as file:
                numbers = json.loads(file.metadata()["numbers"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, KeyError, ValueError, TypeError):
            self.trainer.run.note(f"{self.path.name} cannot be read; {self.trainer.stage} starts from the beginning")
            return
        if self.average is not None:
            self.average.averaged.load_state_dict(_below("average", tensors))
        if self.carried is not None:
            self.carried.restore(_below("carried", tensors))
        self.trainer.restore(_below("trainer", tensors), numbers)
        self.trainer.run.note(
            f"{self.trainer.stage} went on at step {self.trainer.step} of {self.trainer.total_steps}, where an earlier "
            "process had stopped; seconds of the step count this process only, those in its history all"
        )

    def save(self) -> None:
        """Write the state if the last writing is a while ago."""
        if time.monotonic() - self._written < EVERY:
            return
        tensors, numbers = self.trainer.state()
        named = {f"trainer/{k}": v for k, v in tensors.items()}
        if self.average is not None:
            named |= {f"average/{k}": v for k, v in self.average.averaged.state_dict().items()}
        if self.carried is not None:
            named |= {f"carried/{k}": v for k, v in self.carried.state().items()}
        # Copies: two names of one tied weight may not share memory in a file.
        held = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in named.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, safetensors.torch.save(held, {"numbers": json.dumps(numbers)}))
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the training is over."""
        self.path.unlink(missing_ok=True)


def _below(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
