"""The verb `audit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, Model
from efface.data import Data
from efface.errors import InputError
from efface.references import References
from efface.request import Request
from efface.running.progress import Progress
from efface.training.recipe import Recipe

if TYPE_CHECKING:
    from efface.auditing.result import Audit
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
    recipe: Recipe | None = None,
    validation: float = 0.0,
    settings: AuditSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
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
        recipe: How the original was trained, if neither model is an artifact.
        validation: Fraction held out of training; an artifact knows.
        settings: What the audit may spend, and its tolerances.
        seed: Seed of the audit's draws and of the models it trains.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

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
    from efface.auditing.answers import KeptAnswers
    from efface.auditing.assess import assess  # scikit-learn and scipy, which training and forgetting do not need
    from efface.references.rows import rows_of
    from efface.references.shadows import thirds_of

    known = model.record if isinstance(model, Artifact) else None
    request = request or (known.request if known else None)
    if request is None:
        raise InputError("the request is missing: say what was to be forgotten")
    if original is None:
        original = model.parent if isinstance(model, Artifact) else None
    if original is None:
        raise InputError("the original model is missing: give the model (or artifact folder) before forgetting")
    case = Case.of(
        original,
        data,
        request,
        seed=seed,
        device=device,
        recipe=recipe,
        validation=validation,
        progress=progress,
        known=known,
    )
    rows = rows_of(model, case, retrained=retrained, others=others)
    folder = retrained if isinstance(retrained, References) else None
    record = rows.candidate.record
    return assess(
        rows,
        case.split,
        case.run,
        settings=settings,
        thirds=thirds_of(folder, case.split, record, case.run) if folder and record else None,
        history=[dict(row) for row in record.history] if record else (),
        kept=KeptAnswers(folder.answers) if folder and folder.answers else None,
    )
