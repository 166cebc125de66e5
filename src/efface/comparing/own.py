"""Measures of the user's own: functions of a model and its case that give one number, as further columns."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, Model
from efface.auditing.catalogue import ALL
from efface.auditing.scores.score import Score, Scores
from efface.comparing.grouped import TAKEN
from efface.comparing.plan import Measure
from efface.errors import InputError
from efface.running.imported import imported

__all__ = ["OwnMeasure", "measured", "own_measures"]

EXAMPLE = "Write my_package:my_metric for the function `my_metric(model, case)` in my_package.py."


@dataclass(frozen=True)
class OwnMeasure:
    """One column of the user's own.

    Attributes:
        path: Where the function is imported from.
        function: Called with the model, on the run's device and in eval mode, and its `Case` (original, split, run).
        meaning: First line of its docstring, for the reader of the table.
    """

    path: str
    function: Callable[..., Any]
    meaning: str

    @property
    def name(self) -> str:
        """Header of the column: the function's name."""
        return self.function.__name__


def own_measures(names: Sequence[str]) -> tuple[OwnMeasure, ...]:
    """Import the functions among a plan's measures; Efface's own names are passed over.

    Raises:
        InputError: There is no such function, it says not what it measures, or its name is taken.
    """
    found: list[OwnMeasure] = []
    for path in names:
        if path in get_args(Measure):
            continue
        function = imported(path, example=EXAMPLE)
        if not inspect.isfunction(function):
            raise InputError(f"{path!r} is a {type(function).__name__}, not a function. {EXAMPLE}")
        lines = (inspect.getdoc(function) or "").splitlines()
        if not lines:
            raise InputError(f"{path!r} has no docstring; its first line says above the table what it measures")
        if function.__name__ in {*TAKEN, *ALL, *(m.name for m in found)}:
            raise InputError(f"{path!r}: another column is called {function.__name__!r}; rename the function")
        found.append(OwnMeasure(path, function, lines[0].rstrip(".")))
    return tuple(found)


def measured(own: Sequence[OwnMeasure], model: Model, case: Case) -> Scores:
    """Return what the user's functions say of a model; each gets a copy of its own.

    Raises:
        InputError: A function gave something else than a number; NaN and infinity count as not assessed.
    """
    scores: Scores = {}
    for measure in own:
        value = measure.function(case.run.copied(model.model if isinstance(model, Artifact) else model).eval(), case)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise InputError(f"{measure.path} gave a {type(value).__name__} ({value!r:.60}); needed: one number")
        scores[measure.name] = Score(value=float(value))
    return scores
