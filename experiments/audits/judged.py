"""Many models audited against the same retrained ones, by the audit's own table and checks.

What does not depend on the retrained models (answers, probes, how a model relearns) is found once for each model,
however many sets of references it is compared with. What no question reads (the attack on the loss, the probe of the
outputs) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar
from unittest.mock import patch

import sklearn
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.auditing import answers as asking
from efface.auditing import table
from efface.auditing.answers import AllAnswers, Answers
from efface.auditing.checks import Standard, checks_against_floor, not_assessed
from efface.auditing.measures.ain import Relearning
from efface.auditing.records import Records
from efface.auditing.rows import Row, Rows
from efface.auditing.scores import features, membership, relearning
from efface.auditing.scores.features import Probed
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Scores
from efface.auditing.settings import AuditSettings
from efface.auditing.verdict import Verdict, conclude
from efface.auditing.yardstick import unfit
from efface.data import Part, Split
from efface.errors import InputError
from efface.running.run import Run
from efface.training.loop import Trainer
from efface.training.side_by_side import Stack
from efface.training.side_by_side import _Lockstep as Lockstep
from efface.training.side_by_side import _summed as summed

__all__ = ["Judged", "judged", "remembering"]

T = TypeVar("T")

Pair = tuple[Tensor, Tensor]

SEED = 5
TOGETHER = 60
"""Steps that models relearn side by side; those that are not there yet relearn alone."""

LONGEST = 400
"""Steps up to which a course of relearning is looked up; audits stop watching earlier."""


def unread(*_: object) -> NoReturn:
    """Stand in for what no question reads."""
    raise InputError("left out: no question reads it")


class Judged(NamedTuple):
    """What one audit found.

    Attributes:
        verdict: As the audit's, but that the original is judged by the questions alone, too.
        scores: Of the model that was accused.
    """

    verdict: Verdict
    scores: Scores


def cut(course: Relearning, cap: int) -> Relearning:
    """Return a course as it is when it is watched for so many steps only; batches do not depend on the cap."""
    if course.steps <= cap:
        return course
    return Relearning(cap, False, course.accuracies[: cap + 1])


def once(function: Callable[..., T], key: Callable[..., Hashable]) -> Callable[..., T]:
    """Return a function that is called once for each key; its arguments stay alive, so that an id is one object's."""
    known: dict[Hashable, T] = {}
    alive: list[Any] = []

    def found(*arguments: Any, **named: Any) -> T:
        own = key(*arguments, **named)
        if own not in known:
            alive.append((arguments, named))
            known[own] = function(*arguments, **named)
        return known[own]

    return found


def relearn_together(
    models: Sequence[nn.Module], part: Part, target: float, run: Run, watched: Part
) -> list[Relearning]:
    """Return what `relearn` returns for each model, up to rounding: all see the same batches, so all go in step.

    Args:
        models: Of one architecture, without BatchNorm.
        part: As in `relearn`.
        target: As there.
        run: As there.
        watched: As there.
    """
    stack = Stack([run.copied(m).requires_grad_(True) for m in models])
    batches, stage = Lockstep(part, [run.child()] * len(models), "audit/relearning"), "audit/relearning"
    by = relearning.RELEARNING
    trainer = Trainer(stack, batches, by, run.child(), stage=stage, loss=summed(len(models), 0.0), total_steps=TOGETHER)
    x, y = watched.tensors(run.device)
    seen: list[list[float]] = []
    for step in range(TOGETHER + 1):
        if step:
            trainer.advance(1)
        with torch.no_grad():
            answers = stack(x.expand(len(models), *x.shape)).argmax(-1)
        seen.append((answers == y).double().mean(1).tolist())
        if all(max(own) >= target for own in zip(*seen, strict=True)):
            break
    found = []
    for own in zip(*seen, strict=True):
        steps = next((i for i, accuracy in enumerate(own) if accuracy >= target), len(own) - 1)
        found.append(Relearning(steps, own[steps] >= target, own[: steps + 1]))
    return found


