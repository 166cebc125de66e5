"""The folder on disk: weights, what training left behind for forgetting, and a record of how it came to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from pydantic import ValidationError
from torch import Tensor, nn

from efface.artifact.pieces import only_pieces, read_piece, remedy, sorted_out
from efface.artifact.record import Record, bit_sums, weights_sha256
from efface.drafts import recover
from efface.errors import InputError, explain
from efface.files import new_folder, write_file
from efface.models.adapt import adapted
from efface.models.checkpoints import as_it_came, load_weights, write_back
from efface.models.checkpoints.card import check_card
from efface.models.hugging_face import AUTO_CLASSES, write_folder
from efface.models.spec import build
from efface.notebook import card

__all__ = ["Artifact", "foreign_to_artifact"]

MODEL, MEMORY, RECORD = "model.safetensors", "memory.safetensors", "record.json"

BESIDE = {
    **dict.fromkeys((RECORD, MODEL, MEMORY), RECORD),
    **dict.fromkeys(("audit.json", "report.html", "report.md"), "audit.json"),
    "verification.json": "verification.json",
}
"""What stands in an artifact's folder, and in one of an audit or a verification, by the file that is never missing
beside it: weights without a record are somebody's own."""


@dataclass(eq=False, repr=False)
class Artifact:
    """A model with what training left behind and the record of how it came to be.

    Attributes:
        model: From inputs to logits, in eval mode.
        record: How it came to be.
        memory: Tensors by name: codes, masks, shards' weights (each state a file of its own), cached importances.
        path: The folder it was read from or written to, if any.
        parent: The artifact it was made from, while both are in memory; on disk only its record is kept.
        interim: Files from which its making would go on after a stop; they go when it is saved.

    Example:
        >>> import efface, tempfile, pathlib
        >>> data = efface.load_data("digits")
        >>> made = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read = efface.Artifact.load(made.save(pathlib.Path(folder) / "made"))
        >>> read.record.weights_after == made.record.weights_after
        True
    """

    model: nn.Module
    record: Record
    memory: dict[str, Tensor] = field(default_factory=dict)
    path: Path | None = None
    parent: Artifact | None = None
    interim: tuple[Path, ...] = ()
    _hashed: tuple[tuple[tuple[int, int, int], ...], str] | None = field(default=None, init=False, repr=False)

    def __repr__(self) -> str:
        """Return one line: what was done, to which model, and where it is."""
        facts = [f"{k} {v}" for k, v in self._facts().items() if v]
        return f"<Artifact: {self._title()}; {'; '.join(facts)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return card(f"Artifact: {self._title()}", self._facts())

    def _title(self) -> str:
        record = self.record
        asked = f" {record.request.describe()}" if record.request else ""
        return f"{record.action}{asked} ({record.method})"

    def _facts(self) -> dict[str, str]:
        record = self.record
        spec = type(self.model).__name__ if record.model is None else record.model.build
        took = sum(record.seconds.values())
        return {
            "model": f"{spec}, {sum(p.numel() for p in self.model.parameters()):,} parameters",
            "data": f"{record.data.source}, {len(record.data.classes)} classes",
            "took": f"{took:.3g} s" if took else "",
            "last look": "" if record.recognition is None else record.recognition.text,
            "failed": "; ".join(record.failures),
            "weights": f"SHA-256 {record.weights_after[:12]}...",
            "folder": "" if self.path is None else str(self.path),
        }

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the present weights, computed again only after a change.

        Torch counts changes of a tensor, but not those through `.data`: they show in the sum of its bits.
        """
        state = self.model.state_dict()
        sums = bit_sums(state)
        marks = tuple((t.data_ptr(), t._version, total) for t, total in zip(state.values(), sums, strict=True))
        if self._hashed is None or self._hashed[0] != marks:
            self._hashed = marks, weights_sha256(state)
        return self._hashed[1]

    def save(self, path: str | Path, *, overwrite: bool = False, extra: Callable[[Path], object] | None = None) -> Path:
        """Write the folder atomically.

        Args:
            path: The folder to make.
            overwrite: Replace an existing one.
            extra: Called with the temporary folder before it is moved into place, to add files.

        Raises:
            InputError: The folder exists and may not be replaced, holds what Efface did not write, or no folder can be
                made there.
            OSError: The disk is full, or another limit is reached; what was there before stays.
        """
        kept = weights_sha256(self.memory) if self.memory else None
        pieces, rest = sorted_out(self.memory)
        hashes = {file: weights_sha256(tensors) for file, tensors in pieces.items()}
        self.record = self.record.model_copy(update={"memory_after": kept, "pieces": hashes})
        with new_folder(path, overwrite, foreign_to_artifact) as folder:
            write_tensors(self.model.state_dict(), folder / MODEL)
            if rest:
                write_tensors(rest, folder / MEMORY)
            for file, tensors in pieces.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                write_tensors(tensors, folder / file)
            (folder / RECORD).write_text(self.record.model_dump_json(indent=2), encoding="utf-8")
            if extra is not None:
                extra(folder)
        for left in self.interim:
            left.unlink(missing_ok=True)
        self.path = Path(path)
        return self.path

    def export(self, path: str | Path, *, overwrite: bool = False, card: str = "", rounded: bool = False) -> Path:
        """Write the weights alone, as the original's came: in its format, its entry of a checkpoint, its names.

        The library that made the original loads them as it loaded that, and computes the same. Weights are those that
        were audited: float32, and float64 where the original's were, which loses nothing. Entries beside the weights
        that hold what training left, such as an optimiser's state, are not written.

        Args:
            path: A file; its suffix says safetensors (.safetensors) or torch.save (.pt, .pth, .ckpt, .bin, .tar). For
                a model of Hugging Face's, without a suffix: a folder that `from_pretrained` reads.
            overwrite: Replace what is there.
            card: A model card (`efface.model_card`) to write beside: FILE.md, or README.md within a folder.
            rounded: Write bfloat16 or half where the original's weights came in it. Rounding may undo small steps of
                forgetting, and what is written is not what was audited: audit it again.

        Returns:
            The path.

        Raises:
            InputError: The path exists or has another suffix, a method has changed the network, so that no library
                would find its names, or the original's weights did not come in a narrower type to round to.
        """
        origin = next((r.origin for r in self.record.chain if r.origin is not None), None)
        state, spec = self.model.state_dict(), self.record.model
        came = self.record.first_came_as
        if rounded and came not in {"bfloat16", "float16"}:
            raise InputError(f"the original's weights came as {came or 'float32'}, so nothing is rounded; leave it out")
        state = as_it_came(state, came, rounded=rounded)
        if spec is not None:
            size = self.record.data
            plain = build(spec, input_shape=size.input_shape, num_classes=len(size.classes), trust=True, weights=False)
            if plain.state_dict().keys() != state.keys():
                raise InputError(
                    f"{self.record.method} left a network of other parts than {spec.build} has, so that no library "
                    "would load its weights under their names; use the artifact's folder, which efface.Artifact.load "
                    "reads"
                )
            if spec.build in AUTO_CLASSES and not Path(path).suffix:
                return write_folder(plain, state, path, origin, overwrite=overwrite, card=card)
        beside = check_card(Path(path), overwrite) if card else None
        written = write_back(state, path, origin, overwrite=overwrite)
        if beside is not None:
            write_file(beside, card)
        return written

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
        made = cls.blank(path, model, trust=trust, rebuild=rebuild)
        made.read_weights()
        made.memory = read_memory(Path(path), made.record)
        return made

    @classmethod
    def blank(
        cls,
        path: str | Path,
        model: nn.Module | None = None,
        *,
        trust: bool = False,
        rebuild: Callable[[nn.Module, Record], nn.Module] | None = None,
    ) -> Artifact:
        """Read a folder's record alone and build its network, with weights that mean nothing; see `load`."""
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
        else:
            model, _ = adapted(model, record.data.input_shape, len(record.data.classes))
        if rebuild is not None:
            model = rebuild(model, record)
        return cls(model.eval(), record, {}, path)

    def read_weights(self) -> None:
        """Read the weights of this artifact's folder into its model, and compare them with the record.

        Raises:
            InputError: The file is missing, damaged, or another one.
        """
        assert self.path is not None
        file, record = self.path / MODEL, self.record
        again = f". {remedy(self.path)}" if record.pieces else ""
        try:
            load_weights(self.model, file)
        except InputError as error:
            raise InputError(f"{error}{again}") from None
        found = self.weights_sha256
        if found != record.weights_after:
            raise InputError(
                f"{file} does not hold the weights that {RECORD} describes "
                f"(SHA-256 {found[:12]}..., recorded {record.weights_after[:12]}...); it was changed after writing"
                + again
            )

    @staticmethod
    def read_record(path: str | Path) -> Record:
        """Read the record alone.

        Raises:
            InputError: The folder or its record is missing or damaged.
        """
        file = Path(path) / RECORD
        if not Path(path).exists():
            recover(
                Path(path)
            )  # a process that was killed while it replaced the folder may have left the old one aside
        if not file.is_file():
            raise InputError(
                f"{path} is not an artifact folder: it has no {RECORD}. Of weights that Efface did not train, make "
                f"one: efface import {path} --model ... --data ... --out FOLDER"
            )
        try:
            return Record.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise InputError(f"{file} is damaged: {explain(error)}") from None


