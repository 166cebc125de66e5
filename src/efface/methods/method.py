"""The base of every unlearning method, and the one way to apply one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import TypeAdapter
from torch import Tensor, nn

from efface.artifact import Artifact, DataRecord, Record, now, versions, weights_sha256
from efface.data import Split
from efface.errors import InputError, NotPreparedError, UnsupportedRequestError
from efface.mechanisms.class_directions import LayerMeans
from efface.mechanisms.class_removal import KEPT, keep_class_means, memory_without
from efface.models.check import check_model
from efface.models.spec import ModelSpec
from efface.run import Run
from efface.training import Recipe, fit, warm_up

__all__ = [
    "Expense",
    "Method",
    "Needs",
    "apply",
    "check",
    "describe_data",
    "forgotten",
    "given",
    "need_memory",
    "prepare",
]

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


class Method(ABC):
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
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    cost: ClassVar[str]
    memory: ClassVar[str]
    expense: ClassVar[Expense]
    source: ClassVar[str]
    moves_batch_norm: ClassVar[bool] = False

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

    def check(self, artifact: Artifact, split: Split) -> None:  # noqa: B027 - most methods have nothing to check
        """Raise an `InputError` if the method cannot serve this request; called before any work."""

    def rebuild(self, model: nn.Module, record: Record) -> nn.Module:
        """Return the architecture whose weights the artifact holds; methods that change it override this."""
        return model

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Return what the new artifact keeps for later requests; by default the memory less cached importances."""
        return {k: v for k, v in artifact.memory.items() if not k.startswith("cache/")}


def prepare(
    method: Method | None,
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    run: Run,
    *,
    spec: ModelSpec | None = None,
    parent: Artifact | None = None,
    keep: Sequence[str] = (),
) -> Artifact:
    """Train a copy of `model` under a method and return the artifact.

    Args:
        method: Decides what training leaves behind; None trains plainly.
        model: Initial weights, or an already trained model; not changed.
        split: The data, without a request.
        recipe: How to train.
        run: Device, precision, randomness, progress, history.
        spec: How the network was built, for the record.
        parent: The artifact that `model` comes from, if training continues from one.
        keep: What to keep for forgetting beside what the method leaves: `class-means`.

    Raises:
        InputError: Training diverged, the data does not fit, or `keep` names something unknown.
    """
    if unknown := [name for name in keep if name != KEPT]:
        raise InputError(f"training cannot keep {', '.join(unknown)}; allowed: {KEPT}")
    before = weights_sha256(model.state_dict())
    warm_up(run)
    started = time.perf_counter()
    copied = run.copied(model)
    trained, memory = (
        method.train(copied, split, recipe, run) if method else (fit(copied, split.train, recipe, run), {})
    )
    seconds = {"train": time.perf_counter() - started}
    trained.eval()
    after = weights_sha256(trained.state_dict())
    if keep:
        started = time.perf_counter()
        memory = {**memory, **keep_class_means(trained, split, run, after)}
        seconds["keep"] = time.perf_counter() - started
    record = Record(
        action="train",
        created=now(),
        model=None if spec is None else spec.model_copy(update={"weights": None}),
        data=describe_data(split),
        method=method.name if method else "plain",
        settings=method.settings() if method else {},
        recipe=recipe,
        seed=run.seed,
        device=str(run.device),
        seconds=seconds,
        notes=tuple(run.notes),
        history=tuple(run.history.rows),
        versions=versions(),
        weights_before=before,
        weights_after=after,
        kept=tuple(dict.fromkeys(keep)),
        parent=parent.record if parent else None,
    )
    return Artifact(trained, record, memory, parent=parent)


def apply(method: Method, artifact: Artifact, split: Split, run: Run) -> Artifact:
    """Forget the split's request with a method, and return a new artifact whose parent is the old one.

    Checks come first: target, preparation, the method's own. The split the method sees raises `DataAccessError` for
    data it did not declare, and the input model's weights are compared before and after.

    Raises:
        UnsupportedRequestError: The method cannot forget this kind of target.
        NotPreparedError: Training left nothing behind for it.
        InputError: The method's own check, or forgetting produced weights that are not finite.
    """
    check(method, artifact, split)
    before = weights_sha256(artifact.model.state_dict())
    if method.reads():  # what reads no data trains nothing, and need not wait
        warm_up(run)
    started = time.perf_counter()
    model = method.forget(artifact, split.only(method.reads(), method.name), run)
    seconds = time.perf_counter() - started
    if weights_sha256(artifact.model.state_dict()) != before:
        raise RuntimeError(f"{method.name} changed its input model; this is a defect of the method")
    return forgotten(method, artifact, model, split, run, {"forget": seconds})


