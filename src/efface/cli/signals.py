"""SIGTERM ends a command as Ctrl-C does, by unwinding it, wherever it arrives."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from efface.cli.outcome import Exit, say

__all__ = ["TERMINATED", "Terminated", "unwinding"]

TERMINATED = "terminated; nothing half-written was left behind"

MOMENT = 0.05
"""Seconds after which what a finaliser swallowed is raised again."""


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). No `KeyboardInterrupt`, which click turns into exit status 130."""


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
        if issubclass(lost.exc_type, Terminated | KeyboardInterrupt) and hasattr(signal, "setitimer"):
            number = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
            signal.signal(signal.SIGALRM, signal.getsignal(number))
            signal.setitimer(signal.ITIMER_REAL, MOMENT)
        else:
            usual(lost)

    sys.unraisablehook = hook
    try:
        yield
    except Terminated:
        say(f"error: {TERMINATED}", err=True)
        sys.exit(Exit.TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _terminate(*_: object) -> None:
    raise Terminated
