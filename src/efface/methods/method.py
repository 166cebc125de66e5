"""The base of every unlearning method: hyper-parameters, needs, `train` and `forget`."""

from __future__ import annotations

import dataclasses
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import Record
from efface.data import Split
from efface.errors import InputError, NotPreparedError, explain, nearest
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["Axis", "Expense", "Method", "Needs", "need_memory"]

Target = Literal["classes", "items"]

Expense = Literal["instant", "gradients", "forget epochs", "retain epochs", "training"]
"""How long forgetting takes: no data; a pass or a few over data; epochs over what is forgotten, over what is kept (or a
share of it); about as long as training. Sorted from cheap to dear."""


@dataclass(frozen=True)
class Needs:
    """What a method needs; whatever it does not declare raises when touched.

    Attributes:
        targets: What it can forget.
        forget: Reads the samples to forget.
        retain: Reads (some of) the samples to keep.
        validation: Reads held-out training samples, to stop or to choose.
        prepared: What training must have left behind, in words; empty if nothing.
    """

    targets: tuple[Target, ...]
    forget: bool = False
    retain: bool = False
    validation: bool = False
    prepared: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The kinds of parts that `forget` may touch, in the words of `Split.only`."""
        return tuple(k for k in ("forget", "retain", "validation") if getattr(self, k))


@dataclass(frozen=True)
class Axis:
    """Where a search may look for one hyper-parameter.

    Attributes:
        low: Least value; whole numbers for a field of whole numbers.
        high: Largest value.
        log: Whether steps are factors instead of differences.
        choices: Values to choose from, in place of a range.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[str | bool, ...] = ()


class _Answering(ABCMeta):
    """Turns what pydantic says of hyper-parameters that do not fit into a sentence, as `efface.fields` does."""

    name: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        names = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
        for given in kwargs:
            if names and given not in names:  # pydantic would leave it out without a word
                raise InputError(f"{cls.name} has no hyper-parameter {given!r}. {nearest(given, names)}")
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            raise InputError(f"{cls.name}: {explain(error)}") from None


class Method(ABC, metaclass=_Answering):
    """An unlearning algorithm; its hyper-parameters are its fields (a frozen pydantic dataclass).

    Attributes:
        name: What the command line and records call it.
        needs: Data, preparation and targets.
        cost: Forgetting time in big-O, in the words of the catalogue.
        memory: Peak memory of forgetting beside the given model and the data, with default settings: in P, the numbers
            in the model's parameters (float32 unless said), and A, the activations of one batch.
        expense: `cost` as one of five orders of magnitude, by which `auto` goes.
        source: Where it was published.
        moves_batch_norm: Whether forgetting (with default settings) changes BatchNorm's running statistics.
        apart: Whether it trains the members of an ensemble apart; other methods are refused on an ensemble.
        makes_inputs: Whether it draws inputs or moves them by gradients, so that they must not be token ids.
        space: Which hyper-parameters a search varies, and where; the others stay at what they are.
        at_training: The hyper-parameters that only training reads; forgetting has them as they were then.
        knob: The one of `space` of which more forgets more and costs more use, if there is one: it is turned where a
            judge says on which side a model misses.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    cost: ClassVar[str]
    memory: ClassVar[str]
    expense: ClassVar[Expense]
    source: ClassVar[str]
    moves_batch_norm: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    makes_inputs: ClassVar[bool] = False
    space: ClassVar[Mapping[str, Axis]] = {}
    at_training: ClassVar[tuple[str, ...]] = ()
    knob: ClassVar[str] = ""

    def settings(self) -> dict[str, object]:
        """Return every hyper-parameter by name, as plain JSON values."""
        values: dict[str, object] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return values

    def reads(self) -> tuple[str, ...]:
        """The kinds of data that `forget` may touch with these settings; by default all that `needs` declares."""
        return self.needs.reads

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train `model` in place on everything, and return it with what forgetting will need.

        Methods that prepare at training time override this. Plain training leaves nothing behind.

        Args:
            model: Freshly initialised, or already trained and to be prepared.
            split: The data; without a request everything is retained.
            recipe: How to train.
            run: Device, precision, randomness, progress, history.
        """
        return fit(model, split.train, recipe, run), {}

    @abstractmethod
    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a new model that has forgotten the split's request; `artifact` and its model are not changed.

        Args:
            artifact: The trained model, its memory and record (whose recipe says how it was trained).
            split: The data under the request, restricted to what `reads` declares.
            run: Device, precision, randomness, progress, history.
        """

    def forget_and_keep(self, artifact: Artifact, split: Split, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Forget, and return the new model with what its artifact keeps for later requests.

        Methods whose forgetting makes what is kept (new checkpoints, an account) override this instead of
        `memory_after`. The arguments are those of `forget`.
        """
        model = self.forget(artifact, split, run)
        return model, self.memory_after(artifact, model, split)

    def check_start(self, parent: Artifact) -> None:
        """Raise an `InputError` if what `train` is to leave would be void for a model that begins as this one.

        Args:
            parent: The artifact that training goes on from, made with the same data.
        """

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the method cannot serve this request; called before any work."""

    def rebuild(self, model: nn.Module, record: Record) -> nn.Module:
        """Return the architecture whose weights the artifact holds; methods that change it override this."""
        return model

    def made_again(
        self, artifact: Artifact, split: Split, run: Run, sound: Collection[str]
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Compute what is damaged in an artifact again, bit for bit; for `efface repair`.

        Methods whose training can be gone through again from what is left override this.

        Args:
            artifact: As far as it can be read: what is not sound is missing from its memory, or its model is blank.
            split: The data, less all that was forgotten.
            run: Device, progress, history.
            sound: `MODEL` if the weights are sound, and the prefixes of the memory's pieces that are.

        Raises:
            InputError: Nothing of this method can be made again.
        """
        raise InputError(f"what {self.name} left cannot be computed again; take the folder from a copy, or train anew")

    def recognised(
        self, artifact: Artifact, model: nn.Module, split: Split, run: Run
    ) -> tuple[int, float, float] | None:
        """Return how many stand-ins for the classes to forget there are, and the shares right before and after.

        Methods that read no data but keep such stand-ins (codes) override this; by default there are none.
        """
        return None

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Return what the new artifact keeps for later requests; by default the memory less cached importances."""
        return {k: v for k, v in artifact.memory.items() if not k.startswith("cache/")}


def need_memory(artifact: Artifact, key: str, method: Method, how: str) -> Tensor:
    """Return a tensor that training must have left behind.

    Raises:
        NotPreparedError: It is not there; `how` says how to get it.
    """
    if key not in artifact.memory:
        raise NotPreparedError(f"{method.name} needs {method.needs.prepared}, which this artifact lacks; {how}")
    return artifact.memory[key]