def check(method: Method, artifact: Artifact, split: Split) -> None:
    """Raise what `apply` raises before any work: no request, a target that the method cannot serve, its own check."""
    if split.request is None or split.resolved is None:
        raise InputError("there is no request in this split; give one to Split.of")
    target = split.request.target
    if target not in method.needs.targets:
        raise UnsupportedRequestError(
            f"{method.name} forgets {' and '.join(method.needs.targets)}, not {target}; "
            f"methods that can: {', '.join(_serving(target))}"
        )
    method.check(artifact, split)


def forgotten(
    method: Method, artifact: Artifact, model: nn.Module, split: Split, run: Run, seconds: dict[str, float]
) -> Artifact:
    """Return the new artifact around the model that a method made; `apply` does so itself.

    Args:
        method: What made it.
        artifact: What it was made from.
        model: What was made.
        split: The data under the request.
        run: What it ran on.
        seconds: Wall time; `forget` where it may be compared with other methods' times.

    Raises:
        InputError: The weights are not finite.
    """
    assert split.resolved is not None
    model.eval()
    bad = [k for k, v in model.state_dict().items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise InputError(f"{method.name} made weights that are not finite ({', '.join(bad[:3])}); use smaller steps")
    memory = memory_without(method.memory_after(artifact, model, split), split, run)
    record = Record(
        action="forget",
        created=now(),
        model=artifact.record.model,
        data=describe_data(split),
        request=split.request,
        request_fingerprint=split.resolved.fingerprint,
        method=method.name,
        settings=method.settings(),
        recipe=artifact.record.recipe,
        seed=run.seed,
        device=str(run.device),
        seconds=seconds,
        notes=tuple(run.notes),
        history=tuple(run.history.rows),
        versions=versions(),
        weights_before=weights_sha256(artifact.model.state_dict()),
        weights_after=weights_sha256(model.state_dict()),
        kept=(KEPT,) if LayerMeans.recalled(memory) else (),
        parent=artifact.record,
    )
    return Artifact(model, record, memory, parent=artifact)


def given(model: nn.Module, split: Split, recipe: Recipe, run: Run, *, spec: ModelSpec | None = None) -> Artifact:
    """Wrap an already trained model, so that methods can be applied to it.

    Args:
        model: From inputs to logits; a copy is kept.
        split: The data it was trained on.
        recipe: How it was trained, or how Efface shall retrain it.
        run: Device and seed.
        spec: How the network is built, if known.

    Raises:
        InputError: The model does not take the data's inputs, or its output width is not the number of classes.
    """
    check_model(model, split.data.input_shape, len(split.data.classes))
    twin = run.copied(model).eval()
    record = Record(
        action="given",
        created=now(),
        model=None if spec is None else spec.model_copy(update={"weights": None}),
        data=describe_data(split),
        method="none",
        settings={},
        recipe=recipe,
        seed=run.seed,
        device=str(run.device),
        seconds={},
        versions=versions(),
        weights_after=weights_sha256(twin.state_dict()),
    )
    return Artifact(twin, record)


def describe_data(split: Split) -> DataRecord:
    """Return the record's words for a split's data."""
    data = split.data
    return DataRecord(
        source=data.source,
        options=dict(data.options),
        fingerprint=data.fingerprint,
        classes=data.classes,
        input_shape=data.input_shape,
        train_size=len(data.train),
        validation=split.validation_fraction,
        split_seed=split.seed,
    )


def need_memory(artifact: Artifact, key: str, method: Method, how: str) -> Tensor:
    """Return a tensor that training must have left behind.

    Raises:
        NotPreparedError: It is not there; `how` says how to get it.
    """
    if key not in artifact.memory:
        raise NotPreparedError(f"{method.name} needs {method.needs.prepared}, which this artifact lacks; {how}")
    return artifact.memory[key]


def _serving(target: Target) -> list[str]:
    from efface.methods.catalogue import methods

    return [name for name, kind in methods().items() if target in kind.needs.targets and not kind.needs.prepared]
