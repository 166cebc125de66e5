"""The verb `audit` where only predictions are known: of other people's systems, or models that are no torch modules."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from efface.data import Split
from efface.errors import InputError, InputWarning
from efface.models.predictions import accuracy_of, as_naming_the_commonest
from efface.models.recorded import Recorded
from efface.request import Request
from efface.running.progress import Progress, shown
from efface.running.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

    from efface.auditing.result import Audit
    from efface.auditing.rows import Role, Row, Rows
    from efface.auditing.settings import AuditSettings
    from efface.data.sources.predictions import Predictions

    Answers = ArrayLike | pd.DataFrame | str | Path

__all__ = ["audit_predictions"]


def audit_predictions(
    before: Answers,
    after: Answers,
    retrained: Sequence[Answers] = (),
    *,
    request: Request | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
    parts: Sequence[str] | np.ndarray | None = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    logits: bool = False,
    columns: Mapping[str, str] | None = None,
    repeats: Sequence[Answers] = (),
    others: Mapping[str, Answers] | None = None,
    name: str = "candidate",
    data_name: str = "predictions",
    settings: AuditSettings | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Audit:
    """Audit models of which only predictions are known; what needs weights or features is "not assessed".

    Each table or array has the answers of one model to the same records: those trained on and those held out. See
    `efface.data.sources.predictions.predictions` for both forms.

    Args:
        before: Of the model before forgetting.
        after: Of the model that is audited.
        retrained: Of models trained without the data: none is level (a), one (b), four or more (c).
        request: What was to be forgotten; by default the records whose part is `forget`.
        labels: Of arrays: class names or numbers.
        parts: Of arrays: `forget`, `retain` (or `train`) or `held-out` (or `test`) for each record.
        ids: Of arrays: an id for each record.
        groups: Of arrays: who each record belongs to.
        classes: Of arrays: class names in the order of the columns.
        logits: Of arrays: they are logits, not probabilities.
        columns: Of tables: other names of the columns `id`, `label`, `part`, `group`.
        repeats: Of further runs of training and forgetting, from other seeds: scores of the method (U-LiRA, KLoM).
        others: More rows by name.
        name: What to call the audited model.
        data_name: What to call the records.
        settings: What the audit may spend, and its tolerances.
        seed: Seed of the audit's draws.
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

    Raises:
        InputError: Tables do not fit together, or the request does not fit the records.

    Example:
        >>> import efface, numpy as np
        >>> answers = np.array([[0.9, 0.1], [0.2, 0.8]] * 20)
        >>> parts = ["forget"] * 4 + ["retain"] * 16 + ["held-out"] * 20
        >>> audit = efface.audit_predictions(answers, answers, labels=[0, 1] * 20, parts=parts)
        >>> audit.level, audit.row("candidate")["test_accuracy"].value, audit.row("candidate")["ain"].status
        ('a', 1.0, 'not assessed')
    """
    from efface.auditing.assess import assess  # scikit-learn and scipy
    from efface.data.sources.predictions import predictions

    tables = _named(before, after, retrained, repeats, others or {}, name)
    read = predictions(
        {_called(row, answers): answers for row, answers in tables.items()},
        labels=labels,
        parts=parts,
        ids=ids,
        groups=groups,
        classes=classes,
        logits=logits,
        columns=columns,
        name=data_name,
    )
    split, notes = _split(read, request)
    _look(read, split)
    rows = _rows(tables, read, split, (*read.notes, *notes), (name, len(retrained), len(repeats)))
    return assess(rows, split, Run(seed=seed, device="cpu", progress=shown(progress)), settings=settings)


def _named(
    before: Answers,
    after: Answers,
    retrained: Sequence[Answers],
    repeats: Sequence[Answers],
    others: Mapping[str, Answers],
    name: str,
) -> dict[str, Answers]:
    """Return all answers by the name of their row, in one order: original, retrained, others, candidate, repeats."""
    if isinstance(retrained, str | Path) or not isinstance(retrained, Sequence):
        raise InputError("retrained is one set of predictions; give a list of them: retrained=[...]")
    listed = [
        ("original", before),
        *((_numbered("retrained", i), one) for i, one in enumerate(retrained)),
        *others.items(),
        (name, after),
        *((_numbered(name, i + 1), one) for i, one in enumerate(repeats)),
    ]
    names = [row for row, _ in listed] + ["logit mask"]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"two rows are called {twice[0]!r}; give each model a name of its own")
    return dict(listed)


def _called(row: str, answers: Answers) -> str:
    """Return what errors and notes call a row's answers: a file by its name, without where it lies."""
    return f"{row} ({Path(answers).name})" if isinstance(answers, str | Path) else row


