"""Scores of canaries: what memorised looks like, known because training planted it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from efface.auditing.answers import Answers, checked_logits
from efface.auditing.measures.canaries import canary_statistic, fresh_band, most_by_chance
from efface.auditing.measures.margins import margins
from efface.auditing.measures.roc import auc, least_supported_fpr, tpr_at_fpr
from efface.auditing.records import Records
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Score, Scores
from efface.data.part import Part
from efface.data.planted import displaced
from efface.data.samples import ArraySamples
from efface.errors import InputError
from efface.models.mode import evaluating

__all__ = ["MEASURES", "CanaryRecords", "canary_scores_of"]

KNOWN = Measure(
    key="canary_auc",
    group="membership",
    title="Canaries beside fresh ones (AUC)",
    unit="share",
    best="0.5",
    source="ours, after arXiv 1802.08232",
    reading="Chance that a mislabelled canary of training gets a higher margin than one that was never trained on; "
    "50 % if the model never saw either.",
)

LOW = {
    fpr: Measure(
        key=f"canary_tpr_{key}",
        group="membership",
        title=f"Canaries among the {fpr:.1%} highest of fresh ones",
        unit="share",
        best="0",
        source="ours, after arXiv 1802.08232",
        reading="Share of the mislabelled canaries that stand out above nearly all that were never trained on: one "
        "that is still known is seen here, when the others are gone.",
    )
    for key, fpr in (("1", 0.01), ("01", 0.001))
}

NOISE = Measure(
    key="canary_noise",
    group="membership",
    title="The canaries' own noise in the model's gradients",
    unit="number",
    best="0",
    least=None,
    source="arXiv 2406.17216",
    reading="Whether the loss falls towards the noise that was added to the correctly labelled canaries: in standard "
    "deviations, 0 for a model that never saw it, below 0 for one that remembers.",
)

MEASURES = (KNOWN, *LOW.values(), NOISE)

FRESH = 1000
"""Most records of which fresh canaries are made."""

LABELS = 9
"""Most wrong labels that each of them is asked about."""

DRAWS = 200
"""Of fresh noise, by which the Gaussian statistic is calibrated."""


@dataclass(frozen=True, eq=False)
class CanaryRecords:
    """The canaries that a request names, and fresh ones made in the same way that no model was trained on.

    Canaries that are copies of records asked for themselves are left out: a retrained model has not seen those either.

    Attributes:
        records: Of the audit.
        mislabelled: The planted ones with a wrong label.
        fresh: Displaced copies of other kept training records, with their right label.
        wrong: Wrong labels of each of those, int64, shape (labels, len(fresh)).
        clean: The records that the correctly labelled canaries are copies of.
        noise: What was added to each, shape (len(clean), *input_shape).
        epsilon: Its standard deviation.
        seed: Of the calibrating noise.
    """

    records: Records
    mislabelled: Part
    fresh: Part
    wrong: Tensor
    clean: Part
    noise: Tensor
    epsilon: float
    seed: int

    @classmethod
    def drawn(cls, records: Records) -> CanaryRecords:
        """Gather the planted canaries and draw fresh ones from the run's seed.

        Raises:
            InputError: The request names no canary that is still there.
        """
        split, run = records.split, records.run
        planted, train = split.data.canaries, split.data.train
        asked = split.forget.indices
        here = np.empty(0, bool) if planted is None else np.isin(planted.positions, asked)
        if planted is None or not here.any():
            raise InputError("none of the canaries is left to forget: an earlier request named them")
        here &= ~np.isin(planted.sources, asked)
        first, second = here & planted.mislabelled, here & ~planted.mislabelled
        kept = np.setdiff1d(split.retain.indices, np.concatenate([planted.positions, planted.sources]))
        rng = np.random.default_rng(run.number("audit/fresh canaries"))
        chosen = rng.permutation(kept)[:FRESH]
        (x,) = train.read([torch.from_numpy(chosen)])
        labels = train.labels[torch.from_numpy(chosen)]
        kinds = np.unique(train.labels.numpy()[np.union1d(split.retain.indices, asked)])
        offsets = 1 + rng.permutation(len(kinds) - 1)[:LABELS]
        wrong = kinds[(np.searchsorted(kinds, labels.numpy()) + offsets[:, None]) % len(kinds)]
        fresh = ArraySamples(displaced(x, planted.about.epsilon, rng), labels)
        copies, sources = (torch.from_numpy(p[second]) for p in (planted.positions, planted.sources))
        noisy, clean = train.read([copies, sources])
        return cls(
            records,
            Part("canaries", train, planted.positions[first]),
            Part("fresh canaries", fresh, np.arange(len(fresh))),
            torch.from_numpy(wrong),
            Part("copied records", train, sources.numpy()),
            noisy - clean,
            planted.about.epsilon,
            run.number("audit/calibrating noise"),
        )


def canary_scores_of(answers: Answers, canaries: CanaryRecords) -> Scores:
    """Return one model's scores, each with the band in which a model that never saw the canaries scores.

    Args:
        answers: The model's.
        canaries: What it is asked.
    """
    found: Scores = {}
    n, confidence = len(canaries.mislabelled), canaries.records.simultaneous_confidence
    if n and len(canaries.fresh):
        known, fresh = _margins(answers, canaries)
        band = fresh_band(n, len(canaries.fresh), confidence)
        why = f"{n} mislabelled canaries, {len(fresh)} fresh ones from {len(canaries.fresh)} records"
        found[KNOWN.key] = _within(auc(known, fresh), band.low, band.high, why, 0.5)
        for fpr, measure in LOW.items():
            found[measure.key] = _low(known, fresh, fpr, confidence)
    else:
        why = f"{n} mislabelled canaries and {len(canaries.fresh)} records to make fresh ones of; needed: one of each"
        found |= {m.key: Score.missing(why) for m in (KNOWN, *LOW.values())}
    found[NOISE.key] = _noise(answers, canaries)
    return found


def _margins(answers: Answers, canaries: CanaryRecords) -> tuple[Tensor, Tensor]:
    """Return the margins of planted and of fresh canaries for their wrong labels."""
    name = f"the model {answers.name!r}"
    planted = checked_logits(answers.model, canaries.mislabelled, name=name)
    fresh = checked_logits(answers.model, canaries.fresh, name=name)
    return margins(planted, canaries.mislabelled.labels), torch.cat([margins(fresh, wrong) for wrong in canaries.wrong])


def _low(known: Tensor, fresh: Tensor, fpr: float, confidence: float) -> Score:
    if fpr < least_supported_fpr(len(fresh)):
        return Score.missing(
            f"a false-positive rate of {fpr:.1%} needs {round(1 / fpr)} fresh canaries; the kept records and their "
            f"wrong labels make {len(fresh)}"
        )
    value = tpr_at_fpr(known, fresh, fpr)
    why = f"{round(value * len(known))} of {len(known)} canaries at a false-positive rate of {fpr:.1%}"
    return _within(value, 0.0, most_by_chance(len(known), fpr, confidence), why, fpr)


def _noise(answers: Answers, canaries: CanaryRecords) -> Score:
    if not len(canaries.clean):
        return Score.missing("no correctly labelled canary is asked for whose own record stays")
    rng = np.random.default_rng(canaries.seed)
    try:
        gradients = _gradients(answers, canaries.clean)
    except InputError as error:
        return Score.missing(str(error))
    zero = torch.zeros_like(canaries.noise)
    fresh = (displaced(zero, canaries.epsilon, rng) for _ in range(DRAWS))
    value = canary_statistic(gradients, canaries.noise, canaries.epsilon, fresh)
    confidence = canaries.records.simultaneous_confidence
    half = float(stats.t.ppf(0.5 + confidence / 2, DRAWS - 1)) * (1 + 1 / DRAWS) ** 0.5
    return _within(value, -half, half, f"{len(canaries.clean)} correctly labelled canaries", 0.0)


def _gradients(answers: Answers, part: Part) -> Tensor:
    """Return the gradients of minus the margin at clean inputs, on the CPU.

    They have the direction of the loss's gradients, which vanish in float32 where a record is known for certain.
    """
    device = answers.records.run.device
    x, y = part.tensors(device)
    found = []
    with evaluating(answers.model):
        for inputs, labels in zip(x.split(256), y.split(256), strict=True):
            asked = inputs.clone().requires_grad_()
            z = answers.model(asked)
            others = z.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
            rejected = (others - z.gather(1, labels[:, None])[:, 0]).sum()
            known = rejected.requires_grad  # not of frozen weights behind inputs that were cut off
            (gradient,) = torch.autograd.grad(rejected, asked, allow_unused=True) if known else (None,)
            if gradient is None:
                raise InputError("the model's answers have no gradient with respect to its inputs")
            found.append(gradient.cpu())
    return torch.cat(found)


def _within(value: float, low: float, high: float, why: str, floor: float) -> Score:
    return Score(value=value, why=why, floor=floor, floor_low=low, floor_high=high)
