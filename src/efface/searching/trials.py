"""What was tried: one line a trial, and the best model so far, kept in a folder so that a stopped search resumes."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from efface.artifact.artifact import Artifact
from efface.errors import InputError, explain
from efface.files import write_file
from efface.methods.applying import rebuilt

__all__ = ["Trial", "Trials"]

FILE, BEST = "trials.json", "best"


class Trial(BaseModel):
    """What one method with one set of hyper-parameters reached.

    Attributes:
        method: Its name.
        settings: The hyper-parameters that were not left at their defaults.
        weights: SHA-256 of the model's weights; empty where it was refused.
        kept: Accuracy on held-out samples of kept classes.
        forgotten: Accuracy on what is to be forgotten (held-out samples for classes, the samples for items).
        probe: Recall on the features; None where not asked.
        excess: How far beyond the standards, summed; 0 means all are met. None where it was refused.
        differs: Questions of the audit that find a difference from the references; empty where not asked.
        side: Where it misses: `left` (knowledge), `over` (forgotten too much), `worse` (use), or `several` of them;
            empty if nowhere, or if it cannot be said.
        seconds: Wall time of forgetting.
        spent: Wall time of forgetting and judging.
        refused: Why the method could not be tried, or failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    settings: dict[str, Any] = {}
    weights: str = ""
    kept: float | None = None
    forgotten: float | None = None
    probe: float | None = None
    excess: float | None = None
    differs: tuple[str, ...] = ()
    side: str = ""
    seconds: float = 0.0
    spent: float = 0.0
    refused: str = ""

    @property
    def passed(self) -> bool:
        """Whether all standards are met and no question finds a difference."""
        return self.excess == 0 and not self.refused

    def __str__(self) -> str:
        """One line for the record."""
        chosen = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.settings.items())
        name = f"{self.method} ({chosen})" if chosen else self.method
        if self.refused or self.excess is None:
            return f"{name}: refused: {self.refused}"
        probe = "" if self.probe is None else f", recall on features {self.probe:.1%}"
        found = f"; the audit differs in: {', '.join(self.differs)}" if self.differs else ""
        verdict = "meets the standards" if self.passed else f"misses them by {self.excess:.3f}"
        reached = f"kept {self.kept:.1%}, forgotten {self.forgotten:.1%}{probe}, {self.seconds:.2f} s"
        return f"{name}: {reached}; {verdict}{found}"


class Trials:
    """The trials of one search in order, and the artifact that missed the standards least when it was made.

    Args:
        folder: Where to keep them; None keeps them in memory only.
        about: What the search is about (original, request, judge); trials about something else are refused.
        like: The original, whose architecture reads the best artifact back.

    Raises:
        InputError: The folder holds the trials of another search, or is damaged.
    """

    def __init__(self, folder: Path | None, about: dict[str, Any], like: Artifact) -> None:
        self.folder, self.about = folder, about
        self.done: list[Trial] = []
        self.best: Artifact | None = None
        self.reused = 0
        self._known: dict[str, Trial] = {}
        self._best_trial: Trial | None = None
        if folder is not None and (folder / FILE).is_file():
            self._resume(folder / FILE, like)

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials in the order in which they were asked for."""
        return iter(self.done)

    @property
    def spent(self) -> float:
        """Seconds of all trials, finished ones of an earlier start included."""
        return sum(trial.spent for trial in self.done)

    @property
    def leader(self) -> Trial | None:
        """The trial that misses the standards least, the earliest of equals; None if none could be judged."""
        judged = [t for t in self.done if t.excess is not None]
        return min(judged, key=lambda t: t.excess or 0.0) if judged else None

    @property
    def taken(self) -> Artifact | None:
        """The leader's artifact; None if it was not kept, as an earlier start went further than this one."""
        leader = self.leader
        return self.best if leader is not None and leader is self._best_trial else None

    def known(self, method: str, settings: dict[str, Any]) -> Trial | None:
        """Return a trial that an earlier start of this search finished, counted as done now."""
        found = self._known.pop(_key(method, settings), None)
        if found is not None:
            self.done.append(found)
            self.reused += 1
        return found

    def add(self, trial: Trial, made: Artifact | None) -> None:
        """Keep a finished trial, and its model if it is the best so far."""
        self.done.append(trial)
        if made is not None and self.leader is trial:
            self.best, self._best_trial = made, trial
            if self.folder is not None:
                made.save(self.folder / BEST, overwrite=True)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            rest = [t.model_dump() for t in (*self.done, *self._known.values())]
            write_file(self.folder / FILE, json.dumps({"about": self.about, "trials": rest}, indent=1))

    def _resume(self, file: Path, like: Artifact) -> None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            trials = [Trial.model_validate(t) for t in content["trials"]]
        except (ValueError, KeyError, TypeError) as error:
            why = explain(error) if isinstance(error, ValidationError) else error
            raise InputError(f"{file} is damaged ({why}); delete {file.parent} and the search starts again") from None
        if content.get("about") != self.about:
            raise InputError(
                f"{file.parent} holds the trials of another search (other original, request, seed or standards); "
                "delete it, or choose another output folder"
            )
        self._known = {_key(t.method, t.settings): t for t in trials}
        if (file.parent / BEST).is_dir():
            found = Artifact.load(file.parent / BEST, copy.deepcopy(like.model), trust=True, rebuild=rebuilt)
            self.best = dataclasses.replace(found, path=None, parent=like)
            made = (t for t in self._known.values() if t.weights == found.record.weights_after)
            self._best_trial = next(made, None)


def _key(method: str, settings: dict[str, Any]) -> str:
    return json.dumps([method, settings], sort_keys=True)
