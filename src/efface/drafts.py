"""Drafts: what is being made, in a hidden folder beside its place until it takes that place in one step.

A draft's lock is held while the process that makes it lives. So whoever comes next can tell what a killed process left,
and removes it, or puts an old folder back whose place is empty.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

__all__ = ["MARK", "drafted", "exchanged", "left_over", "longest", "moved", "recover", "removed", "unmark"]

MARK = ".efface-draft"
"""Name of the file in a draft by which its process holds it."""

PART, OLD = ".efface-part", ".efface-old"
"""How the names of drafts end. Drafts of dead processes are removed unasked, so nobody else may name a folder so."""

NAME = re.compile(rf"\.(?P<of>.+)\.[a-z0-9_]{{8}}(?:{re.escape(PART)}|{re.escape(OLD)})")
"""`.NAME.XXXXXXXX.efface-part` becomes NAME, or was NAME before; `.efface-old` was NAME, where folders cannot be
exchanged."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2


def longest(name: str) -> str:
    """Return the longest name that a draft of `name` has."""
    return f".{name}.{'x' * 8}{PART}"


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Give a folder for what is to stand at `path`; what is in it when the block ends is removed.

    Args:
        path: In a folder that exists.
    """
    draft, lock = _made(path)
    try:
        yield draft
    except BaseException:
        lock.release()
        shutil.rmtree(draft, ignore_errors=True)
        raise
    lock.release()
    removed(draft)  # after an exchange, the old folder: that it cannot be removed must be said


def moved(draft: Path, path: Path, overwrite: bool) -> None:
    """Let a draft take its place; what stood there is in the draft's place afterwards, or gone.

    Raises:
        FileExistsError: Something stands there, and `overwrite` is off.
    """
    try:
        draft.rename(path)  # nothing there, or an empty folder
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "made by another process meanwhile", str(path)) from None
        if not exchanged(draft, path):
            _moved_in_two_steps(draft, path)
    (path / MARK).unlink(missing_ok=True)


def exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step (renameat2, Linux); False where the system or the file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
        return False
    raise OSError(code, os.strerror(code), str(other))


def recover(path: Path) -> None:
    """Put right what killed processes left of a folder: an old one goes back if its place is empty, drafts go."""
    if not path.parent.is_dir():
        return
    for draft in sorted(_drafts(path.parent, path.name)):  # an old folder before a part
        if (lock := _taken(draft)) is None:
            continue
        try:
            if draft.suffix == OLD and not os.path.lexists(path):
                draft.rename(path)
            else:
                removed(draft)
        finally:
            lock.release()
    unmark(path)


def unmark(path: Path, mark: str = MARK) -> bool:
    """Remove the file by which a process held a folder, if that process has ended; return whether none is left.

    Args:
        path: The folder.
        mark: The file's name; that of a draft which took its place just before its process was killed by default.
    """
    if not (path / mark).is_file():
        return True
    if (lock := _taken(path, mark)) is None:
        return False
    (path / mark).unlink(missing_ok=True)
    lock.release()
    return True


def left_over(folder: Path, name: str | None = None) -> list[Path]:
    """Return the drafts in a folder that no living process holds.

    Args:
        folder: Where to look; not below.
        name: Of what they are drafts; anything by default.
    """
    return [draft for draft in sorted(_drafts(folder, name)) if not _alive(draft)]


def removed(draft: Path) -> None:
    """Remove a draft that another process may be removing, too."""
    while os.path.lexists(draft):
        try:
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink()
        except OSError as error:  # removed meanwhile, or marked by who is about to
            if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
                raise


def _made(path: Path) -> tuple[Path, filelock.BaseFileLock]:
    while True:
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent))
        try:
            lock = _taken(draft)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        if lock is not None:
            return draft, lock
        # Another process took it for one that was left behind, before it was locked.


def _taken(folder: Path, mark: str = MARK) -> filelock.BaseFileLock | None:
    """Hold a draft, or another folder by a file in it; None if another process holds it, or has removed it."""
    lock = filelock.FileLock(folder / mark)
    try:
        lock.acquire(timeout=0)
    except (filelock.Timeout, FileNotFoundError, NotADirectoryError):
        return None
    return lock


def _alive(draft: Path) -> bool:
    if not (draft / MARK).is_file():
        return False
    try:
        lock = _taken(draft)
    except OSError:  # a folder that cannot be written to: nobody makes anything there
        return False
    if lock is None:
        return True
    lock.release()
    return False


def _drafts(folder: Path, name: str | None) -> Iterator[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are wanted
    except FileNotFoundError:  # a folder that another process has just removed
        return
    for found in map(NAME.fullmatch, names):
        if found and name in {None, found["of"]}:
            yield folder / found.string


def _moved_in_two_steps(draft: Path, path: Path) -> None:
    """Put a draft in the place of a folder; for a moment nothing is there, and `recover` puts the old one back."""
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=OLD, dir=path.parent))
    aside.rmdir()
    lock = filelock.FileLock(path / MARK)
    lock.acquire()
    try:
        path.rename(aside)
        draft.rename(path)
    except BaseException:
        if aside.exists() and not os.path.lexists(path):
            aside.rename(path)
        (path / MARK).unlink(missing_ok=True)
        raise
    finally:
        lock.release()
    removed(aside)
