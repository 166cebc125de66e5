"""Figures of an audit: what is drawn, its words and the numbers behind it; nothing is drawn here."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from efface.auditing import figures as module
from efface.auditing.figures import illustrations
from efface.auditing.plots import MOST_CLASSES, Plots
from efface.auditing.scores.score import Score
from efface.figures.style import BLACK, BLUE, INK
from tests.report.conftest import build

SHOWN = ("original", "mnemonic", "retrained")


@pytest.fixture
def asked(monkeypatch):
    """What each drawing function was called with, by its name."""
    calls = {}

    def stub(name):
        def draw(*given, **named):
            calls.setdefault(name, []).append((given, named))
            return f"drawn by {name}"

        return draw

    for name in ("class_bars", "confusions", "curves", "histograms", "time_bars"):
        monkeypatch.setattr(module, name, stub(name))
    return calls


def drawn(audit, record=None):
    return illustrations(audit, record)


def percents(*shares):
    return tuple(f"{100 * s:.1f}\u00a0%" for s in shares)


def plots(audit, **changes):
    """An audit with other arrays to draw."""
    return audit.model_copy(update={"plots": audit.plots.model_copy(update=changes)})


def test_what_there_is_no_data_for_is_not_drawn(asked):
    names = ["classes", "confusion", "answers", "margins", "relearning", "time", "steps"]
    audit = build(drawn=True)
    assert list(drawn(audit)) == names
    by = ["class_bars", "confusions", "class_bars", "histograms", "curves", "time_bars", "curves"]
    for (name, made), function in zip(drawn(audit).items(), by, strict=True):
        assert made.key == f"fig-{name}"
        assert made.figure == f"drawn by {function}"
    assert list(drawn(audit.model_copy(update={"plots": Plots()}))) == ["time"]
    # The model before beside itself is no comparison.
    same = audit.model_copy(update={"candidate": "original"})
    assert list(drawn(same)) == ["confusion", "margins", "relearning", "time", "steps"]
    for missing in ("original", "mnemonic"):
        few = plots(audit, per_class={k: v for k, v in audit.plots.per_class.items() if k != missing})
        assert "classes" not in drawn(few)
        few = plots(audit, forget_answers={**audit.plots.forget_answers, missing: (0, 0, 0)})
        assert "answers" not in drawn(few)


def test_accuracy_by_class(asked):
    made = drawn(build(drawn=True))["classes"]
    caption = "Accuracy on unseen test data, before → after, in percent; forgotten classes in bold."
    tick = " The black tick is the model retrained without the data."
    assert (made.title, made.caption, made.head) == ("Accuracy by class", caption + tick, ("Class", *SHOWN))
    columns = {name: [share / (1 + j) for j in range(3)] for name, share in zip(SHOWN, (0.9, 0.5, 0.8), strict=True)}
    assert made.rows[1] == ("one", *percents(0.45, 0.25, 0.4))
    (given, named) = asked["class_bars"][0]
    assert given == (["zero", "one", "two"], *(pytest.approx(c) for c in columns.values()))
    assert named == {"marked": [1], "series": SHOWN, "x_label": "test accuracy"}
    alone = drawn(build("a", drawn=True, forget_classes=()))["classes"]
    assert alone.caption == "Accuracy on unseen test data, before → after, in percent."
    assert alone.head == ("Class", *SHOWN[:2])
    assert asked["class_bars"][-2][1] == {"marked": [], "series": (*SHOWN[:2], ""), "x_label": "test accuracy"}
    gap = plots(build(drawn=True), per_class=dict.fromkeys(SHOWN, (0.5, None, 0.25)))
    assert drawn(gap)["classes"].rows[1] == ("one", *["no data"] * 3)


def test_where_the_forgotten_records_went(asked):
    audit = build(drawn=True)
    audit = plots(audit, forget_answers={**audit.plots.forget_answers, "mnemonic": (6, 0, 2)})
    made = drawn(audit)["answers"]
    assert (made.title, made.head) == ("Where the forgotten records went", ("Class", *SHOWN))
    caption = "What each model answers for the records to forget, as a share of them, before → after, in percent."
    assert made.caption == f"{caption} Where the black ticks lie is where a model that never saw them sends them."
    assert made.rows == (
        ("zero", *percents(1 / 6, 0.75, 1 / 6)),
        ("one", *percents(1 / 3, 0.0, 1 / 3)),
        ("two", *percents(0.5, 0.25, 0.5)),
    )
    assert asked["class_bars"][1][1]["x_label"] == "share of answers"
    assert drawn(build("a", drawn=True))["answers"].caption == caption


def test_of_many_classes_some_are_drawn_and_the_caption_says_which(asked):
    many = tuple(f"c{i}" for i in range(1200))
    audit = build(names=many, drawn=True)
    shares = dict.fromkeys(SHOWN, (0.5,) * 1200) | {"mnemonic": (*(0.5,) * 1180, *(0.0,) * 20)}
    shown = (1, *range(1180, 1200))
    table = tuple(tuple(1000 * i + j for j in range(22)) for i in range(22))
    audit = plots(audit, per_class=shares, confusion=dict.fromkeys(SHOWN, table), confusion_classes=shown)
    made = drawn(audit)
    said = " Of 1,200 classes these {}: the forgotten ones, and the most changed."
    assert made["classes"].caption.endswith(said.format(MOST_CLASSES))
    assert asked["class_bars"][0][0][0] == ["c1", *(f"c{i}" for i in range(1180, 1199))]
    assert asked["class_bars"][0][1]["marked"] == [0]
    confusion = made["confusion"]
    assert confusion.caption.endswith("that got each answer." + said.format(21))
    (given, named) = asked["confusions"][0]
    assert given == (dict.fromkeys(SHOWN[:2], table), [*(f"c{c}" for c in shown), "all others"])
    assert named == {"marked": [0]}
    assert (confusion.head, confusion.rows) == ((), ())  # 22 columns are no table


def test_confusion_before_and_after(asked):
    audit = build(drawn=True)
    table = ((1500, 2, 0), (1, 50, 2), (0, 3, 40))
    audit = plots(audit, confusion={**audit.plots.confusion, "mnemonic": table})
    made = drawn(audit)["confusion"]
    assert made.title == "Confusion before and after"
    assert made.caption == (
        "Each row holds the unseen test records of one class; the shade is the share, in percent, that got each answer."
    )
    assert made.head == ("Records of mnemonic", "answered zero", "answered one", "answered two")
    assert made.rows == (("zero", "1,500", "2", "0"), ("one", "1", "50", "2"), ("two", "0", "3", "40"))
    ((given, named),) = asked["confusions"]
    assert given == ({"original": audit.plots.confusion["original"], "mnemonic": table}, ["zero", "one", "two"])
    assert named == {"marked": [1]}
    before = drawn(plots(audit, confusion={"original": table, "retrained": table}))["confusion"]
    assert (before.head, before.rows) == ((), ())
    assert list(asked["confusions"][-1][0][0]) == ["original"]
    assert "confusion" not in drawn(plots(audit, confusion={"retrained": table}))
    names = tuple(f"c{i}" for i in range(MOST_CLASSES + 1))
    assert len(drawn(build(names=names, drawn=True))["confusion"].rows) == MOST_CLASSES + 1


def test_margins(asked):
    made = drawn(build(drawn=True))["margins"]
    assert (made.title, made.head, made.rows) == ("How sure the model is of the right answer", (), ())
    assert made.caption == (
        "The margin is how far the right class is ahead of all others together: positive means recognised. Records to "
        "forget (filled) should lie as they do for a model that never saw them, and as unseen records do (outline)."
    )
    ((given, named),) = asked["histograms"]
    assert given == ({name: {"forget": (3, 4), "held out": (3, 4)} for name in SHOWN}, (-1.0, 0.0, 1.0))
    assert named == {"x_label": "margin (values beyond the axis stand in the outermost bars)"}
    others = build(drawn=True)
    others = plots(others, margins=tuple(h for h in others.plots.margins if h.row == "fine-tuned"))
    assert "margins" not in drawn(others)


def test_relearning(asked):
    course = tuple(i / 60 for i in range(61))
    audit = plots(build(drawn=True), relearning={"original": (1.0,), "mnemonic": course, "retrained": (), "x": course})
    made = drawn(audit)["relearning"]
    assert (made.title, made.head) == ("How fast it is learnt again", ("Step", "original", "mnemonic"))
    assert made.caption == (
        "Fine-tuning on the forgotten records, step by step, until they are known again. A model that really lacks the "
        "knowledge needs as long as the retrained one."
    )
    # The first ten steps, every third and the last.
    assert [int(row[0]) for row in made.rows] == [*range(10), *range(12, 61, 3)]
    assert made.rows[0] == ("0", "100.0\u00a0%", "0.0\u00a0%")
    assert made.rows[3] == ("3", "", "5.0\u00a0%")
    ((given, named),) = (call for call in asked["curves"] if call[1]["x_label"] != "step")
    assert given == (range(61), {"original": (1.0,), "mnemonic": course})
    assert named == {
        "x_label": "training steps on the records to forget",
        "y_label": "accuracy on them",
        "styles": {"original": (INK, "-"), "mnemonic": (BLUE, "-"), "retrained": (BLACK, "--")},
        "height": 280,
    }
    longer = drawn(plots(audit, relearning={"mnemonic": (0.0,) * 62}))["relearning"]
    assert longer.rows[-1][0] == "61"  # which is no multiple of three
    assert "relearning" not in drawn(plots(audit, relearning={"original": (1.0,)}))
    assert len(drawn(plots(audit, relearning={"original": (0.0, 1.0)}))["relearning"].rows) == 2


def timed(**seconds):
    audit = build()
    rows = [r.model_copy(update={"scores": {**r.scores, "seconds": Score(value=1.0)}}) for r in audit.rows]
    for row in rows:
        row.scores["seconds"] = Score(value=seconds[row.name]) if row.name in seconds else Score.missing("unknown")
    return audit.model_copy(update={"rows": tuple(rows)})


def test_time(asked):
    made = drawn(timed(retrained=20.0, original=0.0, mnemonic=0.5))["time"]
    assert (made.title, made.head) == ("Time", ("Model", "Wall time"))
    assert made.caption == "Wall time of making each model; each mark on the axis is ten times the one before."
    assert made.rows == (("retrained", "20\u00a0s"), ("mnemonic", "500\u00a0ms"))
    ((given, named),) = asked["time_bars"]
    assert given == ({"retrained": 20.0, "mnemonic": 0.5},)
    assert named == {"reference": "retrained", "marked": "mnemonic"}
    assert drawn(timed(original=2.0, mnemonic=0.5))["time"]
    assert asked["time_bars"][-1][1]["reference"] is None
    assert "time" not in drawn(timed(mnemonic=0.5, original=0.0))


def test_accuracies_over_the_steps(asked):
    audit = build(drawn=True)
    made = drawn(audit)["steps"]
    caption = "Accuracy while forgetting went on, as the method recorded it"
    assert (made.title, made.head) == ("Forgetting step by step", ("Step", "retain accuracy", "forget accuracy"))
    assert made.caption == f"{caption}; step 0 is the model before."
    assert made.rows[2] == ("2", *percents(0.9, 0.25))
    (given, named) = next(call for call in asked["curves"] if call[1]["x_label"] == "step")
    assert given == ([0, 1, 2, 3], {"retain accuracy": [0.9] * 4, "forget accuracy": [1.0, 0.5, 0.25, 0.125]})
    assert named == {"x_label": "step", "y_label": "accuracy"}
    rows = audit.plots.history
    for some in (rows[1:], [{**row, "step": 2 * row["step"]} for row in rows]):
        assert drawn(plots(audit, history=tuple(some)))["steps"].caption == f"{caption}."
    # From the record of the model, where the audit was given none; a gap where a row lacks a number.
    record = SimpleNamespace(history=({"stage": "decay", "forget_accuracy": 0.5}, *rows))
    asked.clear()
    made = drawn(plots(audit, history=()), record)["steps"]
    assert made.rows[0] == ("0", "no data", "50.0\u00a0%")
    lines = next(call[0][1] for call in asked["curves"] if call[1]["x_label"] == "step")
    assert math.isnan(lines["retain accuracy"][0])
    assert "steps" not in drawn(plots(audit, history=()))
