"""The verb `audit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, Model, network_of
from efface.artifact.record import Record, weights_sha256
from efface.data import Data
from efface.errors import InputError
from efface.models.predictions import accuracy_of
from efface.references import References
from efface.request import Request
from efface.running.progress import Progress, shown
from efface.training.recipe import Recipe

if TYPE_CHECKING:
    from efface.auditing.result import Audit, Served
    from efface.auditing.settings import AuditSettings
    from efface.references.rows import Retrained

__all__ = ["audit"]


def audit(
    model: Model,
    data: Data,
    request: Request | None = None,
    *,
    original: Model | None = None,
    retrained: Retrained = False,
    others: Mapping[str, Model] | None = None,
    all_requests: bool = False,
    steps: Sequence[Model] = (),
    recipe: Recipe | None = None,
    validation: float = 0.0,
    settings: AuditSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> Audit:
    """Measure how far a model has forgotten, beside the original, retrained, fine-tuned and logit-mask rows.

    Args:
        model: What to audit: an artifact made by `forget`, or any module.
        data: The data the original was trained on.
        request: What was to be forgotten; an artifact knows.
        original: The model before; an artifact made in this process knows.
        retrained: One or several models trained without the data, or a folder of them (`load_references`); True
            trains one now; False audits at level (a). Of a folder, repeated runs of the model's own method are used,
            too.
        others: More rows by name.
        all_requests: Ask about every request that the artifact has served, not only the last: knowledge may come back.
            `original` is then the model before the first, and retrained models are trained without what any names.
        steps: For that: models after earlier requests, in any order, to show what each knew just afterwards.
        recipe: How the original was trained, if neither model is an artifact.
        validation: Fraction held out of training; an artifact knows.
        settings: What the audit may spend, and its tolerances.
        seed: Seed of the audit's draws and of the models it trains.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

    Raises:
        InputError: A model, the request or the data is missing or does not fit.

    Example:
        >>> import efface
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> masked = efface.forget(original, data, efface.Request(classes=[3]), method="logit-mask")
        >>> [row.name for row in efface.audit(masked, data).rows]
        ['original', 'fine-tuned', 'logit-mask']
    """
    known = model.record if isinstance(model, Artifact) else None
    request = request or (known.request if known else None)
    if request is None:
        raise InputError("the request is missing: say what was to be forgotten")
    if original is None and isinstance(model, Artifact):
        original = _before_all(model) if all_requests else model.parent
    if original is None:
        first = "the first request" if all_requests else "forgetting"
        raise InputError(f"the original model is missing: give the model (or artifact folder) before {first}")

    def case_of(request: Request) -> Case:
        return Case.of(
            original,
            data,
            request,
            seed=seed,
            device=device,
            recipe=recipe,
            validation=validation,
            progress=shown(progress),
            known=known,
        )

    case = case_of(request)
    if not all_requests:
        if steps:
            raise InputError(
                "models after earlier requests are for an audit of all of them; say all_requests=True (--all-requests)"
            )
        return _assessed(model, case, retrained, settings, others)
    return _all_assessed(model, case, case_of, retrained, settings, others, steps)


def _before_all(model: Artifact) -> Artifact | None:
    """Return the model before the first request, while all since are in memory."""
    found: Artifact | None = model
    while found is not None and found.record.earlier_requests:
        found = found.parent
    return found


def _assessed(
    model: Model,
    case: Case,
    retrained: Retrained,
    settings: AuditSettings | None,
    others: Mapping[str, Model] | None = None,
    *,
    baselines: bool = True,
) -> Audit:
    """Audit one request."""
    from efface.auditing.answers import KeptAnswers
    from efface.auditing.assess import assess  # scikit-learn and scipy, which training and forgetting do not need
    from efface.references.rows import rows_of
    from efface.references.shadows import thirds_of

    rows = rows_of(model, case, retrained=retrained, others=others, baselines=baselines)
    folder = retrained if isinstance(retrained, References) else None
    record = rows.candidate.record
    return assess(
        rows,
        case.split,
        case.run,
        settings=settings,
        thirds=thirds_of(folder, case.split, record, case.run)
        if folder and record and folder.serves(case.split)
        else None,
        history=[dict(row) for row in record.history] if record else (),
        kept=KeptAnswers(folder.answers) if folder and folder.answers else None,
    )


def _all_assessed(
    model: Model,
    case: Case,
    case_of: Callable[[Request], Case],
    retrained: Retrained,
    settings: AuditSettings | None,
    others: Mapping[str, Model] | None,
    steps: Sequence[Model],
) -> Audit:
    """Audit the last request, and ask again about those before it; one set of retrained models serves all.

    Raises:
        InputError: The model has no record of requests, the request is not its last, the original has served one
            already, or a step is no model of its chain.
    """
    from efface.references.rows import references_of

    if not isinstance(model, Artifact) or not model.record.earlier_requests:
        raise InputError("only an artifact that has served requests knows them all; give one, or name the request")
    record, request = model.record, case.split.request
    assert request is not None
    chain = [r for r in record.chain if r.request is not None]
    if record.step_of(request) != len(chain) - 1:
        raise InputError("an audit of all requests is about those in the artifact's record; leave the request out")
    if chain[0].weights_before not in {None, case.original.record.weights_after}:
        raise InputError(
            "for an audit of all requests the original is the model before the first of them (SHA-256 "
            f"{str(chain[0].weights_before)[:12]}...), because it has to know what each was to remove; this one has "
            f"{case.original.record.weights_after[:12]}..."
        )
    after = _by_weights(steps, chain)
    # A reference that is trained now lacks what every request names, and its record has to say so.
    whole = dataclasses.replace(case.original, record=record.parent or case.original.record)
    references = references_of(retrained, dataclasses.replace(case, original=whole) if retrained is True else case)
    last = _assessed(model, case, retrained if isinstance(retrained, References) else references, settings, others)
    served = []
    for number, step in enumerate(chain[:-1], 1):
        assert step.request is not None
        one = case_of(step.request)
        one.run.progress.say(f"request {number} of {len(chain)}, asked about again: {one.split.request_text}")
        found = _assessed(model, one, references, settings, baselines=False)
        known = after.get(step.weights_after)
        then = None if known is None else accuracy_of(one.run.copied(network_of(known)), one.split.forget)
        served.append(_served(number, step, found, then))
    now = _served(len(chain), chain[-1], last, None)
    return last.model_copy(update={"sequence": (*served, now.model_copy(update={"then": now.now}))})


def _by_weights(steps: Sequence[Model], chain: Sequence[Record]) -> dict[str, Model]:
    """Return models by the SHA-256 of their weights, each of which a step of the chain ended in."""
    found = {weights_sha256(network_of(step).state_dict()): step for step in steps}
    unknown = sorted(found.keys() - {r.weights_after for r in chain})
    if unknown:
        raise InputError(
            f"a model given as an earlier step (SHA-256 {unknown[0][:12]}...) is none of this artifact's chain; give "
            "what its earlier requests made"
        )
    return found


def _served(number: int, step: Record, found: Audit, then: float | None) -> Served:
    """Return one line of the table of all requests."""
    from efface.auditing.result import Served

    known = {row.name: row["forget_accuracy"].value for row in found.rows}
    return Served(
        step=number,
        text=found.request_text,
        method=step.method,
        fingerprint=found.request_fingerprint,
        records=found.counts["forget"],
        outcome=found.verdict.outcome,
        answer=found.verdict.answer,
        differs=tuple(c.question for c in found.verdict.checks if c.outcome == "differs"),
        original=known[found.original],
        then=then,
        now=known[found.candidate],
        retrained=None if found.reference is None else known[found.reference],
    )
