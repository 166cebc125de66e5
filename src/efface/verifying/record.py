"""An artifact's folder by itself: do its files hold what its record says, and does the record hold together?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import safetensors
import safetensors.torch
from pydantic import ValidationError
from torch import Tensor

from efface.artifact.artifact import MEMORY, MODEL, RECORD, Artifact
from efface.artifact.compatible import as_trained
from efface.artifact.pieces import read_piece
from efface.artifact.record import Record, weights_sha256
from efface.auditing.result import Audit
from efface.data import Data
from efface.drafts import left_over
from efface.errors import InputError, explain
from efface.running.machine import Machine
from efface.verifying.finding import Finding
from efface.words import counted

__all__ = ["AUDIT", "check_copies", "check_folder", "check_origin", "recorded_audit"]

AUDIT = "audit.json"


def check_folder(path: Path, data: Data | None = None) -> tuple[Record | None, list[Finding]]:
    """Check weights, memory and record of an artifact folder against each other.

    The record is not signed: whoever can change weights and record together leaves no trace here.

    Args:
        path: The folder.
        data: The data, if at hand: its fingerprint and the resolved requests are compared as well.

    Returns:
        The record, or None if it cannot be read, and the findings.

    Raises:
        InputError: The folder has no record at all: it is no artifact.
    """
    if not (path / RECORD).is_file():
        Artifact.read_record(path)  # raises, and says so
    try:
        record = Artifact.read_record(path)
    except InputError as error:
        return None, [Finding(subject="record", outcome="fails", text=str(error))]
    findings = [_weights(path, record), _memory(path, record), _chain(record), *_data(record, data)]
    return record, [*findings, *_machine(record), *check_copies(path)]


def check_origin(record: Record, original: Artifact) -> Finding:
    """Check that an artifact was made from this original."""
    wrong = ""
    if record.weights_before is None or record.parent is None:
        wrong = "the record does not say what it was made from"
    elif original.record.weights_after not in {r.weights_before for r in record.chain if r.request or r is record}:
        wrong = (
            f"the record starts from weights {record.weights_before[:12]}..., this original has "
            f"{original.record.weights_after[:12]}...{_because(record, original.record)}"
        )
    return Finding.of("original", wrong, "the artifact was made from the weights of this original")


def _because(record: Record, original: Record) -> str:
    """Explain why an original has other weights than the one in a chain, where both were made alike; else nothing."""
    twin = next((step for step in record.chain[:-1] if step.made_like(original)), None)
    if twin is None:
        return ""
    text = "; it was made from the same data with the same recipe and seed"
    if twin.machine is None or original.machine is None:
        return f"{text}, where is not recorded: other threads or versions give other bits. Give the very original"
    if unlike := original.machine.unlike(twin.machine):
        return f"{text}, but with {', '.join(unlike)}: bits may differ. Give the very original"
    return f"{text} on an equal machine, where the bits should be equal, too"


def _machine(record: Record) -> Iterator[Finding]:
    """Say whether the artifact, made again here, can be expected to have the same bits."""
    if record.machine is None:
        return
    if unlike := Machine.here(record.device).unlike(record.machine):
        text = f"here {', '.join(unlike)}: made again here, its bits may differ"
        yield Finding(subject="machine", outcome="not checked", text=text)
    elif record.machine.accelerator:
        text = f"as recorded: {record.machine}; made again, its bits may differ, as sums on a GPU have no fixed order"
        yield Finding(subject="machine", outcome="holds", text=text)
    else:
        text = f"as recorded: {record.machine}; made again here, it has the same bits"
        yield Finding(subject="machine", outcome="holds", text=text)


def recorded_audit(path: Path, record: Record) -> tuple[Audit | None, list[Finding]]:
    """Read the audit.json of an artifact folder, if there is one, and check that it belongs to the record."""
    file = path / AUDIT
    if not file.is_file():
        return None, []
    try:
        audit = Audit.from_json(file.read_bytes())
    except ValidationError as error:
        return None, [Finding(subject="audit", outcome="fails", text=f"{AUDIT} is damaged: {explain(error)}")]
    wrong = [
        name
        for name, mine, theirs in (
            ("request", audit.request_fingerprint, record.request_fingerprint),
            ("data", audit.data_fingerprint, record.data.fingerprint),
            ("method", audit.candidate, record.method),
        )
        if mine != theirs
    ]
    text = f"{AUDIT} is about something else than the record; different: {', '.join(wrong)}" if wrong else ""
    return audit, [Finding.of("audit", text, f"{AUDIT} is about this record's request, data and method")]


def _weights(path: Path, record: Record) -> Finding:
    try:
        found = weights_sha256(safetensors.torch.load_file(path / MODEL))
    except (safetensors.SafetensorError, FileNotFoundError) as error:
        return Finding(subject="weights", outcome="fails", text=f"{MODEL} is missing or damaged: {error}")
    wrong = "" if found == record.weights_after else f"SHA-256 {found[:12]}..., recorded {record.weights_after[:12]}..."
    return Finding.of("weights", wrong and f"{MODEL} was changed after writing: {wrong}", f"SHA-256 {found[:12]}...")


def _memory(path: Path, record: Record) -> Finding:
    present, pieces = (path / MEMORY).is_file(), dict[str, Tensor]()
    try:
        for file, sha256 in record.pieces.items():
            pieces |= read_piece(path, file, sha256)
    except InputError as error:
        return Finding(subject="memory", outcome="fails", text=str(error))
    if record.memory_after is None:
        if not present:
            return Finding(subject="memory", outcome="holds", text="none recorded, and none there")
        text = f"the record holds no hash of {MEMORY}; it was written by an earlier version, or the file was added"
        return Finding(subject="memory", outcome="not checked", text=text)
    try:
        rest = safetensors.torch.load_file(path / MEMORY) if present or not pieces else {}
        found = weights_sha256(rest | pieces)
    except (safetensors.SafetensorError, FileNotFoundError) as error:
        return Finding(subject="memory", outcome="fails", text=f"{MEMORY} is missing or damaged: {error}")
    wrong = "" if found == record.memory_after else f"SHA-256 {found[:12]}..., recorded {record.memory_after[:12]}..."
    return Finding.of("memory", wrong and f"{MEMORY} was changed after writing: {wrong}", f"SHA-256 {found[:12]}...")


def check_copies(path: Path, subject: str = "copies") -> Iterator[Finding]:
    """Name hidden copies of models that killed processes or a stopped search left beside a folder.

    Looks beside the folder around it, too: a reference lies in one that is replaced as a whole.

    Args:
        path: The folder.
        subject: Of the findings.

    Yields:
        A failure for copies of the folder or of the one around it, what there is besides, or that nothing is there.
    """
    path = Path(os.path.realpath(path))
    trials = path.parent / f".{path.name}.trials"
    try:
        around = left_over(path.parent.parent, path.parent.name)
    except PermissionError as error:
        around, text = [], f"whether copies lie beside {path.parent} cannot be seen: {error}"
        yield Finding(subject=subject, outcome="not checked", text=text)
    own = [*left_over(path.parent, path.name), *([trials] if trials.is_dir() else [])]
    others = [p for place in (path.parent, path) for p in left_over(place) if p not in own]
    if own or around:
        names = ", ".join([*(p.name for p in own), *(f"../{p.name}" for p in around)])
        yield Finding(
            subject=subject,
            outcome="fails",
            text=f"a process that was stopped left what may hold a model from before: {names}; delete it, or make the "
            "folder again with --overwrite, which removes it",
        )
    if others:
        names = ", ".join(p.name for p in others)
        text = f"processes that were stopped left other drafts beside this folder or in it: {names}; not looked into"
        yield Finding(subject=subject, outcome="not checked", text=text)
    if not own and not around and not others:
        yield Finding(subject=subject, outcome="holds", text="no draft and no old copy lies beside the folder")


def _chain(record: Record) -> Finding:
    wrong = []
    for number, step in enumerate(record.chain):
        before = step.parent
        if before is None:
            continue
        if step.weights_before != before.weights_after:
            wrong.append(
                f"step {number} ({step.method}) does not start from the weights that step {number - 1} ended in"
            )
        if step.data.fingerprint != before.data.fingerprint:
            wrong.append(f"step {number} ({step.method}) names other data than step {number - 1}")
        if step.created < before.created:
            wrong.append(f"step {number} ({step.method}) is dated before step {number - 1}")
    steps = ", ".join(s.method if s.request is None else f"{s.method} ({s.request.describe()})" for s in record.chain)
    fit = counted(len(record.chain), "step fits", "steps fit")
    return Finding.of("record chain", "; ".join(wrong), f"{fit} together: {steps}")


def _data(record: Record, data: Data | None) -> Iterator[Finding]:
    if data is None:
        yield Finding(subject="data", outcome="not checked", text="the data was not given")
        return
    try:
        data = as_trained(record, data)
    except InputError as error:
        yield Finding(subject="data", outcome="fails", text=str(error))
        return
    yield Finding(subject="data", outcome="holds", text=f"fingerprint {data.fingerprint[:12]}..., as recorded")
    for step in record.chain:
        if step.request is not None:
            try:
                resolved = step.request.resolve(data).fingerprint
            except InputError as error:
                yield Finding(subject="request", outcome="fails", text=f"{step.request.describe()}: {error}")
                continue
            wrong = "" if resolved == step.request_fingerprint else "means other records than were recorded"
            words = step.request.describe()
            yield Finding.of("request", wrong and f"{words} {wrong}", f"{words} means the recorded records")
