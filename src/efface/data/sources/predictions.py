"""What models answered, as tables: ids, labels, parts, and a logit or probability per class; no model is needed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from efface.data.data import Data
from efface.data.samples import ArraySamples
from efface.data.sources.columns import column_of, plain, read_table, values_of
from efface.errors import InputError, nearest
from efface.words import count, counted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["COLUMNS", "PARTS", "Predictions", "predictions"]

COLUMNS = ("id", "label", "part", "group")
"""What a table says of a record, beside the scores; others are metadata."""

PARTS = {
    "forget": "forget",
    "retain": "retain",
    "train": "retain",
    "held-out": "held-out",
    "held_out": "held-out",
    "test": "held-out",
}
"""What the column `part` may say: to be forgotten, trained on besides, never trained on."""

SUM = 0.01
"""How far a row of probabilities may be from 1: they were rounded when they were written."""

FLOOR = 1e-3
"""What a probability of 0 counts as at most; half of the smallest positive one where that is less."""

SHOWN = 5

Kind = Literal["prob", "logit"]

Table = pd.DataFrame | str | Path


@dataclass(frozen=True, eq=False)
class Predictions:
    """What several models answered about the same records.

    Attributes:
        data: The records: those trained on, and those held out. A record's input is its position in `logits`.
        logits: One per table, (records, classes) float64; of probabilities, their logarithms.
        marked: Ids of the records whose part is `forget`.
        notes: What was read, and what was done to it.
    """

    data: Data
    logits: tuple[Tensor, ...]
    marked: tuple[str, ...]
    notes: tuple[str, ...]


class _Positions(ArraySamples):
    """Records by their positions in a table; they are told apart by their ids and labels."""

    def __init__(self, positions: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> None:
        super().__init__(positions[:, None].astype(np.int64), labels)
        self._fingerprint = hashlib.sha256(
            "\n".join(f"{i}\t{y}" for i, y in zip(ids.tolist(), labels.tolist(), strict=True)).encode()
        ).hexdigest()


def predictions(
    tables: Mapping[str, ArrayLike | Tensor | pd.DataFrame | str | Path],
    *,
    labels: Sequence[Any] | np.ndarray | None = None,
    parts: Sequence[str] | np.ndarray | None = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    logits: bool = False,
    columns: Mapping[str, str] | None = None,
    name: str = "predictions",
) -> Predictions:
    """Read what several models answered about the same records.

    A table (.csv, .parquet or pandas) has a column `id`, and one `prob_CLASS` or `logit_CLASS` for each class, all of
    one kind. The first also has `label` and `part` (see `PARTS`), and may have `group`; its other columns are metadata.
    Rows of the others may be in any order. An array is (records, classes), its rows in the order of `labels`.

    A probability of 0, whose logarithm would be infinite, counts as min(0.001, half of the smallest positive one).

    Args:
        tables: By what messages call each; the first is of the model before forgetting. All tables, or all arrays.
        labels: For arrays: class names or numbers, one per record.
        parts: For arrays: the part of each record.
        ids: For arrays: an id of each record's own; by default its row number.
        groups: For arrays: who each record belongs to.
        classes: For arrays: class names in the order of the columns; by default 0, 1, ...
        logits: For arrays: they are logits, not probabilities.
        columns: For tables: another name of `id`, `label`, `part` or `group`.
        name: What to call the records.

    Raises:
        InputError: A table cannot be read, a column is missing, ids are doubled or differ between tables, a label is no
            class, a part is unknown or empty, scores are no numbers, or probabilities do not sum to 1.
    """
    arrays = [not isinstance(t, Table) for t in tables.values()]
    about = {"labels": labels, "parts": parts, "ids": ids, "groups": groups, "classes": classes}
    if any(arrays) and not all(arrays):
        raise InputError("some predictions are arrays and some are tables; give all in one form")
    if all(arrays):
        if columns:
            raise InputError("columns names columns of tables; these predictions are arrays")
        frames = _frames_of_arrays(tables, about, logits)
        named = dict.fromkeys(COLUMNS, "")
        columns = {}
    else:
        given = [k for k, v in about.items() if v is not None] + ["logits"] * logits
        if given:
            raise InputError(f"{', '.join(given)} given beside tables, which say this in their columns; leave it out")
        named = {c: (columns or {}).get(c, c) for c in COLUMNS}
        frames = {where: _frame(t, where, named) for where, t in tables.items() if isinstance(t, Table)}
    if unknown := sorted(set(columns or ()) - set(COLUMNS)):
        raise InputError(f"no column {unknown[0]!r} can have another name. {nearest(unknown[0], COLUMNS)}")
    return _put_together(frames, {c: named[c] or c for c in COLUMNS}, name)


def _put_together(frames: Mapping[str, pd.DataFrame], named: Mapping[str, str], name: str) -> Predictions:
    """Check tables against each other, and make data and logits of them."""
    first, frame = next(iter(frames.items()))
    order = _ids(frame, named["id"], first)
    kinds = {where: _scores(f, where) for where, f in frames.items()}
    classes = [c.removeprefix(f"{kinds[first][0]}_") for c in kinds[first][1]]
    rows = {where: _aligned(f, named, where, order) for where, f in frames.items()}
    values = {w: _matrix(f, w, kinds[w], classes, order, rows[w]) for w, f in frames.items()}
    for where, other in list(frames.items())[1:]:
        _same_facts(other.iloc[rows[where]], frame, where, first, named, order)
    labels = _labels(frame, named["label"], first, classes)
    part = _parts(frame, named["part"], first)
    trained, unseen = np.flatnonzero(part != "held-out"), np.flatnonzero(part == "held-out")
    groups = values_of(column_of(frame, named["group"], first)) if named["group"] in frame else None
    aside = {*named.values(), *kinds[first][1]}
    data = Data(
        name,
        _Positions(trained, labels[trained], order[trained]),
        _Positions(unseen, labels[unseen], order[unseen]),
        tuple(classes),
        None if groups is None else groups[trained],
        {str(c): plain(frame[c])[trained] for c in frame.columns if c not in aside},
        source="predictions",
        ids=order[trained],
        test_groups=None if groups is None else groups[unseen],
    )
    made, notes = _logits(values, {w: kind for w, (kind, _) in kinds.items()})
    return Predictions(data, made, tuple(order[part == "forget"].tolist()), notes)


def _frames_of_arrays(tables: Mapping[str, Any], about: Mapping[str, Any], logits: bool) -> dict[str, pd.DataFrame]:
    """Return arrays as the tables they stand for."""
    frames: dict[str, pd.DataFrame] = {}
    for needed in ("labels", "parts"):
        if about[needed] is None:
            raise InputError(f"{needed} is missing: of arrays of predictions, say the {needed[:-1]} of each row")
    for where, table in tables.items():
        values = np.asarray(table.detach().cpu() if isinstance(table, Tensor) else table)
        if values.ndim != 2 or values.dtype.kind not in "iuf":
            raise InputError(
                f"{where}: predictions have shape {values.shape} and type {values.dtype}; needed: numbers, one row for "
                "each record, one column for each class"
            )
        names = list(map(str, about["classes"] if about["classes"] is not None else range(values.shape[1])))
        if len(names) != values.shape[1] or len(set(names)) < len(names):
            raise InputError(f"{where}: {values.shape[1]} columns for {len(names)} class names; give one name for each")
        kind = "logit" if logits else "prob"
        frame = pd.DataFrame(values.astype(np.float64), columns=[f"{kind}_{c}" for c in names])
        facts = {"id": about["ids"] if about["ids"] is not None else np.arange(len(values))}
        if not frames:
            facts |= {"label": about["labels"], "part": about["parts"], "group": about["groups"]}
        for column, fact in facts.items():
            if fact is None:
                continue
            if len(fact) != len(frame):
                raise InputError(f"{where}: {len(frame)} rows, and {len(fact)} entries of {column}; needed: one each")
            frame[column] = np.asarray(fact.cpu() if isinstance(fact, Tensor) else fact)
        frames[where] = frame
    return frames


def _frame(table: Table, where: str, named: Mapping[str, str]) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        frame = table.rename(columns=str)
    elif not Path(table).is_file():
        raise InputError(f"no predictions at {table}; needed: a .csv or .parquet file")
    else:
        frame = read_table(Path(table), list(named.values()))
    if len(frame) == 0:
        raise InputError(f"{where} has no rows")
    return frame


def _text(column: pd.Series[Any]) -> np.ndarray:
    """Return ids or labels as text; whole numbers that came as floats without their point."""
    values = column.to_numpy()
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all():
        values = values.astype(np.int64)
    return np.array([str(v).strip() for v in values.tolist()], dtype=str)


def _ids(frame: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """Return the ids of a table's rows.

    Raises:
        InputError: There is no such column, or an id stands twice.
    """
    found = _text(column_of(frame, column, where))
    values, counts = np.unique(found, return_counts=True)
    if len(values) < len(found):
        raise InputError(
            f"{where}: {counted(int((counts > 1).sum()), 'id stands', 'ids stand')} more than once: "
            f"{_listed(values[counts > 1].tolist())}; one "
            "row for each record"
        )
    return found


def _listed(names: Iterable[str]) -> str:
    several = list(names)
    more = f" and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
    return ", ".join(several[:SHOWN]) + more


def _aligned(frame: pd.DataFrame, named: Mapping[str, str], where: str, order: np.ndarray) -> np.ndarray:
    """Return the row of a table for each id of the first.

    Raises:
        InputError: They are not about the same records.
    """
    place = {i: row for row, i in enumerate(_ids(frame, named["id"], where).tolist())}
    wanted = order.tolist()
    lost, extra = [i for i in wanted if i not in place], sorted(place.keys() - set(wanted))
    if lost or extra:
        said = [f"it lacks {counted(len(lost), 'id')} ({_listed(lost)})"] * bool(lost)
        said += [
            f"{counted(len(extra), 'of its ids is', 'of its ids are')} not in the first ({_listed(extra)})"
        ] * bool(extra)
        raise InputError(f"{where} is not about the same records as the first table: {'; '.join(said)}")
    return np.array([place[i] for i in wanted], dtype=np.int64)


def _scores(frame: pd.DataFrame, where: str) -> tuple[Kind, list[str]]:
    """Return whether a table holds probabilities or logits, and in which columns."""
    found: dict[Kind, list[str]] = {
        kind: [str(c) for c in frame.columns if str(c).startswith(f"{kind}_")] for kind in ("prob", "logit")
    }
    both = [kind for kind, columns in found.items() if columns]
    if len(both) != 1:
        said = "both prob_... and logit_... columns" if both else "neither prob_... nor logit_... columns"
        raise InputError(f"{where} has {said}; needed: one column for each class, e.g. prob_cat, prob_dog")
    columns = found[both[0]]
    if len(columns) < 2:
        raise InputError(
            f"{where} has one column of scores ({columns[0]}); needed: one for each class. Of two classes, the other's "
            "probability is 1 - p (its logit 0)"
        )
    return both[0], columns


def _matrix(
    frame: pd.DataFrame,
    where: str,
    scores: tuple[Kind, list[str]],
    classes: Sequence[str],
    ids: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Return a table's scores in the first table's order of records and classes.

    Raises:
        InputError: The classes differ, or a score is no number that it can be.
    """
    kind, columns = scores
    own = [c.removeprefix(f"{kind}_") for c in columns]
    if sorted(own) != sorted(classes):
        raise InputError(f"{where} has scores for the classes {_listed(own)}; the first table: {_listed(classes)}")
    wanted = [f"{kind}_{c}" for c in classes]
    for column in wanted:
        if column_of(frame, column, where).dtype.kind not in "iuf":
            raise InputError(f"{where}: column {column!r} holds no numbers, e.g. {frame[column].iloc[0]!r}")
    values = frame[wanted].to_numpy(np.float64)[rows]
    bad = np.isposinf(values) | (np.isneginf(values) if kind == "prob" else np.isneginf(values).all(1, keepdims=True))
    if bad.any():
        raise InputError(
            f"{where}: {counted(int(bad.any(1).sum()), 'row holds', 'rows hold')} infinite scores "
            f"({_listed(ids[bad.any(1)].tolist())}); "
            "leave no class without a number"
        )
    if kind == "prob":
        _check_probabilities(values, ids, where)
    return values