def courses(alike: Sequence[nn.Module]) -> Callable[..., Relearning]:
    """Return `relearn`, which goes on a little further than asked and knows what it has seen.

    Args:
        alike: Models that relearn side by side, as soon as one of them is asked about.
    """
    known: dict[tuple[int, float], Relearning] = {}
    alive: list[nn.Module] = list(alike)
    relearn = relearning.relearn

    def course_of(model: nn.Module, part: Part, target: float, run: Run, *, cap: int, watched: Part) -> Relearning:
        if (id(model), target) not in known and any(model is m for m in alike):
            found = relearn_together(alike, part, target, run, watched)
            known.update({(id(m), target): course for m, course in zip(alike, found, strict=True)})
        course = known.get((id(model), target))
        if course is None or (not course.reached and course.steps < cap):
            alive.append(model)
            # So that the next set of references seldom asks again.
            further = max(cap, min(LONGEST, 3 * cap // 2))
            course = known[id(model), target] = relearn(model, part, target, run, cap=further, watched=watched)
        return cut(course, cap)

    return course_of


@contextmanager
def remembering(alike: Sequence[nn.Module] = ()) -> Iterator[None]:
    """Find out once what is the same for every set of references; for models of one request that stay in memory.

    Args:
        alike: Models without BatchNorm that relearn side by side.
    """
    probes = once(Probed._now.__func__, lambda _, answers: id(answers.model))  # type: ignore[attr-defined]
    agreement = table.agreement_scores

    def of_answers(model: nn.Module, part: Part, **_: str) -> Hashable:
        return id(model), part.name, part.indices.tobytes()

    def of_probes(measure: Measure, _: Answers, ours: Probed, theirs: Probed | None) -> Hashable:
        return measure.key, id(ours.hits.get(measure.key)), theirs and id(theirs.hits.get(measure.key)), len(ours.hits)

    def of_margins(pair: Pair, theirs: Pair | None, _: Records, resamples: int) -> Hashable:
        return tuple(x.numpy().tobytes() for x in (*pair, *(theirs or ()))), resamples

    with (
        patch.object(asking, "checked_logits", once(asking.checked_logits, of_answers)),
        patch.object(Probed, "_now", classmethod(probes)),
        patch.object(features, "_score", once(features._score, of_probes)),
        patch.object(membership, "_area", once(membership._area, of_margins)),
        patch.object(relearning, "relearn", courses(alike)),
        # No question reads these.
        patch.object(features, "kept_outputs", unread),
        patch.object(membership, "logistic_attack", lambda *_: 0.5),
        patch.object(table, "agreement_scores", lambda *known, resamples: agreement(*known, resamples=0)),
        sklearn.config_context(assume_finite=True, skip_parameter_validation=True),  # half of its time on few records
    ):
        yield


def judged(
    original: Artifact,
    retrained: Sequence[nn.Module],
    accused: Mapping[str, nn.Module],
    split: Split,
    settings: AuditSettings | None = None,
) -> dict[str, Judged]:
    """Audit each model by itself against the same retrained ones; the original, too, under its own name.

    Args:
        original: The model before.
        retrained: What they are compared with, the first of them the one that gaps refer to.
        accused: By name.
        split: The data under the request.
        settings: As in an audit.
    """
    first, *further = (Row(f"reference {k}", "retrained", model) for k, model in enumerate(retrained))
    others = [Row(name, "other" if i else "candidate", model) for i, (name, model) in enumerate(accused.items())]
    before = Row("original", "original", original.model, record=original.record)
    rows = Rows((before, first, *others), tuple(further))
    records = Records.drawn(split, settings or AuditSettings(), Run(seed=SEED, device="cpu"))
    answers = AllAnswers.of(rows, records)
    scored = table.Table.of(rows, answers, records)
    standard = Standard(rows.level, scored.floors, records.settings, records.simultaneous_confidence)
    ask: Callable[..., Any] = checks_against_floor
    control = ask(scored.scores["original"], standard, by_class=records.by_class)
    reason = unfit(answers, records)
    found = {}
    for name in ("original", *accused):
        checks = ask(scored.scores[name], standard, by_class=records.by_class, control=control)
        if reason:
            verdict = conclude(rows.level, name, not_assessed(checks, reason), unfit=reason)
        else:
            verdict = conclude(rows.level, name, checks, control)
        found[name] = Judged(verdict, scored.scores[name])
    return found
