"""How subcommands end: their last lines, and the exit status that says what came of them."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from efface.errors import ForgettingWarning, InputWarning
from efface.words import counted

if TYPE_CHECKING:
    from lightning_fabric.loggers import TensorBoardLogger

    from efface.artifact.artifact import Artifact
    from efface.auditing.result import Audit
    from efface.references import References
    from efface.verifying import Verification

__all__ = [
    "Exit",
    "close",
    "finish",
    "finish_references",
    "following",
    "left_to_finish",
    "logged",
    "opened",
    "say",
    "status_of",
    "status_of_verification",
    "wrapped",
]


class Exit(IntEnum):
    """Exit status of every subcommand; the last three are the answers that make it a gate."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    DIFFERS = 3
    COULD_NOT_TELL = 4
    INTERRUPTED = 130
    TERMINATED = 143


WIDTH = 80


def wrapped(text: str, indent: int = 2, width: int = WIDTH) -> str:
    """Return text whose lines fit a terminal, broken between words; what follows the first line is indented.

    Args:
        text: One line.
        indent: Of the lines that follow.
        width: Characters in a line; a longer word, such as a path, stays whole.
    """
    within = textwrap.TextWrapper(width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    within.drop_whitespace = True
    return "\n".join(within.wrap(text)) or text


def say(text: str, err: bool = False) -> None:
    """Print a line: broken to fit where a person looks on, whole where a program reads it."""
    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else 0
    typer.echo(wrapped(text, width=min(WIDTH, width)) if width else text, err=err)


STATUS = (
    "Exit status: 0 done, and no difference found where that was asked (verify, audit --check); 1 failed; 2 bad input; "
    "3 it differs from a model that never saw the data; 4 could not tell; 130 interrupted; 143 terminated."
)


def status_of(audit: Audit) -> Exit:
    """Return the status that answers "did it forget?": no difference found, differs, or could not tell."""
    outcomes = {audit.verdict.outcome, *(s.outcome for s in audit.sequence)}
    if audit.answer == "no" or outcomes & {"differs", "nothing was done"}:
        return Exit.DIFFERS
    return Exit.OK if audit.answer == "no difference found" else Exit.COULD_NOT_TELL


def status_of_verification(found: Verification) -> Exit:
    """Return the status of a verification: failed if a file, a record or a score does not hold, else its audit's.

    Without an audit, when hashes alone were asked for, it is that of the hashes.
    """
    if any(f.outcome == "fails" and f.subject != "verdict" for f in found.findings):
        return Exit.FAILED
    return Exit.OK if found.audit is None else status_of(found.audit)


def close(audit: Audit | None, as_json: bool) -> None:
    """Print the last line, which answers the question that everything was for."""
    answer: str = "not asked; that needs --original and the data" if audit is None else audit.answer
    if audit is not None and audit.sequence:
        answer += f" (all {len(audit.sequence)} requests)"
    if audit is not None and audit.verdict.outcome == "differs" and audit.answer != "no":
        answer += ", but it is less useful than a retrained model"
    say(f"Did it forget? {answer}", err=as_json)


def following(*words: object, root: Path | None) -> str:
    """Return the next command as a shell takes it; data that lies at a root is found there again."""
    return "next: " + shlex.join(map(str, ("efface", *words, *(() if root is None else ("--root", root)))))


@contextmanager
def left_to_finish() -> Iterator[None]:
    """Keep silent for now what `finish` prints of a record: warnings, and notes on a file of weights."""
    of_weights = logging.getLogger("efface.models.checkpoints.loading")
    level = of_weights.level
    of_weights.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (ForgettingWarning, InputWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        of_weights.setLevel(level)


def finish(artifact: Artifact, as_json: bool, hint: str, kept: str = "") -> None:
    """Say what was made, what it is worth, and where it is; exit status 1 if it is no result.

    Args:
        artifact: What was made.
        as_json: Print the record in place of words.
        hint: The next command, from `following`; --trust is added for a network built by code from elsewhere.
        kept: What is known of usefulness, in a sentence.
    """
    from efface.models.sources import is_foreign

    record = artifact.record
    if as_json:
        folder = None if artifact.path is None else str(artifact.path)
        typer.echo(json.dumps({"folder": folder, "record": json.loads(record.model_dump_json())}, indent=2))
    else:
        asked = f" {record.request.describe()}" if record.request else ""
        if record.origin is not None:
            typer.echo(f"imported {record.origin.name} ({record.origin.format})")
        else:
            say(f"{record.action} ({record.method}){asked}: {sum(record.seconds.values()):.2f} s")
        parent = record.parent
        about_what_was_given = parent.notes if parent is not None and parent.action == "given" else ()
        for note in (*about_what_was_given, *(n for n in record.notes if n not in record.failures)):
            say(f"note: {note}")
        if left_out := len(record.data.skipped):
            say(f"note: {left_out} sample{'s' * (left_out != 1)} left out that cannot be read; record.json names them")
        typer.echo("nothing was written" if artifact.path is None else f"written: {artifact.path}")
        if record.counts is not None:
            say(record.counts.text)
        if record.recognition is not None and not record.failures:
            say(f"last look: {record.recognition.text}")
        if kept:
            say(kept)
    for text in record.failures:
        say(f"failed: {text}", err=as_json)
    if record.failures:
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        typer.echo(f"{hint} --trust" if record.model is not None and is_foreign(record.model.build) else hint)


def opened(folder: Path | None) -> TensorBoardLogger | None:
    """Return a logger for --log before any work, so that a missing package is said at once.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if folder is None:
        return None
    from efface.report.logged import tensorboard

    return tensorboard(folder)


def logged(what: Artifact | Audit, logger: TensorBoardLogger | None) -> None:
    """Write a run's or an audit's numbers to --log."""
    if logger is not None:
        from efface.report.logged import log

        log(what, logger)
        logger.finalize("success")


def finish_references(made: References, source: Path, root: Path | None, as_json: bool) -> None:
    """Say which references there are and where."""
    if as_json:
        manifest = json.loads(made.manifest.model_dump_json())
        typer.echo(json.dumps({"folder": str(made.folder), "manifest": manifest}, indent=2))
        return
    for series in made.manifest.series:
        typer.echo(f"{series}: {counted(len(made.finished(series)), 'model')}")
    typer.echo(f"written: {made.folder}")
    typer.echo(following("audit", "FORGOTTEN", "--original", source, "--references", made.folder, root=root))
