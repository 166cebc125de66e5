"""Scores of the single record that stands out most: a deletion request concerns one person, not a mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.auditing.answers import Answers
from efface.auditing.measures.exposure import deviations, deviations_beside_unseen, largest
from efface.auditing.measures.klom import CLIP
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import ITS_OWN, NO_REFERENCE, Score, Scores
from efface.errors import InputError
from efface.words import counted

__all__ = ["BESIDE_UNSEEN", "LEAST", "MEASURES", "beside_unseen", "exposure_scores"]

LEAST = 3
"""Other retrained models from which a record's own spread is known at all."""

EXPOSURE = Measure(
    key="exposure",
    group="membership",
    title="Largest deviation of a single forget record",
    unit="number",
    best="reference",
    scale="size",
    least=None,
    reading="Of all forget records, the one whose margin lies furthest from what retrained models give it, in standard "
    "deviations: above 0 it is known better, below 0 rejected more. The noise floor is the same for each retrained "
    "model beside the others.",
)

BESIDE_UNSEEN = Measure(
    key="exposure_ratio",
    group="membership",
    title="Largest deviation of a forget record, beside unseen records'",
    unit="number",
    best="reference",
    scale="size",
    compares=True,
    least=None,
    reading="The largest difference of a forget record's margin from the retrained model's, over the largest that as "
    "many unseen records show where the retrained model is as sure or wrong; about 1 (or -1) if neither model saw "
    "them.",
)

MEASURES = (EXPOSURE, BESIDE_UNSEEN)


def exposure_scores(answers: Answers, reference: Answers | None, retrained: Sequence[Answers]) -> Scores:
    """Return the largest standardised deviation of one record, and its size beside unseen records'.

    Args:
        answers: The model's.
        reference: Of the retrained model of the table, if there is one.
        retrained: Of all retrained models; the model itself is left out.
    """
    return {EXPOSURE.key: _standardised(answers, retrained), BESIDE_UNSEEN.key: beside_unseen(answers, reference)}


def _standardised(answers: Answers, retrained: Sequence[Answers]) -> Score:
    others = [r for r in retrained if r is not answers]
    if len(others) < LEAST:
        return Score.missing(
            f"a record's own spread needs {LEAST + 1} retrained models, and 8 to find most single records; there "
            f"{'is' if len(retrained) == 1 else 'are'} {len(retrained)}"
        )
    z, _, words = deviations(answers.margin("forget"), torch.stack([r.margin("forget") for r in others]))
    return Score(value=largest(z), why=f"record {_name(answers, z)}; {words}")


def beside_unseen(answers: Answers, reference: Answers | None) -> Score:
    """Return the largest difference of a forget record's margin from one other model's, beside unseen records'.

    Args:
        answers: The model's.
        reference: A retrained model's, if there is one.
    """
    if reference is None or reference is answers:
        return Score.missing(NO_REFERENCE if reference is None else ITS_OWN)
    own, expected = (m.margin("forget").clamp(-CLIP, CLIP) for m in (answers, reference))
    unseen, unseen_expected = (m.unseen_margins.clamp(-CLIP, CLIP) for m in (answers, reference))
    try:
        v = deviations_beside_unseen(own - expected, expected, unseen - unseen_expected, unseen_expected)
    except InputError as error:
        return Score.missing(str(error))
    unseen_records = counted(len(answers.labels["held_out"]), "unseen record")
    return Score(value=largest(v), why=f"record {_name(answers, v)}; {unseen_records}")


def _name(answers: Answers, by: Tensor) -> str:
    """Return the number of the forget record that deviates most, and the id that its owner gave it."""
    position, ids = int(answers.records.parts["forget"].indices[int(by.abs().argmax())]), answers.records.split.data.ids
    return str(position) if ids is None else f"{position} ({str(ids[position])!r})"
