"""`assess`: everything that can be measured about a candidate, at the level of evidence that the models allow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from efface.auditing.answers import Answers, Subject, checked_logits
from efface.auditing.catalogue import MEASURES
from efface.auditing.exposed import most_exposed
from efface.auditing.floors import Floors
from efface.auditing.measures.accuracy import confusion
from efface.auditing.measures.ain import Relearning
from efface.auditing.plots import plots
from efface.auditing.records import Scene
from efface.auditing.result import Audit, Level, Row
from efface.auditing.scores.agreement import agreement_scores
from efface.auditing.scores.cost import cost_scores
from efface.auditing.scores.ensembles import Thirds, ensemble_scores, thirds_scores
from efface.auditing.scores.features import probe_gaps, probe_scores
from efface.auditing.scores.membership import membership_scores
from efface.auditing.scores.relearning import relearned, relearning_scores
from efface.auditing.scores.score import Score, Scores, strict
from efface.auditing.scores.utility import utility_scores
from efface.auditing.settings import AuditSettings
from efface.auditing.verdict import LEVELS, LIMITS, checks_against_floor, checks_against_original, conclude
from efface.data.split import Split
from efface.errors import InputError, nearest
from efface.models.reset import reset
from efface.running.run import Run

__all__ = ["LEAST_REFERENCES", "assess"]

LEAST_REFERENCES = 4
"""Retrained models from which level c begins: with fewer, the interval for a further one is too wide."""

PAIRWISE = (
    "tow",
    "forget_js",
    "test_js",
    "forget_activation_distance",
    "forget_agreement",
    "test_agreement",
    "forget_shift",
    "ain",
)
"""Scores that compare with the retrained model: one further retrained model gives them a floor."""


def assess(
    models: Mapping[str, nn.Module],
    split: Split,
    run: Run,
    *,
    candidate: str,
    original: str = "original",
    reference: str = "retrained",
    references: Sequence[nn.Module] = (),
    shadows: Sequence[nn.Module] = (),
    thirds: Thirds | None = None,
    seconds: Mapping[str, float] | None = None,
    history: Sequence[Mapping[str, float | str]] = (),
    settings: AuditSettings | None = None,
    answers: Answers | None = None,
) -> Audit:
    """Measure models under a request and conclude.

    Each model answers each part once; margins and all that follows are computed from those answers. Level a without
    the reference's row, b with it, c with at least `LEAST_REFERENCES` retrained models in total.

    Args:
        models: By row name, in the table's order; from inputs to logits, never changed.
        split: The data under the request.
        run: Device, randomness (`run.generator`), progress.
        candidate: The row that the verdict is about.
        original: The row of the model before forgetting.
        reference: The row of a model retrained without the forget data; may be absent.
        references: Further retrained models, same recipe, other seeds.
        shadows: Further models trained with the forget data and then unlearned as the candidate was, other seeds.
        thirds: Shadow models in RULI's design and their roles, for U-LiRA on single records.
        seconds: Wall time of making each row, as far as known, on one device.
        history: Rows of named numbers to be drawn, e.g. accuracies over decay steps.
        settings: Bounds and tolerances.
        answers: Where to keep the answers of `references` and `shadows` for further audits, and to take them from.
            Rows are always asked: two modules of the same weights may compute different things.

    Raises:
        InputError: A row is missing, the split has no request, references come without a reference row, or a model's
            answers cannot be used (width, NaN, another class order).
    """
    started = time.perf_counter()
    bounds = settings or AuditSettings()
    for role, name in (("candidate", candidate), ("original", original)):
        if name not in models:
            raise InputError(f"The {role} is to be the row {name!r}, but it is not among them. {nearest(name, models)}")
    if references and reference not in models:
        raise InputError(
            f"Further references were given, but no row {reference!r}; name one retrained model in the table. "
            f"{nearest(reference, models)}"
        )
    scene = Scene.of(split, bounds, run)
    rows = {n: Subject(n, m, scene) for n, m in run.track(models.items(), "audit: answers", len(models))}
    _same_class_order(rows[original])
    further, unlearned = (
        _numbered(models, name, scene, answers) for models, name in ((references, reference), (shadows, candidate))
    )
    retrained = rows.get(reference)
    everyone = ([] if retrained is None else [retrained]) + further
    level: Level = "a" if retrained is None else "c" if len(everyone) >= LEAST_REFERENCES else "b"

    twin = _random_twin(rows[original])
    relearning = _relearning(rows, rows[original], reference)
    probes = {n: probe_scores(s) for n, s in run.track(rows.items(), "audit: probes", len(rows))}
    repeats = [rows[candidate], *unlearned] if unlearned else []
    ensemble = {**ensemble_scores(repeats, everyone, scene), **thirds_scores(thirds, scene)}
    table: dict[str, Scores] = {}
    for name, subject in rows.items():
        theirs = None if retrained is None else relearning[reference]
        probed, hits = probes[name]
        if retrained is not None:
            probed = probe_gaps(probed, hits, probes[reference][1], scene)
        only = "only the candidate's method was run several times"
        scores = {
            **utility_scores(subject, retrained, rows[original]),
            **agreement_scores(subject, retrained, twin, resamples=bounds.resamples),
            **membership_scores(subject, retrained, everyone, resamples=bounds.resamples),
            **probed,
            **relearning_scores(relearning[name], theirs),
            **(ensemble if name == candidate else {k: Score.missing(only) for k in ensemble}),
            **cost_scores(name, seconds or {}, reference if retrained is not None else None),
        }
        table[name] = {key: scores[key] for key in MEASURES}
    floors = Floors()
    if retrained is not None:
        floors.add({k: v for k, v in table[reference].items() if k not in PAIRWISE})
        _add_floors(floors, further, retrained, everyone, rows[original], twin, relearning[reference])
    complete = {n: _beside(s, table, n, original, reference, floors, bounds) for n, s in table.items()}
    control = None
    if level == "a":
        checks = checks_against_original(complete[candidate], bounds, by_class=scene.by_class)
    else:
        checks, control = (
            checks_against_floor(
                complete[name], floors, bounds, by_class=scene.by_class, level=level, strict=strict(scene)
            )
            for name in (candidate, original)
        )
    assert split.request is not None
    assert split.resolved is not None
    parts = ("forget", "retain", "validation_retain", "validation_forget", "test_retain", "test_forget")
    return Audit(
        level=level,
        level_text=LEVELS[level],
        candidate=candidate,
        original=original,
        reference=None if retrained is None else reference,
        data=split.data.name,
        data_fingerprint=split.data.fingerprint,
        classes=split.data.classes,
        forget_classes=split.forget_classes,
        request=split.request.model_dump(mode="json"),
        request_text=split.request.describe(),
        request_fingerprint=split.resolved.fingerprint,
        counts={name: len(getattr(split, name)) for name in parts},
        references=len(everyone),
        rows=tuple(Row(name=n, scores=s) for n, s in complete.items()),
        verdict=conclude(level, candidate, checks, control),
        exposed=most_exposed(rows[candidate], [r for r in everyone if r is not rows[candidate]], bounds.exposed),
        plots=plots(list(rows.values()), relearning, history),
        settings=bounds.model_dump(mode="json"),
        seed=run.seed,
        notes=tuple(scene.notes),
        limits=LIMITS,
        seconds=time.perf_counter() - started,
    )


def _relearning(rows: Mapping[str, Subject], original: Subject, reference: str) -> dict[str, Relearning | str]:
    first = relearned(rows[reference], original) if reference in rows else None
    tracked = original.scene.run.track(rows.items(), "audit: relearning", len(rows))
    return {n: relearned(s, original, first) if n != reference or first is None else first for n, s in tracked}


def _numbered(models: Sequence[nn.Module], name: str, scene: Scene, answers: Answers | None) -> list[Subject]:
    tracked = scene.run.track(models, f"audit: further {name}", len(models))
    return [Subject(f"{name} {i + 2}", m, scene, answers) for i, m in enumerate(tracked)]


def _same_class_order(original: Subject) -> None:
    """Refuse an original that is right only after its outputs are permuted."""
    parts = [p for p in ("retain", "forget") if len(original.labels[p])]
    logits, labels = (torch.cat([x[p] for p in parts]) for x in (original.logits, original.labels))
    table = confusion(logits, labels)
    rows, columns = linear_sum_assignment(-table.numpy())
    best = float(table[rows, columns].sum()) / len(labels)
    right = float(table.diagonal().sum()) / len(labels)
    if best > 0.8 and best - right > 0.1:
        names = original.scene.split.data.classes
        swapped = ", ".join(f"{names[c]} as output {int(columns[c])}" for c in rows if columns[c] != c)
        raise InputError(
            f"The model {original.name!r} is right on {right:.0%} of its training data, but on {best:.0%} with its "
            f"outputs reordered ({swapped}); its class order is not the data's. Reorder the head's rows or the classes."
        )


def _random_twin(original: Subject) -> Tensor | str:
    try:
        twin = reset(original.model, original.scene.run.number("audit/random twin"))
    except InputError as error:
        return str(error)
    return checked_logits(twin, original.scene.parts["forget"], name="the random twin")


def _add_floors(
    floors: Floors,
    further: Sequence[Subject],
    retrained: Subject,
    everyone: Sequence[Subject],
    original: Subject,
    twin: Tensor | str,
    relearning: Relearning | str,
) -> None:
    run, bounds = retrained.scene.run, retrained.scene.settings
    for i, subject in enumerate(run.track(further, "audit: noise floors")):
        floors.add(utility_scores(subject, retrained, original))
        floors.add(agreement_scores(subject, retrained, twin, resamples=0))
        floors.add(membership_scores(subject, retrained, everyone, resamples=0))
        if i < bounds.floor_models:
            floors.add(probe_scores(subject)[0])
            floors.add(relearning_scores(relearned(subject, original), relearning))


def _beside(
    scores: Scores,
    table: Mapping[str, Scores],
    name: str,
    original: str,
    reference: str,
    floors: Floors,
    bounds: AuditSettings,
) -> Scores:
    """Put the original's, the retrained model's and the floor's value beside each score."""
    found: Scores = {}
    for key, score in floors.beside(scores, bounds.confidence, PAIRWISE).items():
        others = {"original": table[original][key].value if name != original else None}
        if reference in table and name != reference:
            others["reference"] = table[reference][key].value
        found[key] = score.model_copy(update=others)
    return found
