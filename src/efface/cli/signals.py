"""SIGTERM ends a command as Ctrl-C does, by unwinding it, wherever it arrives."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from efface.cli.outcome import Exit, say

__all__ = ["Terminated", "how_interrupted", "unwinding"]

MOMENT = 0.05
"""Seconds after which what a finaliser swallowed is raised again."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); libraries know how to unwind by `KeyboardInterrupt`, few by others."""


@dataclass
class _Asked:
    """Whether SIGTERM came: click and Ray pass on that a run is interrupted, and not by what."""

    to_end: bool = False


_ASKED = _Asked()


def how_interrupted() -> tuple[str, Exit]:
    """Return in words, and as an exit status, what a `KeyboardInterrupt` came from: SIGTERM or Ctrl-C."""
    if _ASKED.to_end:
        return "terminated; nothing half-written was left behind", Exit.TERMINATED
    return "interrupted; nothing half-written was left behind", Exit.INTERRUPTED


class _Unraisable(Protocol):
    """What `sys.unraisablehook` is told."""

    exc_type: type[BaseException]
    exc_value: BaseException | None
    exc_traceback: TracebackType | None
    err_msg: str | None
    object: object


@contextmanager
def unwinding() -> Iterator[None]:
    """Let SIGTERM unwind the block, so that workers end and half-written folders vanish; then exit with its status.

    What arrives while a finaliser runs, which cannot raise, is raised a moment later, Ctrl-C too. Once the block has
    ended, SIGTERM is passed over: there is nothing left to unwind.
    """
    signal.signal(signal.SIGTERM, _terminate)
    usual = sys.unraisablehook

    def hook(lost: _Unraisable) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
            number = signal.SIGTERM if _ASKED.to_end else signal.SIGINT
            signal.signal(signal.SIGALRM, signal.getsignal(number))
            signal.setitimer(signal.ITIMER_REAL, MOMENT)
        else:
            usual(lost)

    sys.unraisablehook = hook
    try:
        yield
    except (Terminated, SystemExit) as ended:
        if isinstance(ended, SystemExit) and not (_ASKED.to_end and ended.code == Exit.INTERRUPTED):
            raise
        message, status = how_interrupted()
        say(f"error: {message}", err=True)
        sys.exit(status)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _terminate(*_: object) -> None:
    _ASKED.to_end = True
    raise Terminated
