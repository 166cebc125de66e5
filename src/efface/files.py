"""Files and folders that appear whole or not at all; YAML and JSON read into checked models."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import filelock
import yaml
from pydantic import BaseModel, ValidationError

from efface.drafts import MARK, NAME, drafted, left_over, longest, moved, recover, removed, unmark
from efface.errors import InputError, explain, nearest

__all__ = [
    "LOCK",
    "Foreign",
    "check_fillable",
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

DESKTOP = frozenset({".DS_Store", ".directory", "Thumbs.db", "desktop.ini"})
"""Files that a desktop leaves in every folder it shows."""

Foreign = Callable[[Path], Sequence[str]]
"""Names what in a folder is not of the kind that is to be written there, so that it is not replaced unasked."""

BELOW = 100
"""Bytes that paths of what is written into a folder may add to its own."""


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
        say(f"waiting for {_holder(folder)}, which works in {folder}")
        lock.acquire()
    try:
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(folder: Path) -> str:
    """Return in words who holds a folder."""
    return (folder / LOCK).read_text(encoding="utf-8").strip() or "another process"


def remove_drafts(folder: str | Path, *, below: bool = False) -> None:
    """Remove what `new_folder` and `write_file` left half-written in a folder when they were killed.

    Args:
        folder: One that is there.
        below: In all folders in it, too: for those that Efface alone fills.
    """
    # `os.walk` passes over folders that another process removes meanwhile.
    for place, folders, _ in os.walk(folder):
        for draft in left_over(Path(place)):
            removed(draft)
        unmark(Path(place))
        folders[:] = [name for name in folders if below and not NAME.fullmatch(name)]


def check_vacant(path: str | Path, overwrite: bool, foreign: Foreign | None = None) -> Path:
    """Return the path if a folder may be made there; called before long work, so that nothing is computed in vain.

    What killed processes left of that folder is put right first, see `efface.drafts.recover`.

    Args:
        path: Of the folder.
        overwrite: Whether a folder that is there may be replaced.
        foreign: Says what in it may not, even so; None replaces anything.

    Raises:
        InputError: Something is there already and `overwrite` is off, or it holds what is foreign, or it is a file, or
            no folder can be made there.
    """
    path = Path(path)
    if path.name in {"", ".."}:
        raise InputError(f"{path} does not end in the name of a folder; give the path of one to make")
    place = Path(os.path.realpath(path))
    there = _nearest(path, longest(place.name))
    above = place.parent if there == path else there
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"cannot make {path}: {above} is not a folder that can be written to")
    if os.path.ismount(place):
        raise InputError(f"{path} is where a file system begins, and cannot be replaced; give a folder in it")
    recover(place)
    if foreign is not None and place.is_dir():
        _check_own(path, foreign(place))
    if place.is_dir() and not overwrite:
        if any(p.name not in {LOCK, MARK} for p in place.iterdir()):
            raise InputError(
                f"the folder {path} exists and is not empty; choose another, or allow overwriting (--overwrite)"
            )
        if not unmark(place, LOCK):
            raise InputError(f"{_holder(place)} works in {path}; choose another folder, or wait for its end")
    return path


def _check_own(path: Path, names: Sequence[str]) -> None:
    """Refuse to replace what somebody else put into a folder; locks and drafts are nobody's."""
    names = [n for n in names if n not in {LOCK, MARK, *DESKTOP} and not NAME.fullmatch(n)]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"the folder {path} holds what Efface did not write there: {', '.join(sorted(names)[:3])}{more}; it is not "
            "replaced, not even by --overwrite. Move these away, or choose another folder"
        )


def check_fillable(folder: str | Path) -> Path:
    """Return the folder if files can be written into it, now or once it is made; called before long work.

    Raises:
        InputError: They cannot; says why.
    """
    folder = Path(folder)
    there = _nearest(folder)
    if not os.access(there, os.W_OK | os.X_OK):
        what = "it" if there == folder else there
        raise InputError(f"nothing can be written into {folder}: {what} cannot be written to; give another folder")
    return folder


def _nearest(path: Path, *names: str) -> Path:
    """Return a folder, or the nearest one above that is there.

    Args:
        path: Of the folder.
        names: What must fit beside it.

    Raises:
        InputError: No folder can be made there, or it is a file.
    """
    place, missing = path, [*names]
    # Unlike those of `Path`, these return False for a name that is too long.
    while not os.path.exists(place):  # noqa: PTH110
        if os.path.islink(place):  # noqa: PTH114
            raise InputError(f"{place} is a link to {place.readlink()}, which does not exist; make that folder first")
        if place.name == "..":
            raise InputError(f"{path} leads through a folder that does not exist; give a path without ..")
        missing.append(place.name)
        place = place.absolute().parent
    if not place.is_dir():
        raise InputError(f"cannot make {path}: {place} is a file; give the path of a folder to make")
    if hasattr(os, "pathconf"):
        most, most_in_all = os.pathconf(place, "PC_NAME_MAX"), os.pathconf(place, "PC_PATH_MAX")
        over = max([*(len(os.fsencode(n)) - most for n in missing), len(os.fsencode(path)) + BELOW - most_in_all])
        if over > 0:
            raise InputError(f"the path {path} is too long by {over} bytes for what is written there; shorten a name")
    return place


@contextmanager
def new_folder(path: str | Path, overwrite: bool = False, foreign: Foreign | None = None) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block ends well, and vanishes otherwise.

    Args:
        path: The folder to make; a link to a folder stays, and the folder is made where it points.
        overwrite: Replace an existing folder; the old one stays until the new one is complete, and they are exchanged
            in one step where the system can.
        foreign: Says what in it may not be replaced, even so.

    Raises:
        InputError: See `check_vacant`; or another process made the folder meanwhile.
    """
    path = Path(os.path.realpath(check_vacant(path, overwrite, foreign)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft:
        yield draft
        draft.chmod(0o777 & ~_umask())
        for file in draft.rglob("*"):
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # some writers make files that only the owner may read
            _flush(file)
        _flush(draft)
        try:
            moved(draft, path, overwrite)
        except FileExistsError:
            raise InputError(
                f"another process made {path} meanwhile; choose another folder, or allow overwriting (--overwrite)"
            ) from None
        _flush(path.parent)


def write_file(path: str | Path, content: str | bytes) -> Path:
    """Write one file atomically: a draft beside it, flushed to disk, then renamed."""
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    with drafted(path) as draft:
        file = draft / "content"
        with file.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        file.replace(path)
    return path


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _flush(path: Path) -> None:
    if path.is_dir() and os.name != "posix":  # only there are folders opened like files
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from None  # a date of month 13 is a plain ValueError
    except RecursionError:
        raise InputError(f"{path} is nested too deeply to be read; needed: a mapping of names to values") from None
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
