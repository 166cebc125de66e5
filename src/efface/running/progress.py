"""Where progress is shown: nowhere, or on the console with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

T = TypeVar("T")

__all__ = ["ConsoleProgress", "Progress", "shown"]


class Progress:
    """Shows nothing; the counterpart of `ConsoleProgress` for library use and tests."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items; subclasses show how far they are."""
        yield from items

    @contextmanager
    def meter(self, label: str, total: float) -> Iterator[Callable[[float], None]]:
        """Give a function that is told how much of `total` was just done, for work that does not come in items."""
        yield lambda _: None

    def say(self, text: str) -> None:
        """Show one line; here, nowhere."""

    def note(self, text: str) -> None:
        """Show a sentence that goes into the record, too."""
        self.say(text)


class ConsoleProgress(Progress):
    """Bars with the time left on stderr; where stderr is no terminal, one plain line every few seconds.

    Args:
        every: Seconds between such lines.
        notes: Show what goes into the record when it happens; not where the record's notes are printed afterwards.
    """

    def __init__(self, every: float = 10.0, notes: bool = True) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.every = every
        self.notes = notes
        self._bars: Bars | None = None
        self._open = 0

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items and show label, share done and time left."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self._shown(label, total) as done:
            for item in items:
                yield item
                done(1)

    @contextmanager
    def meter(self, label: str, total: float) -> Iterator[Callable[[float], None]]:
        """Show label, share done and time left; the function is told how much of `total` was just done."""
        with self._shown(label, total) as done:
            yield done

    def say(self, text: str) -> None:
        """Print one line on stderr, broken to fit a terminal and whole elsewhere."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def note(self, text: str) -> None:
        """Print it, if notes are shown when they happen."""
        if self.notes:
            self.say(text)

    def _shown(self, label: str, total: float | None) -> AbstractContextManager[Callable[[float], None]]:
        return (self._bar if self.console.is_terminal else self._lines)(label, total)

    @contextmanager
    def _bar(self, label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        from rich import progress

        if self._bars is None:
            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("left"),
                progress.TimeRemainingColumn(),
            )
            self._bars = progress.Progress(*columns, console=self.console, transient=True)
            self._bars.start()
        self._open += 1
        bars, task = self._bars, self._bars.add_task(label, total=total)
        try:
            yield lambda amount: bars.advance(task, amount)
        finally:
            bars.remove_task(task)
            self._open -= 1
            if self._open == 0:
                bars.stop()
                self._bars = None

    @contextmanager
    def _lines(self, label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        start = last = time.monotonic()
        done = 0.0

        def tell(amount: float) -> None:
            nonlocal last, done
            done += amount
            now = time.monotonic()
            if now - last >= self.every and (total is None or done < total):
                last = now
                left = f" of {total:g}, {(now - start) / done * (total - done):.0f} s left" if total else ""
                print(f"{label}: {done:.0f}{left}", file=sys.stderr, flush=True)

        yield tell


def shown(progress: Progress | bool | None) -> Progress:
    """Return where progress goes.

    Args:
        progress: Somewhere in particular; True for the console, False for nowhere; None for the console where someone
            looks at it: stderr is a terminal, or this is a notebook.
    """
    if isinstance(progress, Progress):
        return progress
    if progress is None:
        from rich.console import Console

        console = Console(stderr=True)
        progress = console.is_terminal or console.is_jupyter
    return ConsoleProgress() if progress else Progress()
