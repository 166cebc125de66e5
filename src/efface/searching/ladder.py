"""The ladder: methods from cheap to dear, judged on held-out data, until one passes; the last rung is retraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.artifact.record import weights_sha256
from efface.errors import InputError
from efface.methods.applying import apply, check
from efface.methods.catalogue import make, methods
from efface.models.ensemble import Ensemble
from efface.searching.judge import Judge, Standards, described
from efface.searching.trials import Trial, Trials
from efface.searching.tuning import tried, tune
from efface.words import counted

__all__ = ["RUNGS", "Search", "climb", "tuned"]

RUNGS: dict[str, tuple[str, ...]] = {
    "classes": ("class-means", "class-transport", "project-distil", "undo", "retrain"),
    "items": ("undo", "retrain"),
}
"""Methods by target, cheapest first. Methods that need another preparation than class means are asked for by name, but
for members trained apart, which no other method may change: the one that trained them, then retraining."""

TURNS = 4
"""How often a knob is turned on one rung."""

UP_OR_DOWN = {"left": 1, "over": -1, "worse": -1}
"""Which way a knob is turned, by the side on which a model misses."""


@dataclass(frozen=True)
class Search:
    """What a search may spend, and by what it judges.

    Attributes:
        budget: Share of retraining's time for all trials together; None: no bound for the ladder, 1 for tuning.
        tune: Whether hyper-parameters are searched (extra `search`), or every rung is tried once, as it is.
        references: Models retrained without the data, to judge by.
        retraining: Seconds that retraining takes; the original's training time where it is not known.
        standards: What has to be reached.
        folder: Where trials are kept so that a stopped search resumes; None keeps them in memory.
    """

    budget: float | None = None
    tune: bool = False
    references: Sequence[nn.Module] = ()
    retraining: float | None = None
    standards: Standards = Standards()
    folder: Path | None = None


def climb(case: Case, search: Search = Search()) -> Artifact:
    """Forget with the cheapest rung that passes, or with the one that misses the standards least.

    Args:
        case: The original under the request.
        search: Budget, references and standards.

    Returns:
        The new artifact; its record's notes say what was tried, by what it was judged and why it was taken.

    Raises:
        InputError: Nothing is held out to judge by, the budget is too small for any rung, or no method could be
            applied.
    """
    judge, trials, seconds = _prepared(case, search, "auto")
    assert case.split.request is not None
    rungs = _rungs(case.original, case.split.request.target)
    left = None if search.budget is None else search.budget * _needed(seconds, search)
    notes: list[str] = []
    for number, name in enumerate(case.run.track(rungs, "auto: rungs", len(rungs)), start=1):
        case.run.progress.say(f"auto: rung {number} of {len(rungs)}: {name}; judged by {judge.basis}")
        over = left is not None and trials.spent >= left
        if over or (name == "retrain" and left is not None and seconds is not None and trials.spent + seconds > left):
            notes.append(f"auto: {name} was not tried: the budget of {left:.1f} s does not allow it")
            continue
        if _rung(name, case, judge, trials, search, left, len(rungs) - number).passed:
            break
    return _taken(trials, notes, judge, case, "auto")


def tuned(name: str, case: Case, search: Search, fixed: Mapping[str, Any] | None = None) -> Artifact:
    """Forget with one method whose hyper-parameters are searched on held-out data.

    Args:
        name: The method.
        case: The original under the request.
        search: Budget, references and standards.
        fixed: Hyper-parameters that are not varied.

    Raises:
        InputError: As `climb`; or nothing is left to vary, Optuna is missing, or the method refuses the request.
    """
    judge, trials, seconds = _prepared(case, search, f"tuning {name}")
    check(make(name, fixed), case.original, case.split)
    budget = (1.0 if search.budget is None else search.budget) * _needed(seconds, search)
    tune(name, case, judge, trials, budget=budget, fixed=fixed)
    return _taken(trials, [], judge, case, "tune")


def _rungs(original: Artifact, target: str) -> tuple[str, ...]:
    """Return the methods to try on an original, cheapest first."""
    if not isinstance(original.model, Ensemble):
        return RUNGS[target]
    known, chain = methods(), reversed(original.record.chain)
    own = next((r.method for r in chain if r.action == "train"), "")
    return (own, "retrain") if own in known and known[own].apart else ("retrain",)


def _rung(
    name: str, case: Case, judge: Judge, trials: Trials, search: Search, left: float | None, behind: int
) -> Trial:
    """Try one rung, tuned where that is asked for; what is left of the budget is shared by the rungs to come."""
    if not search.tune or not methods()[name].space:
        return _turned(name, case, judge, trials, left)
    seconds = _needed(search.retraining or case.original.record.seconds.get("train"), search)
    share = seconds / 10 if left is None else max(0.0, left - trials.spent) / max(behind, 1)
    before = len(trials.done)
    passed = tune(name, case, judge, trials, budget=share)
    return passed or min(trials.done[before:], key=lambda t: float("inf") if t.excess is None else t.excess)


def _turned(name: str, case: Case, judge: Judge, trials: Trials, left: float | None) -> Trial:
    """Try a method as it is; if references say on which side it misses, turn its knob to the other, a few times.

    Up by doubling, down by halving, until it lies between two values that miss on different sides; then to their
    middle. A direction in which a turn missed by no less than the one before is left.
    """
    trial = tried(name, {}, case, judge, trials)
    knob = methods()[name].knob
    if not knob or not judge.bands:
        return trial
    axis, value = methods()[name].space[knob], float(make(name).settings()[knob])  # type: ignore[arg-type]
    low, high, last = None, None, None
    for _ in range(TURNS):
        if trial.passed or trial.side not in UP_OR_DOWN or (left is not None and trials.spent >= left):
            break
        low, high = (value, high) if UP_OR_DOWN[trial.side] > 0 else (low, value)
        if low is not None and high is not None:
            wanted = (low * high) ** 0.5 if axis.log else (low + high) / 2
        elif last is not None and _no_nearer(trial, last):
            break
        else:
            wanted = min(axis.high, max(axis.low, value * 2.0 ** UP_OR_DOWN[trial.side]))
        if wanted == value:
            break
        value, last = float(f"{wanted:.4g}"), trial
        trial = tried(name, {knob: value}, case, judge, trials)
    return trial


def _no_nearer(trial: Trial, last: Trial) -> bool:
    """Whether a turn brought nothing; what failed quick questions and what failed the audit's cannot be compared."""
    if trial.excess is None or last.excess is None or bool(trial.differs) != bool(last.differs):
        return False
    return trial.excess >= last.excess


