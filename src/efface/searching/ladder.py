"""Choosing a method by trying them, from cheap to dear."""

from __future__ import annotations

from typing import get_args

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make, methods
from efface.methods.method import Expense, Method
from efface.running.run import Run
from efface.searching.judge import Judge, Standards, Trial, explained

__all__ = ["candidates", "choose"]

NEVER = ("retrain", "logit-mask")
"""Retraining is the reference, not a shortcut; masking a logit passes every accuracy test and forgets nothing."""

EXPENSES = get_args(Expense)


def candidates(target: str) -> list[type[Method]]:
    """Return the methods that serve a target, cheapest first.

    The order is that of the methods' stated expense; among equals, those that read less data come first.
    """
    able = [m for name, m in methods().items() if target in m.needs.targets and name not in NEVER]
    return sorted(able, key=lambda m: (EXPENSES.index(m.expense), len(m.needs.reads), m.name))


def choose(
    artifact: Artifact, split: Split, run: Run, reference: nn.Module | None = None, standards: Standards | None = None
) -> Artifact:
    """Forget with the cheapest method that meets the standards, or with the one that misses them least.

    Args:
        artifact: The trained model.
        split: The data under the request.
        run: Device, randomness, progress.
        reference: A model retrained without the data, if there is one.
        standards: What has to be reached.

    Returns:
        The new artifact; its record's notes say what was tried and why it was taken.

    Raises:
        InputError: Nothing is held out to judge by, or no method could be applied.
    """
    standards = standards or Standards()
    split = split.only(("forget", "retain", "validation"), "auto")
    if split.request is None or len(split.validation_retain) == 0:
        raise InputError(
            "method auto judges on held-out training data, but nothing was held out; name a method instead"
        )
    if split.forget_classes and len(split.validation_forget) == 0:
        raise InputError("no sample of the classes to forget is held out, so auto cannot judge; name a method instead")
    judge = Judge(artifact, split, run, reference, standards)
    trials: list[Trial] = []
    best: Artifact | None = None
    able = candidates(split.request.target)
    for kind in run.track(able, "auto", len(able)):
        attempt = run.child()
        try:
            made = apply(make(kind.name), Case(artifact, split, attempt))
        except InputError as error:
            trials.append(Trial(kind.name, refused=str(error)))
            continue
        trial = judge(made)
        if best is None or trial.excess < min(t.excess for t in trials):
            best = made
        trials.append(trial)
        if trial.excess == 0:
            break
    if best is None:
        raise InputError("no method could be applied: " + "; ".join(f"{t.method}: {t.refused}" for t in trials))
    return explained(best, trials, with_reference=reference is not None)
