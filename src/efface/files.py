"""Files and folders that appear whole or not at all; YAML and JSON read into checked models."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import filelock
import yaml
from pydantic import BaseModel, ValidationError

from efface.errors import InputError, explain, nearest

__all__ = [
    "LOCK",
    "check_vacant",
    "checked",
    "held",
    "new_folder",
    "read",
    "read_mapping",
    "remove_drafts",
    "write_file",
]


LOCK = ".lock"
"""Name of the file in a folder by which one process holds it."""


@contextmanager
def held(folder: str | Path, say: Callable[[str], object]) -> Iterator[None]:
    """Hold a folder while the block runs, so that no other process works in it; a process that has ended holds nothing.

    Args:
        folder: Made if it is not there.
        say: Told whom is waited for, if another process holds the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for {file.read_text(encoding='utf-8').strip() or 'another process'}, which works in {folder}")
        lock.acquire()
    try:
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def remove_drafts(folder: str | Path) -> None:
    """Remove what `new_folder` and `write_file` left half-written in a folder when their process was killed.

    Args:
        folder: One that this process holds, so that nobody is writing there.
    """
    for draft in Path(folder).glob(".*.part"):
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink()


def check_vacant(path: str | Path, overwrite: bool) -> Path:
    """Return the path if a folder may be made there; called before long work, so that nothing is computed in vain.

    Raises:
        InputError: Something is there already and `overwrite` is off, or it is a file, or no folder can be made there.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give the path of a folder to make")
    if path.is_dir() and any(p.name != LOCK for p in path.iterdir()) and not overwrite:
        raise InputError(
            f"the folder {path} exists and is not empty; choose another, or allow overwriting (--overwrite)"
        )
    nearest = path.absolute().parent
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"cannot make {path}: {nearest} is not a folder that can be written to")
    return path


@contextmanager
def new_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block ends well, and vanishes otherwise.

    Args:
        path: The folder to make.
        overwrite: Replace an existing folder; the old one stays until the new one is complete.

    Raises:
        InputError: See `check_vacant`.
    """
    path = check_vacant(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield draft
        draft.chmod(0o777 & ~_umask())
        for file in draft.rglob("*"):
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # some writers make files that only the owner may read
                _flush(file)
        if path.exists():
            _replace(path, draft)
        else:
            draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_file(path: str | Path, content: str | bytes) -> Path:
    """Write one file atomically: a temporary file beside it, flushed to disk, then renamed."""
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o666 & ~_umask())
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
    return path


def _replace(path: Path, draft: Path) -> None:
    """Put a folder in the place of another; whatever stops this, Ctrl-C included, one of them is at `path`."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    aside = old / path.name
    try:
        path.rename(aside)
        draft.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


B = TypeVar("B", bound=BaseModel)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read one YAML (or JSON) mapping with the safe loader.

    Raises:
        InputError: The file is missing, is not YAML, or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path}; needed: a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise InputError(f"{path} holds {type(content).__name__}; needed: a mapping of names to values")
    return content


def checked(kind: type[B], values: dict[str, Any], where: str = "") -> B:
    """Validate values as `kind`; an unknown name is answered with the nearest right one.

    Raises:
        InputError: An unknown field, or a value that does not fit its field.
    """
    prefix = f"{where}: " if where else ""
    for name in values:
        if name not in kind.model_fields:
            raise InputError(f"{prefix}{kind.__name__} has no {name!r}. {nearest(name, kind.model_fields)}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{prefix}{explain(error)}") from None


def read(path: str | Path, kind: type[B]) -> B:
    """Read a YAML file as `kind`; see `read_mapping` and `checked` for the errors."""
    return checked(kind, read_mapping(path), str(path))
