"""The tolerances of a verdict are those that docs/metrics.md states."""

import re
from pathlib import Path

import pytest

from efface.auditing.measures.ain import FEW_STEPS
from efface.auditing.questions import QUESTIONS
from efface.auditing.settings import AuditSettings

METRICS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def _stated() -> dict[str, str]:
    """The column "tolerance at level b", by measure."""
    table = METRICS.split("| check | score | tolerance at level b |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines()[2:] if line.startswith("| ")]
    return {key: row[2].strip() for row in rows for key in re.findall(r"`(\w+)`", row[1])}


def _allowed(settings: AuditSettings, measure: str, reference: float | None) -> float:
    (question,) = (q for q in QUESTIONS if q.measure == measure)
    return question.allowed(settings, reference)


def test_the_documented_tolerances_are_the_defaults():
    stated, settings = _stated(), AuditSettings()
    assert {q.measure for q in QUESTIONS} == set(stated) - {"relearn_steps"}
    for measure, text in stated.items():
        if measure in {"relearn_steps", "ain"}:
            assert text == f"factor {settings.ain_factor:g} in steps + {FEW_STEPS}"
        elif measure == "exposure":
            assert text == f"{settings.exposure_factor:g} times the largest of unseen records (`exposure_ratio`)"
            assert _allowed(settings, measure, None) == settings.exposure_factor
        elif measure == "separation":
            assert text == f"factor {settings.separation_factor:g}"
            assert _allowed(settings, measure, 2.0) == pytest.approx(2 * (settings.separation_factor - 1))
        else:
            assert _allowed(settings, measure, 0.5) == float(text.split()[0])


def test_each_tolerance_is_its_own_field():
    settings = AuditSettings(tolerance=0.3, probe_tolerance=0.4, shift_tolerance=0.35, separation_factor=1.5)
    assert _allowed(settings, "test_accuracy", None) == 0.3
    assert _allowed(settings, "probe_recall", None) == 0.3
    assert _allowed(settings, "probe_recall_few", None) == 0.4
    assert _allowed(settings, "forget_shift", None) == 0.35
    assert _allowed(settings, "separation", -4.0) == 2
    assert _allowed(settings, "separation", None) == 0


def test_questions_are_as_many_as_documented():
    classes, items = map(int, re.search(r"\((\d+) of classes, (\d+) of items\)", METRICS).groups())
    assert classes == len(QUESTIONS)
    assert items == sum(q.target == "both" for q in QUESTIONS)
