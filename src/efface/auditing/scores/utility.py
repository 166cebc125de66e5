"""Scores of utility: accuracies and the aggregates of the literature."""

from __future__ import annotations

from torch import Tensor

from efface.auditing.answers import Answers
from efface.auditing.measures.accuracy import mask_classes
from efface.auditing.measures.aus import adaptive_unlearning_score
from efface.auditing.measures.lsfm import selective_forgetting_measure
from efface.auditing.measures.tow import tug_of_war
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores, share_score

__all__ = ["MEASURES", "TOW", "tow_score", "utility_scores"]

ACCURACIES = {
    "retain": Measure(
        key="retain_accuracy",
        group="utility",
        title="Accuracy, kept training data",
        unit="share",
        best="reference",
        reading="Share of the training records that stay which the model still gets right.",
    ),
    "forget": Measure(
        key="forget_accuracy",
        group="utility",
        title="Accuracy, forget data",
        unit="share",
        best="reference",
        reading="Share of the records to forget that the model still gets right; a retrained model shows what is "
        "normal.",
    ),
    "test_retain": Measure(
        key="test_accuracy",
        group="utility",
        title="Accuracy, test data of kept classes",
        unit="share",
        best="reference",
        reading="Share of unseen records of the kept classes that the model gets right.",
    ),
    "test_forget": Measure(
        key="test_forget_accuracy",
        group="utility",
        title="Accuracy, test data of forgotten classes",
        unit="share",
        best="reference",
        reading="Share of unseen records of the forgotten classes that are still recognised.",
    ),
}
"""By part."""

MASKED = Measure(
    key="test_accuracy_masked",
    group="utility",
    title="Test accuracy with forgotten classes ruled out",
    unit="share",
    best="reference",
    reading="Accuracy on kept classes when the answer may not be a forgotten class: what masking alone would gain.",
)

TOW = Measure(
    key="tow",
    group="utility",
    title="Tug of war (ToW)",
    unit="share",
    best="1",
    source="arXiv 2406.01257",
    compares=True,
    reading="Product of one minus the accuracy gap to the retrained model on forget, kept and test data.",
)

AUS = Measure(
    key="aus",
    group="utility",
    title="Adaptive unlearning score (AUS)",
    unit="number",
    best="1",
    source="arXiv 2312.02052",
    least=None,
    reading="Test accuracy kept, divided by one plus what is still recognised of the forget data.",
)

LSFM = Measure(
    key="lsfm",
    group="utility",
    title="Selective forgetting measure (LSFM)",
    unit="share",
    best="reference",
    source="IJCAI 2021, 989-996",
    reading="Harmonic mean of the test accuracy on kept classes and of what forgotten ones lost; a retrained model "
    "shows how much can be had.",
)

MEASURES = (*ACCURACIES.values(), MASKED, TOW, AUS, LSFM)


def utility_scores(answers: Answers, retrained: Answers | None, original: Answers) -> Scores:
    """Return accuracies, ToW, AUS and LSFM.

    Args:
        answers: The model's.
        retrained: The retrained model's, if there is one.
        original: The original model's.
    """
    aus = adaptive_unlearning_score(
        test=answers.accuracy("test_retain"),
        test_original=original.accuracy("test_retain"),
        forget=answers.accuracy("forget"),
        items=not answers.records.by_class,
    )
    return {
        **{m.key: _accuracy(answers, retrained, part) for part, m in ACCURACIES.items()},
        MASKED.key: _masked(answers, retrained),
        TOW.key: tow_score(answers, retrained),
        AUS.key: Score(value=aus),
        LSFM.key: _lsfm(answers, original),
    }


def _accuracy(answers: Answers, retrained: Answers | None, part: str) -> Score:
    if len(answers.labels[part]) == 0:
        no_class = part == "test_forget" and not answers.records.by_class
        return Score.missing("the request names no class" if no_class else f"no {part} records")
    theirs = None if retrained is None else retrained.correct(part)
    return share_score(answers.correct(part), theirs, answers.records)


def _masked(answers: Answers, retrained: Answers | None) -> Score:
    records = answers.records
    if not records.by_class:
        return Score.missing("the request names no class")
    if len(answers.labels["test_retain"]) == 0:
        return Score.missing("the test data has no record of a kept class")

    def hits(of: Answers) -> Tensor:
        masked = mask_classes(of.logits["test_retain"], records.split.forget_classes)
        return masked.argmax(1) == of.labels["test_retain"]

    return share_score(hits(answers), None if retrained is None else hits(retrained), records)


def _lsfm(answers: Answers, original: Answers) -> Score:
    if not answers.records.by_class:
        return Score.missing("the request names no class")
    if empty := [part for part in ("test_retain", "test_forget") if len(answers.labels[part]) == 0]:
        return Score.missing(f"no {empty[0]} records")
    lost = original.accuracy("test_forget") - answers.accuracy("test_forget")
    return Score(value=selective_forgetting_measure(answers.accuracy("test_retain"), lost))


def tow_score(answers: Answers, retrained: Answers | None) -> Score:
    """Return ToW against one other model.

    Args:
        answers: The model's.
        retrained: A retrained model's, if there is one.
    """
    if retrained is None or retrained is answers:
        return Score.missing(NO_REFERENCE if retrained is None else ITS_OWN)
    parts = ("forget", "retain", "test_retain")
    return Score(value=tug_of_war(*({part: of.accuracy(part) for part in parts} for of in (answers, retrained))))