def _check_probabilities(values: np.ndarray, ids: np.ndarray, where: str) -> None:
    """Refuse rows that are no probabilities.

    Raises:
        InputError: One lies outside 0 and 1, or a row does not sum to 1.
    """
    outside, sums = (values < 0) | (values > 1 + SUM), values.sum(1)
    wrong = outside.any(1) | (np.abs(sums - 1) > SUM)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{where}: {int(wrong.sum())} of {counted(len(values), 'row')} are no probabilities, which lie "
            "between 0 and 1 and "
            f"sum to 1; the first, id {ids[row]}, sums to {sums[row]:.4g}, its least is {values[row].min():.4g}. If "
            "these are logits, name the columns logit_... (of arrays: logits=True)"
        )


def _same_facts(
    frame: pd.DataFrame, first: pd.DataFrame, where: str, name: str, named: Mapping[str, str], order: np.ndarray
) -> None:
    """Refuse a table, in the first's order, that says other labels, parts or groups."""
    for column in (named[c] for c in COLUMNS[1:]):
        if column in frame and column in first:
            differ = _text(frame[column]) != _text(first[column])
            if differ.any():
                raise InputError(
                    f"{where} and {name} disagree on the column {column!r} of {counted(int(differ.sum()), 'record')}: "
                    f"{_listed(order[differ].tolist())}"
                )


