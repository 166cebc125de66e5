"""The folder on disk: weights, what training left behind for forgetting, and a record of how it came to be."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

import efface
from efface.errors import InputError, explain
from efface.folder import new_folder
from efface.models.spec import ModelSpec, build, load_weights
from efface.request import Request
from efface.training import Recipe

__all__ = ["Artifact", "DataRecord", "Record", "weights_sha256"]

MODEL, MEMORY, RECORD = "model.safetensors", "memory.safetensors", "record.json"


class DataRecord(BaseModel):
    """Which data a model saw.

    Attributes:
        source: Name for `efface.data.load`, or `custom`.
        options: Arguments it was loaded with (never a path).
        fingerprint: SHA-256 of the data.
        classes: Class names in order.
        input_shape: Shape of one input.
        train_size: Training samples, held-out ones included.
        validation: Fraction held out of training.
        split_seed: Seed of the held-out choice.
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


class Record(BaseModel):
    """How an artifact came to be; `parent` is the record of what it was made from, so requests form a chain.

    Attributes:
        action: `train`, `forget`, or `given` for a model that Efface did not train.
        created: When, in UTC.
        model: How to build the network; None for a module handed over in Python.
        data: Which data.
        request: What was forgotten in this step, if anything.
        request_fingerprint: SHA-256 of the resolved request.
        method: Name of the method.
        settings: Every hyper-parameter of the method.
        recipe: How it was (or would be) trained.
        seed: Seed of this step.
        device: Where it ran.
        seconds: Wall time of the step by name, e.g. `forget`.
        notes: What the method wrote down.
        history: Rows for plots.
        versions: Of Python, torch and Efface.
        weights_before: SHA-256 of the weights that the step started from.
        weights_after: SHA-256 of the weights in this artifact.
        memory_after: SHA-256 of its memory as saved; None without one.
        kept: What its memory holds on request beside what the method left, such as `class-means`.
        parent: The record of the artifact that the step started from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["given", "train", "forget"]
    created: datetime
    model: ModelSpec | None
    data: DataRecord
    request: Request | None = None
    request_fingerprint: str | None = None
    method: str
    settings: dict[str, Any]
    recipe: Recipe
    seed: int
    device: str
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str]
    weights_before: str | None = None
    weights_after: str
    memory_after: str | None = None
    kept: tuple[str, ...] = ()
    parent: Record | None = None

    @property
    def chain(self) -> tuple[Record, ...]:
        """All records from the first training to this one."""
        return (*(self.parent.chain if self.parent else ()), self)

    @property
    def earlier_requests(self) -> tuple[Request, ...]:
        """Every request that this artifact has already served."""
        return tuple(r.request for r in self.chain if r.request is not None)


@dataclass(eq=False)
class Artifact:
    """A model with what training left behind and the record of how it came to be.

    Attributes:
        model: From inputs to logits, in eval mode.
        record: How it came to be.
        memory: Tensors by name: codes, masks, shards' weights, cached importances.
        path: The folder it was read from or written to, if any.
        parent: The artifact it was made from, while both are in memory; on disk only its record is kept.
    """

    model: nn.Module
    record: Record
    memory: dict[str, Tensor] = field(default_factory=dict)
    path: Path | None = None
    parent: Artifact | None = None

    def save(self, path: str | Path, *, overwrite: bool = False, extra: Callable[[Path], object] | None = None) -> Path:
        """Write the folder atomically.

        Args:
            path: The folder to make.
            overwrite: Replace an existing one.
            extra: Called with the temporary folder before it is moved into place, to add files.

        Raises:
            InputError: The folder exists and may not be replaced.
        """
        kept = weights_sha256(self.memory) if self.memory else None
        self.record = self.record.model_copy(update={"memory_after": kept})
        with new_folder(path, overwrite) as folder:
            state = {k: v.detach().cpu().contiguous().clone() for k, v in self.model.state_dict().items()}
            safetensors.torch.save_file(state, folder / MODEL)
            if self.memory:
                memory = {k: v.detach().cpu().contiguous().clone() for k, v in self.memory.items()}
                safetensors.torch.save_file(memory, folder / MEMORY)
            (folder / RECORD).write_text(self.record.model_dump_json(indent=2), encoding="utf-8")
            if extra is not None:
                extra(folder)
        self.path = Path(path)
        return self.path

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: nn.Module | None = None,
        *,
        trust: bool = False,
        rebuild: Callable[[nn.Module, Record], nn.Module] | None = None,
    ) -> Artifact:
        """Read a folder back; nothing is unpickled.

        Args:
            path: A folder written by `save`.
            model: A module of the right architecture, for artifacts whose record cannot build one.
            trust: Allow the record to import a model builder that is neither Efface's, torchvision's nor timm's.
            rebuild: Turns the bare network into the one the record's methods left (e.g. an ensemble of shards).

        Raises:
            InputError: A file is missing or damaged, or weights or memory do not match the record's hash.
        """
        path = Path(path)
        record = cls.read_record(path)
        if model is None:
            if record.model is None:
                raise InputError(
                    f"{path} holds a model that was handed over in Python; pass a module of the same architecture"
                )
            model = build(
                record.model,
                input_shape=record.data.input_shape,
                num_classes=len(record.data.classes),
                trust=trust,
                weights=False,
            )
        if rebuild is not None:
            model = rebuild(model, record)
        load_weights(model, path / MODEL)
        found = weights_sha256(model.state_dict())
        if found != record.weights_after:
            raise InputError(
                f"{path / MODEL} does not hold the weights that {RECORD} describes "
                f"(SHA-256 {found[:12]}..., recorded {record.weights_after[:12]}...); it was changed after writing"
            )
        memory: dict[str, Tensor] = {}
        if (path / MEMORY).is_file():
            try:
                memory = safetensors.torch.load_file(path / MEMORY)
            except safetensors.SafetensorError as error:
                raise InputError(f"{path / MEMORY} is damaged: {error}") from None
        if record.memory_after is not None and record.memory_after != weights_sha256(memory):
            raise InputError(f"{path / MEMORY} is not the memory that {RECORD} describes; it was changed after writing")
        return cls(model.eval(), record, memory, path)

    @staticmethod
    def read_record(path: str | Path) -> Record:
        """Read the record alone.

        Raises:
            InputError: The folder or its record is missing or damaged.
        """
        file = Path(path) / RECORD
        if not file.is_file():
            raise InputError(f"{path} is not an artifact folder: it has no {RECORD}")
        try:
            return Record.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise InputError(f"{file} is damaged: {explain(error)}") from None


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():  # an empty one may have strides that no view takes
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions that a record keeps."""
    return {"efface": efface.__version__, "python": platform.python_version(), "torch": str(torch.__version__)}


def now() -> datetime:
    """Return the present time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