def _prepared(case: Case, search: Search, who: str) -> tuple[Judge, Trials, float | None]:
    split = case.split
    if split.request is None:
        raise InputError(f"{who} needs a request")
    if len(split.validation_retain) == 0:
        raise InputError(
            f"{who} judges on held-out training data, but nothing was held out; name a method instead (--method), or "
            "say what the model did not see (--validation 0.1)"
        )
    if split.forget_classes and len(split.validation_forget) == 0:
        raise InputError(f"{who}: no sample of the classes to forget is held out to judge by; name a method instead")
    if search.budget is not None and search.budget <= 0:
        raise InputError(f"budget {search.budget}; needed: a share of retraining's time above 0, such as 0.3")
    case = Case(case.original, split.only(("forget", "retain", "validation"), who), case.run)
    judge = Judge(case, search.references, search.standards)
    about = {
        "who": who,
        "original": case.original.record.weights_after,
        "request": None if split.resolved is None else split.resolved.fingerprint,
        "seed": case.run.seed,
        "tune": search.tune,
        "standards": asdict(search.standards),
        "references": [weights_sha256(model.state_dict()) for model in search.references],
    }
    seconds = search.retraining or case.original.record.seconds.get("train")
    return judge, Trials(search.folder, about, case.original), seconds


def _needed(seconds: float | None, search: Search) -> float:
    if seconds is None:
        raise InputError(
            "a budget is a share of retraining's time, which is not known for a model that Efface did not train; give "
            "references, or leave the budget and tuning out"
        )
    return seconds


def _taken(trials: Trials, notes: list[str], judge: Judge, case: Case, word: str) -> Artifact:
    leader = trials.leader
    if leader is None:
        refused = "; ".join(f"{t.method}: {t.refused}" for t in trials)
        raise InputError("no method could be applied: " + "; ".join(filter(None, [refused, *notes])))
    why = "the first to meet the standards" if leader.passed else "NONE met the standards; it misses them least"
    again = (
        f"; {counted(trials.reused, 'trial was', 'trials were')} kept from an earlier start" if trials.reused else ""
    )
    lines = [
        f"{word}: took {leader.method}, {why}; judged on {judge.basis}, {counted(len(trials.done), 'trial')} in "
        f"{trials.spent:.1f} s{again}",
        *(f"{word}: {trial}" for trial in trials),
        *notes,
    ]
    made = trials.taken or apply(make(leader.method, leader.settings), case.child())
    return described(made, lines, () if leader.passed else lines[:1])