def foreign_to_artifact(folder: Path) -> list[str]:
    """Return the names in a folder that are neither an artifact's nor those of an audit or a verification of it.

    Args:
        folder: One that is there.
    """
    files = {p.name for p in folder.iterdir() if p.is_file()}
    others = [p.name for p in folder.iterdir() if p.name not in files or BESIDE.get(p.name) not in files]
    return [name for name in others if RECORD not in files or not only_pieces(folder, name)]


def read_memory(path: Path, record: Record) -> dict[str, Tensor]:
    """Read what a folder holds beside the weights, every file compared with its hash.

    Args:
        path: Of an artifact.
        record: Its record.

    Raises:
        InputError: A file is missing, damaged or another one.
    """
    memory: dict[str, Tensor] = {}
    for file, sha256 in record.pieces.items():
        memory |= read_piece(path, file, sha256)
    if (path / MEMORY).is_file():
        try:
            memory |= safetensors.torch.load_file(path / MEMORY)
        except safetensors.SafetensorError as error:
            raise InputError(f"{path / MEMORY} is damaged: {error}") from None
    if record.memory_after is not None and record.memory_after != weights_sha256(memory):
        raise InputError(f"{path / MEMORY} is not the memory that {RECORD} describes; it was changed after writing")
    return memory


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file.

    Raises:
        OSError: With the system's reason, which safetensors has in its words only.
    """
    try:
        safetensors.torch.save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
    except safetensors.SafetensorError as error:
        found = re.search(r"I/O error: (.*) \(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[2]), found[1], str(path)) from None
