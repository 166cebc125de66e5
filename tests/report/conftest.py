"""A small audit and record, made by hand: every number is different, so that a swapped one is seen."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from efface.artifact.record import DataRecord, Record
from efface.auditing.catalogue import MEASURES
from efface.auditing.checks import Check
from efface.auditing.exposed import Exposed
from efface.auditing.plots import Histogram, Plots
from efface.auditing.result import Audit, RowScores, Served
from efface.auditing.scores.score import Score
from efface.auditing.verdict import Verdict
from efface.request import Request
from efface.training.recipe import Recipe

ROWS = ("original", "retrained", "fine-tuned", "logit mask", "mnemonic")
UNMEASURED = {"lira_accuracy": "needs many models", "lira_auc": "needs many models", "rmia_tpr": "too few records"}


def score(row: int, column: int, key: str, level: str) -> Score:
    if key in UNMEASURED:
        return Score.missing(UNMEASURED[key])
    value = {"share": 0.1 + 0.02 * column + 0.003 * row, "steps": float(10 * column + row)}.get(
        MEASURES[key].unit, 1.0 + column + 0.1 * row
    )
    ends = {"low": value * 0.9, "high": value * 1.1}
    floors = {"floor": value, "floor_low": value * 0.95, "floor_high": value * 1.05} if level == "c" else {}
    beside = {"original": value * 0.8, "reference": None if level == "a" else value * 0.7}
    return Score(value=value, **ends, **floors, **beside)


def build(
    level: str = "c",
    outcome: str = "differs",
    names: tuple[str, ...] = ("zero", "one", "two"),
    drawn: bool = False,
    **changes,
) -> Audit:
    rows = tuple(
        RowScores(name=name, scores={k: score(r, c, k, level) for c, k in enumerate(MEASURES)})
        for r, name in enumerate(ROWS)
        if level != "a" or name != "retrained"
    )
    classes = len(names)
    table = tuple(tuple(50 if i == j else 2 for j in range(classes)) for i in range(classes))
    checks = (
        Check(key="test", question="Does it work?", outcome="alike", finding="it does", measure="test_accuracy"),
        Check(
            key="probe", question="Is it gone?", outcome="differs", finding="it is not", measure="probe_recall",
            direction="left",
        ),
        Check(key="x", question="Who knows?", outcome="not assessed", finding="nobody", measure="lira_auc"),
    )  # fmt: skip
    fields = {
        "level": level,
        "level_text": f"words of level {level}",
        "candidate": "mnemonic",
        "original": "original",
        "reference": None if level == "a" else "retrained",
        "data": "digits",
        "data_fingerprint": "d" * 64,
        "classes": names,
        "forget_classes": (1,),
        "request": {"classes": [1], "reason": "a person asked", "requested_at": "2026-03-04T05:06:07Z"},
        "request_text": "class 1",
        "request_fingerprint": "e" * 64,
        "counts": {"forget": 1234, "retain": 56789},
        "references": {"a": 0, "b": 1, "c": 5}[level],
        "rows": rows,
        "verdict": Verdict(
            level=level, outcome=outcome, headline=f"Level ({level}), words of level {level}. It has to be said.",
            sentences=("More.",), checks=checks,
        ),
        "exposed": () if level == "a" else (
            Exposed(id=4711, label=1, score=3.5, margin=2.25, expected=-1.5, direction="left", measure="sigmas"),
            Exposed(id=815, label=1, score=-3.0, margin=-9.5, expected=-1.25, direction="over", measure="sigmas"),
        ),
        "plots": Plots() if not drawn else Plots(
            per_class={r.name: tuple((0.9 - 0.1 * i) / (1 + j) for j in range(classes)) for i, r in enumerate(rows)},
            per_class_counts=tuple(54 for _ in names),
            confusion={r.name: table for r in rows},
            forget_answers={r.name: tuple(range(1, classes + 1)) for r in rows},
            margins=tuple(
                Histogram(row=r.name, part=part, edges=(-1.0, 0.0, 1.0), counts=(3, 4))
                for r in rows for part in ("forget", "held out")
            ),
            relearning={r.name: (0.0, 0.5, 1.0) for r in rows},
            history=tuple(
                {"stage": "decay", "step": i, "forget_accuracy": 0.5**i, "retain_accuracy": 0.9} for i in range(4)
            ),
        ),
        "limits": ("This is evidence of diligence, not proof",),
        "notes": ("a sub-sample was drawn",),
        "seconds": 12.0,
    }  # fmt: skip
    return Audit.model_validate({**fields, **changes})


@pytest.fixture
def make_audit() -> Callable[..., Audit]:
    return build


@pytest.fixture
def audit() -> Audit:
    return build()


@pytest.fixture
def record() -> Record:
    shared = {
        "created": datetime(2026, 3, 5, 6, 7, tzinfo=UTC),
        "model": None,
        "data": DataRecord(
            source="digits", options={}, fingerprint="d" * 64, classes=("zero", "one", "two"), input_shape=(1, 8, 8),
            train_size=100, validation=0.1, split_seed=0,
        ),
        "recipe": Recipe(lr=0.0625),
        "seed": 77,
        "device": "cpu",
        "versions": {"efface": "0.1.0", "torch": "2.13.0"},
    }  # fmt: skip
    first = Record(
        action="train", method="mnemonic", settings={"lambda_1": 0.5}, seconds={"train": 60.0}, weights_before="a" * 64,
        weights_after="b" * 64, **shared,
    )  # fmt: skip
    return Record(
        action="forget", method="mnemonic", settings={"lambda_2": 0.25}, seconds={"forget": 0.002},
        request=Request(classes=(1,), reason="a person asked"), request_fingerprint="e" * 64, weights_before="b" * 64,
        weights_after="c" * 64, notes=("searched without data",), parent=first, **shared,
    )  # fmt: skip


def served() -> tuple[Served, ...]:
    """Three requests; what the second forgot came back."""
    shared = {"method": "decay", "fingerprint": "f" * 64, "outcome": "alike", "answer": "no difference found"}
    first = {"text": "group secret-group", "records": 12, "original": 0.98, "then": 0.31, "now": 0.32}
    again = {"outcome": "differs", "answer": "no", "differs": ("Is it gone?",), "now": 0.87}
    return (
        Served(step=1, **shared, **first, retrained=0.33),
        Served(step=2, **{**shared, **again}, text="class <b>7</b>", records=345),
        Served(step=3, **shared, text="class 1", records=1234),
    )


@pytest.fixture
def sequence() -> tuple[Served, ...]:
    return served()
