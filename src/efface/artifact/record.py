"""How an artifact came to be, and the hashes that say so."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from efface import __version__
from efface.data import Counts, Split
from efface.data.canaries import Canaries
from efface.models.checkpoints import Origin
from efface.models.spec import ModelSpec
from efface.request import ABOUT, Request
from efface.running.machine import Machine
from efface.training.recipe import Recipe

__all__ = ["DataRecord", "Record", "Spent", "describe_data", "weights_sha256"]


class DataRecord(BaseModel):
    """Which data a model saw.

    Attributes:
        source: Name for `efface.data.load`, or `custom`.
        options: Arguments it was loaded with (never a path).
        fingerprint: SHA-256 of the data.
        classes: Class names in order.
        input_shape: Shape of one input.
        train_size: Training samples, held-out ones and canaries included.
        validation: Fraction held out of training.
        split_seed: Seed of the held-out choice.
        canaries: How the canaries among them were made, if any; then the fingerprint is that of the data with them.
        skipped: Names of samples that were left out because they cannot be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    options: dict[str, Any]
    fingerprint: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    train_size: int
    validation: float
    split_seed: int
    canaries: Canaries | None = None
    skipped: tuple[str, ...] = ()


class Recognition(BaseModel):
    """How much of what was to be forgotten the model still gets right: a look at what the method itself may read.

    It is no audit: a retrained model, too, gets single records right; and a model that gets nothing right may still
    hold what it knew.

    Attributes:
        of: `records` to forget, or the forgotten classes' `codes`.
        size: How many were looked at.
        before: Share that the original gets right.
        after: Share that the new model gets right.
        still: Whether classes were to be forgotten and at least half of what was right still is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Literal["records", "codes"]
    size: int
    before: float
    after: float
    still: bool

    @property
    def text(self) -> str:
        """One sentence."""
        return (
            f"{'still recognised: ' if self.still else ''}{self.after:.1%} of the {self.size} {self.of} to forget get "
            f"their own class, {self.before:.1%} before"
        )


class Spent(BaseModel):
    """What a step cost beside its time.

    Attributes:
        samples: How often a training sample was read, by kind (`forget`, `retain`, `validation`); see
            `efface.data.touched.Touched`.
        peak_memory: Bytes at most above what was held before; see `efface.running.peak.watched_memory` for what is
            counted and missed. None where the system does not tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: dict[str, int]
    peak_memory: int | None = None

    @property
    def touched(self) -> int:
        """All samples read."""
        return sum(self.samples.values())