def _numbered(name: str, i: int) -> str:
    return name if i == 0 else f"{name} {i + 1}"


def _split(read: Predictions, request: Request | None) -> tuple[Split, list[str]]:
    """Return the records under what was to be forgotten, and what to know of that.

    Raises:
        InputError: Nothing says what was to be forgotten, or the column `part` says something else than the request.
    """
    if request is None:
        if not read.marked:
            raise InputError(
                "nothing says what was to be forgotten: give these records the part 'forget', or a request "
                "(--ids @FILE, --classes ...)"
            )
        split = Split.of(read.data, Request.of(ids=read.marked), 0.0)
        labels = split.forget.labels
        whole = [
            c for c in labels.unique().tolist() if int((split.train.labels == c).sum()) == int((labels == c).sum())
        ]
        names = ", ".join(read.data.classes[c] for c in whole)
        said = f"Every training record of class {names} is to be forgotten; a request of classes would ask about that."
        return split, [said] if whole and len(split.retain_classes) > len(whole) else []
    split = Split.of(read.data, request, 0.0)
    asked = set(read.data.ids[split.positions["forget"]].tolist()) if read.data.ids is not None else set()
    if read.marked and asked != set(read.marked):
        raise InputError(
            f"the request ({request.describe()}) means {len(asked)} records, but the part of {len(read.marked)} is "
            f"'forget', {len(asked & set(read.marked))} of them the same; leave the request out, or call the part train"
        )
    return split, []


def _look(read: Predictions, split: Split) -> None:
    """Warn where the original hardly knows its own training records: labels and predictions are then mixed up."""
    part = split.train
    accuracy = accuracy_of(Recorded(read.logits[0]), part)
    if (commonest := as_naming_the_commonest(accuracy, part.labels)) is not None:
        warnings.warn(
            f"the model before forgetting gets {accuracy:.1%} of its {len(part)} training records right, and the "
            f"commonest class alone would give {commonest:.1%}: check that labels, ids and classes belong to the "
            "predictions",
            InputWarning,
            stacklevel=3,
        )


def _rows(
    tables: Mapping[str, Answers],
    read: Predictions,
    split: Split,
    notes: tuple[str, ...],
    made_of: tuple[str, int, int],
) -> Rows:
    """Return the models as rows, with that of masking the forgotten classes, which needs no model."""
    from efface.auditing.measures.accuracy import mask_classes
    from efface.auditing.rows import Row, Rows

    candidate, retrained, repeats = made_of
    names = list(tables)
    models = {row: Recorded(z) for row, z in zip(names, read.logits, strict=True)}
    roles: dict[str, Role] = {"original": "original", candidate: "candidate"}
    roles |= dict.fromkeys(names[1 : 1 + retrained], "retrained")
    rows = [Row(row, roles.get(row, "other"), model) for row, model in models.items()]
    further, runs = rows[2 : 1 + retrained], rows[len(rows) - repeats :]
    table: list[Row] = [row for row in rows if row not in further and row not in runs]
    if split.forget_classes:
        masked = Recorded(mask_classes(torch.as_tensor(read.logits[0]), split.forget_classes))
        table.insert(len(table) - 1, Row("logit mask", "baseline", masked))
    return Rows(tuple(table), further=tuple(further), repeats=tuple(runs), notes=notes)