def _labels(frame: pd.DataFrame, column: str, where: str, classes: Sequence[str]) -> np.ndarray:
    """Return class numbers; labels are class names, or numbers of the classes.

    Raises:
        InputError: A label is no class.
    """
    found = _text(column_of(frame, column, where))
    number = {c: i for i, c in enumerate(classes)}
    if all(f.isdecimal() for f in found.tolist()) and not set(found.tolist()) <= number.keys():
        number = {str(i): i for i in range(len(classes))}
    unknown = sorted(set(found.tolist()) - number.keys())
    if unknown:
        raise InputError(
            f"{where}: {counted(len(unknown), 'label is', 'labels are')} no class that has scores: "
            f"{_listed(unknown)}; the classes are "
            f"{_listed(classes)}"
        )
    return np.array([number[f] for f in found.tolist()], dtype=np.int64)


def _parts(frame: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """Return `forget`, `retain` or `held-out` for each record.

    Raises:
        InputError: A part is unknown, or nothing was trained on, or nothing held out.
    """
    found = _text(column_of(frame, column, where))
    unknown = sorted(set(found.tolist()) - PARTS.keys())
    if unknown:
        raise InputError(
            f"{where}: column {column!r} holds {_listed(map(repr, unknown))}. {nearest(unknown[0], PARTS)}"
        )
    part = np.array([PARTS[f] for f in found.tolist()])
    for needed, meant in (
        ("retain", "records that were trained on and stay"),
        ("held-out", "records never trained on"),
    ):
        if not (part == needed).any():
            raise InputError(
                f"{where}: no record is {needed!r} by its column {column!r}; an audit needs predictions for {meant}"
            )
    return part


def _logits(values: Mapping[str, np.ndarray], kinds: Mapping[str, Kind]) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """Return logits, and notes of what was read; log p, where 0 counts as the least that tables of this kind tell."""
    positive = [v[v > 0].min() for w, v in values.items() if kinds[w] == "prob"]
    least = min(FLOOR, *(p / 2 for p in positive)) if positive else math.nan
    made, digests = [], []
    zeros = cells = 0
    for where, v in values.items():
        if kinds[where] == "prob":
            zeros, cells = zeros + int((v <= 0).sum()), cells + v.size
            v = np.log(np.where(v > 0, v, least))
        digests.append(f"{where} {hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest()[:12]}...")
        made.append(torch.from_numpy(v))
    shares = sum(kind == "prob" for kind in kinds.values())
    said = f"Predictions of {len(made)} models, {shares} as probabilities, {len(made) - shares} as logits."
    if zeros:
        said += f" {count(zeros)} of {count(cells)} probabilities are 0 and count as {least:.2g}."
    return tuple(made), (said, f"SHA-256 of the logits that were audited: {', '.join(digests)}.")