class Record(BaseModel):
    """How an artifact came to be; `parent` is the record of what it was made from, so requests form a chain.

    Attributes:
        action: `train`, `forget`, or `given` for a model that Efface did not train.
        created: When, in UTC.
        model: How to build the network; None for a module handed over in Python.
        origin: How the weights were stored when they came, of a model that Efface did not train.
        came_as: Types of its weights, where some were cast to float32, e.g. `bfloat16`; empty if none was.
        data: Which data.
        request: What was forgotten in this step, if anything.
        request_fingerprint: SHA-256 of the resolved request.
        method: Name of the method.
        settings: Every hyper-parameter of the method.
        recipe: How it was (or would be) trained.
        seed: Seed of this step.
        device: Where it ran.
        seconds: Wall time of the step by name, e.g. `forget`.
        spent: Samples touched and peak memory of forgetting, where they were measured.
        notes: What the method wrote down.
        failures: The notes that say that this step did not do what it is for, e.g. that nothing was changed.
        counts: What became of the records asked for.
        forgotten_ids: What the data calls the records that were forgotten, where it calls them anything and no whole
            classes were asked for; at most 10,000 of those that `counts` counts.
        recognition: Whether the model still recognises what it was to forget, where the method may look.
        history: Rows for plots.
        versions: Of Python, torch and Efface.
        machine: Where it ran, as far as bits depend on it; None in records from before this was kept.
        weights_before: SHA-256 of the weights that the step started from.
        weights_after: SHA-256 of the weights in this artifact.
        memory_after: SHA-256 of its memory as saved; None without one.
        pieces: SHA-256 of each part of the memory that is a file of its own, by the file's name in the folder.
        kept: What its memory holds on request beside what the method left, such as `class-means`.
        parent: The record of the artifact that the step started from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["given", "train", "forget"]
    created: datetime
    model: ModelSpec | None
    origin: Origin | None = None
    came_as: str = ""
    data: DataRecord
    request: Request | None = None
    request_fingerprint: str | None = None
    method: str
    settings: dict[str, Any]
    recipe: Recipe
    seed: int
    device: str
    seconds: dict[str, float]
    spent: Spent | None = None
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    counts: Counts | None = None
    forgotten_ids: tuple[str, ...] = ()
    recognition: Recognition | None = None
    history: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str]
    machine: Machine | None = None
    weights_before: str | None = None
    weights_after: str
    memory_after: str | None = None
    pieces: dict[str, str] = Field(default_factory=dict)
    kept: tuple[str, ...] = ()
    parent: Record | None = None

    @property
    def chain(self) -> tuple[Record, ...]:
        """All records from the first training to this one."""
        return (*(self.parent.chain if self.parent else ()), self)

    @property
    def first_came_as(self) -> str:
        """Type in which the weights came that all this was made from; empty if it was float32."""
        return next((r.came_as for r in self.chain if r.came_as), "")

    @property
    def trainings(self) -> tuple[Recipe, ...]:
        """How the weights were trained, in order: training may have gone on from an artifact by another recipe."""
        trained = [r.recipe for r in self.chain if r.action == "train"]
        return (*trained[:-1], self.recipe)

    @property
    def earlier_requests(self) -> tuple[Request, ...]:
        """Every request that this artifact has already served."""
        return tuple(r.request for r in self.chain if r.request is not None)

    def made_like(self, other: Record) -> bool:
        """Whether the same was asked for: data, network, method and settings, recipe, seed, request and start.

        Then weights that differ do so by where they were computed, or by what a version computes.
        """
        return self._asked_for == other._asked_for

    @property
    def _asked_for(self) -> tuple[Any, ...]:
        request = None if self.request is None else self.request_fingerprint
        origin = self.data.fingerprint, self.data.validation, self.data.split_seed, self.weights_before
        return self.action, self.method, self.settings, self.model, self.recipe, self.seed, request, origin

    def step_of(self, request: Request) -> int | None:
        """Return the place among `earlier_requests` of the one that asked for the same; None if none did."""
        wanted = request.model_dump(exclude=set(ABOUT))
        asked = [r.model_dump(exclude=set(ABOUT)) for r in self.earlier_requests]
        return asked.index(wanted) if wanted in asked else None

    def unserved(self, request: Request) -> frozenset[str]:
        """Return the SHA-256 of the weights of every model in this chain that had not yet served a request.

        Of a request that no step served: what the last step started from.
        """
        steps = [r for r in self.chain if r.request is not None]
        step = self.step_of(request)
        before = [self] if step is None else steps[: step + 1]
        return frozenset(r.weights_before for r in before if r.weights_before is not None)


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():  # an empty one may have strides that no view takes
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def bit_sums(state: Mapping[str, Tensor]) -> list[int]:
    """Return each tensor's sum of its bits, read as whole numbers modulo 2^64: a quick look whether anything changed.

    It is no hash: values that change places may leave it as it was.
    """
    return [_bit_sum(t.detach()) for t in state.values()]


def _bit_sum(tensor: Tensor) -> int:
    flat = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    # Eight bytes at a time: far faster than sums that have to widen what they add.
    together = 8 // flat.element_size()
    if flat.storage_offset() % together:  # no view takes such a one
        flat = flat.clone()
    long = flat[: flat.numel() // together * together]
    return int(long.view(torch.int64).sum()) + int(flat[long.numel() :].view(whole).sum(dtype=torch.int64))


def versions() -> dict[str, str]:
    """Return the versions that a record keeps."""
    return {"efface": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}


def now() -> datetime:
    """Return the present time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


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
        canaries=None if data.canaries is None else data.canaries.about,
        skipped=data.skipped,
    )
