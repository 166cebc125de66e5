"""Scores of agreement with the retrained model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from efface.auditing.answers import Answers, checked_logits
from efface.auditing.measures.activation_distance import activation_distance
from efface.auditing.measures.agreement import agreement
from efface.auditing.measures.js_divergence import js_divergence
from efface.auditing.measures.zrf import zero_retrain_forgetting
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores, mean_score, share_score
from efface.errors import InputError
from efface.models.reset import reset

__all__ = ["MEASURES", "RandomModel", "agreement_scores", "compared_scores"]


class Agreement(NamedTuple):
    """One comparison with the retrained model's answers.

    Attributes:
        measure: What it is.
        part: Records on which both are asked.
        compared: From both models' logits to one number per record; None for the share of equal answers.
    """

    measure: Measure
    part: str
    compared: Callable[[Tensor, Tensor], Tensor] | None


AGREEMENTS = (
    Agreement(
        Measure(
            key="forget_js",
            group="agreement",
            title="Answers unlike the retrained model's, forget data (JS)",
            unit="share",
            best="0",
            compares=True,
            reading="0: the same probabilities as the retrained model on the forget data; 1: nothing in common.",
        ),
        "forget",
        js_divergence,
    ),
    Agreement(
        Measure(
            key="test_js",
            group="agreement",
            title="Answers unlike the retrained model's, test data (JS)",
            unit="share",
            best="0",
            compares=True,
            reading="The same comparison on unseen records of kept classes.",
        ),
        "test_retain",
        js_divergence,
    ),
    Agreement(
        Measure(
            key="forget_activation_distance",
            group="agreement",
            title="Activation distance, forget data",
            unit="number",
            best="0",
            source="Golatkar et al. 2020",
            compares=True,
            reading="Mean distance between the two models' probability vectors on the forget data.",
        ),
        "forget",
        activation_distance,
    ),
    Agreement(
        Measure(
            key="forget_agreement",
            group="agreement",
            title="Same answer as the retrained model, forget data",
            unit="share",
            best="1",
            compares=True,
            reading="Share of forget records on which both models answer the same class.",
        ),
        "forget",
        None,
    ),
    Agreement(
        Measure(
            key="test_agreement",
            group="agreement",
            title="Same answer as the retrained model, test data",
            unit="share",
            best="1",
            compares=True,
            reading="Share of unseen records of kept classes on which both models answer the same class.",
        ),
        "test_retain",
        None,
    ),
)

ZRF = Measure(
    key="zrf",
    group="agreement",
    title="Zero retrain forgetting (ZRF)",
    unit="share",
    best="reference",
    source="arXiv 2205.08096",
    reading="Likeness to a network with random weights on the forget data; never used in the verdict.",
)

MEASURES = (*(a.measure for a in AGREEMENTS), ZRF)


class RandomModel(NamedTuple):
    """The original's network with random weights.

    Attributes:
        logits: On the forget data; None where the network cannot be given new weights.
        missing: Why there are none.
    """

    logits: Tensor | None
    missing: str = ""

    @classmethod
    def of(cls, original: Answers) -> RandomModel:
        """Ask the original's network, with new weights drawn from the run's seed, about the forget data."""
        records = original.records
        try:
            model = reset(original.model, records.run.number("audit/random twin"))
        except InputError as error:
            return cls(None, str(error))
        return cls(checked_logits(model, records.parts["forget"], name="the model with random weights"))


def agreement_scores(
    answers: Answers, retrained: Answers | None, random_model: RandomModel, *, resamples: int
) -> Scores:
    """Return JS, activation distance and agreement with the retrained model, and ZRF.

    Args:
        answers: The model's.
        retrained: The retrained model's, if there is one.
        random_model: For ZRF.
        resamples: Of the bootstrap; 0 for values only.
    """
    scores = compared_scores(answers, retrained, resamples=resamples)
    if random_model.logits is None:
        scores[ZRF.key] = Score.missing(random_model.missing)
    else:
        scores[ZRF.key] = Score(value=zero_retrain_forgetting(answers.logits["forget"], random_model.logits))
    return scores


def compared_scores(answers: Answers, other: Answers | None, *, resamples: int) -> Scores:
    """Return JS, activation distance and agreement with one other model.

    Args:
        answers: The model's.
        other: A retrained model's, if there is one.
        resamples: Of the bootstrap; 0 for values only.
    """
    return {a.measure.key: _compared(a, answers, other, resamples) for a in AGREEMENTS}


def _compared(asked: Agreement, answers: Answers, retrained: Answers | None, resamples: int) -> Score:
    if retrained is None or retrained is answers:
        return Score.missing(NO_REFERENCE if retrained is None else ITS_OWN)
    if len(answers.labels[asked.part]) == 0:
        return Score.missing(f"no {asked.part} records")
    pair = answers.logits[asked.part], retrained.logits[asked.part]
    if asked.compared is None:
        return share_score(agreement(*pair), None, answers.records)
    return mean_score(asked.compared(*pair), answers.records, asked.measure.key, resamples)
