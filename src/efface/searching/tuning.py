"""Hyper-parameters of one method, chosen on held-out training data within a budget (extra `search`: Optuna)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make, methods
from efface.methods.method import Axis, Method
from efface.running.extras import import_optuna
from efface.searching.judge import Judge
from efface.searching.trials import Trial, Trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

__all__ = ["open_axes", "tried", "tune"]

MOST = 200
"""Trials of one method at the most, whatever the budget."""


def open_axes(name: str, fixed: Mapping[str, Any]) -> dict[str, Axis]:
    """Return what a search may vary: the method's space less what the caller has set.

    Raises:
        InputError: Nothing is left.
    """
    axes = {field: axis for field, axis in methods()[name].space.items() if field not in fixed}
    if not axes:
        space = methods()[name].space
        why = f"--set fixes all of {', '.join(space)}" if space else "it has no hyper-parameter that a search varies"
        raise InputError(f"{name} cannot be tuned: {why}; leave --tune out, or set fewer of them")
    return axes


def tune(
    name: str,
    case: Case,
    judge: Judge,
    trials: Trials,
    *,
    budget: float,
    fixed: Mapping[str, Any] | None = None,
) -> Trial | None:
    """Try sets of hyper-parameters of one method until one meets the standards or the budget is spent.

    The first trial is the method's defaults; the others are proposed by Optuna's tree-structured Parzen estimator,
    seeded, from how far the earlier ones missed the standards.

    Args:
        name: The method.
        case: The original under the request.
        judge: Says how far a model misses the standards; reads held-out training data only.
        trials: Gets every trial; finished ones of an earlier start are not done again.
        budget: Seconds of forgetting and judging; a trial that has begun ends.
        fixed: Hyper-parameters that are not varied.

    Returns:
        The trial that passed, or None.

    Raises:
        InputError: Nothing can be varied, Optuna is missing, or the method refuses the request.
    """
    fixed = dict(fixed or {})
    axes = open_axes(name, fixed)
    study = _study(case.run.number(f"tune/{name}"))
    distributions = {field: _distribution(name, field, axis) for field, axis in axes.items()}
    spent = 0.0
    for number in range(MOST):
        if number == 0:
            chosen: dict[str, Any] = {}
        else:
            proposal = study.ask(distributions)
            chosen = dict(proposal.params)
        trial = tried(name, {**fixed, **chosen}, case, judge, trials)
        if trial.refused and number == 0:
            return None
        if number:
            study.tell(proposal, 1e3 if trial.excess is None else trial.excess)
        spent += trial.spent
        if trial.passed:
            return trial
        if spent >= budget:
            return None
    return None


def tried(
    name: str,
    settings: Mapping[str, Any],
    case: Case,
    judge: Callable[[Artifact, dict[str, Any]], Trial],
    trials: Trials,
) -> Trial:
    """Return how one method with these hyper-parameters does; a trial of an earlier start is not done again."""
    chosen = dict(settings)
    known = trials.known(name, chosen)
    if known is not None:
        return known
    made: Artifact | None = None
    try:
        made = apply(make(name, chosen), case.child())
    except InputError as error:
        trial = Trial(method=name, settings=chosen, refused=str(error))
    else:
        trial = judge(made, chosen)
    trials.add(trial, made)
    case.run.progress.say(f"auto: {trial}")
    return trial


def _study(seed: int) -> Study:
    optuna = import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5))


def _distribution(name: str, field: str, axis: Axis) -> BaseDistribution:
    distributions = import_optuna().distributions
    if axis.choices:
        return distributions.CategoricalDistribution(axis.choices)
    if _whole(methods()[name], field):
        return distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _whole(kind: type[Method], field: str) -> bool:
    """Whether a hyper-parameter takes whole numbers only, by its default."""
    (found,) = [f for f in dataclasses.fields(kind) if f.name == field]  # type: ignore[arg-type]
    return isinstance(found.default, int) and not isinstance(found.default, bool)
