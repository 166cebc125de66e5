"""The records that leak most: a deletion request concerns one person, not a mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from efface.auditing.answers import Answers
from efface.auditing.measures.exposure import deviations
from efface.auditing.scores.score import Frozen, Number

__all__ = ["Exposed", "most_exposed"]


class Exposed(Frozen):
    """One forget record that the candidate treats unlike a model that never saw it.

    Attributes:
        id: Its position in the training set, as requests name it.
        name: What the data calls it, such as an image's path; empty where it calls it nothing.
        label: Its class number.
        score: How exposed; see `measure`. Records are listed by its size, signs apart.
        margin: The candidate's margin.
        expected: The retrained models' mean margin.
        direction: `left`: known too well; `over`: rejected more than by a model that never saw it.
        measure: What `score` is, in words.
    """

    id: int
    name: str = ""
    label: int
    score: Number
    margin: Number
    expected: Number = None
    direction: Literal["left", "over"]
    measure: str


def most_exposed(candidate: Answers, retrained: Sequence[Answers], k: int) -> tuple[Exposed, ...]:
    """Return the k forget records whose margin is furthest from what retrained models give, worst first.

    Args:
        candidate: The audited model's answers.
        retrained: Of models never trained on the forget data; without any, the list is empty.
        k: How many to list.
    """
    if not retrained or not k:
        return ()
    mine = candidate.margin("forget")
    score, expected, words = deviations(mine, torch.stack([r.margin("forget") for r in retrained]))
    part, ids = candidate.records.parts["forget"], candidate.records.split.data.ids
    worst = score.abs().topk(min(k, len(score))).indices
    return tuple(
        Exposed(
            id=int(part.indices[i]),
            name="" if ids is None else str(ids[part.indices[i]]),
            label=int(candidate.labels["forget"][i]),
            score=float(score[i]),
            margin=float(mine[i]),
            expected=float(expected[i]),
            direction="left" if float(score[i]) > 0 else "over",
            measure=words,
        )
        for i in worst.tolist()
    )
