"""The verb `repair`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from efface.artifact.artifact import MEMORY, MODEL, Artifact
from efface.artifact.case import split_under
from efface.artifact.pieces import prefix_of, read_piece, sorted_out
from efface.artifact.record import Record, versions, weights_sha256
from efface.data import Data
from efface.errors import InputError
from efface.files import write_file
from efface.mechanisms.members import spread
from efface.methods.applying import rebuilt
from efface.methods.catalogue import make, methods
from efface.running.progress import Progress
from efface.running.run import Run
from efface.running.seeding import seeded

__all__ = ["repair"]


def repair(
    path: str | Path,
    data: Data,
    *,
    model: nn.Module | None = None,
    device: str = "auto",
    backend: str = "auto",
    workers: int | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Make damaged or missing files of an artifact again whose members were trained apart, to the same bits.

    A member is trained again from its last sound slice on, without what was forgotten, with the seeds of the record;
    what comes out is compared with the record's hashes before anything is written. Sound files stay.

    Args:
        path: Folder of the artifact; its record must be sound.
        data: What it was trained on.
        model: A module of the right architecture, for artifacts whose record cannot build one.
        device: `auto`, `cpu`, `cuda`, `cuda:N`; the same kind as then.
        backend: Where members are trained, as in `train`.
        workers: Most of them at once.
        trust: Allow the record to import a model builder of others.
        progress: Where to show progress.

    Returns:
        Names of the files made again, sorted; none if all were sound.

    Raises:
        InputError: The method leaves nothing that can be made again, the data is another, or training gives other bits
            than were recorded (another processor or version of PyTorch).

    Example:
        >>> import efface, tempfile, pathlib
        >>> data, recipe = efface.load_data("digits"), efface.Recipe(lr=0.1, epochs=1, batch_size=64)
        >>> made = efface.train("mlp", data, method="sisa", settings={"shards": 2, "slices": 2}, recipe=recipe)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = made.save(pathlib.Path(folder) / "made")
        ...     (path / "shards" / "1" / "0.safetensors").unlink()
        ...     efface.repair(path, data)
        ('shards/1/0.safetensors',)
    """
    artifact = Artifact.blank(path, model, trust=trust, rebuild=rebuilt)
    lost, sound = _sound(artifact)
    if not lost:
        return ()
    record = artifact.record
    step = next((r for r in reversed(record.chain) if r.action == "train"), record)
    if step.method not in methods():
        raise InputError(f"{', '.join(lost)}: nothing is left of a plain training to make them of again; train anew")
    run = Run(seed=record.seed, device=device, precision=record.recipe.precision, progress=progress)
    method = make(step.method, step.settings)
    artifact.memory |= _beside(artifact)
    spread(run, backend, workers, apart=method.apart)
    with seeded(run.number("repair/forward passes")):
        made, memory = method.made_again(artifact, split_under(record, data), run, sound)
    pieces, _ = sorted_out(memory)
    found = {MODEL: made.state_dict(), **pieces}
    _require_same(record, found)
    for file in lost:
        (Path(path) / file).parent.mkdir(parents=True, exist_ok=True)
        held = {k: v.detach().cpu().contiguous().clone() for k, v in found[file].items()}
        write_file(Path(path) / file, safetensors.torch.save(held))
    return lost


def _sound(artifact: Artifact) -> tuple[tuple[str, ...], set[str]]:
    """Read what can be read into an artifact; return the files that cannot, and what is sound."""
    assert artifact.path is not None
    lost, sound = [], set()
    try:
        artifact.read_weights()
        sound.add(MODEL)
    except InputError:
        lost.append(MODEL)
    for file, sha256 in artifact.record.pieces.items():
        try:
            artifact.memory |= read_piece(artifact.path, file, sha256)
            sound.add(prefix_of(file))
        except InputError:
            lost.append(file)
    return tuple(sorted(lost)), sound


def _beside(artifact: Artifact) -> dict[str, Tensor]:
    """Read what is kept beside the pieces, which cannot be made again."""
    assert artifact.path is not None
    file = artifact.path / MEMORY
    try:
        return safetensors.torch.load_file(file) if file.is_file() else {}
    except safetensors.SafetensorError as error:
        raise InputError(f"{file} is damaged, too: {error}; take it from a copy, or train anew") from None


def _require_same(record: Record, found: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse files that are not, to the bit, what the record says."""
    wanted = {MODEL: record.weights_after, **record.pieces}
    other = [f for f, sha256 in wanted.items() if f not in found or weights_sha256(found[f]) != sha256]
    if other:
        raise InputError(
            f"training again gave other bits than were recorded ({', '.join(other[:3])}), and nothing was written. Do "
            f"it on a machine like the first, with torch {record.versions.get('torch')} and on {record.device} (here: "
            f"torch {versions()['torch']}); or take the folder from a copy, or train anew"
        )
