"""Scores of a method rather than of one model: many unlearned models against many retrained ones, with floors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.auditing.answers import Answers, checked_logits
from efface.auditing.measures.forgetting_quality import epsilon, final_score, forgetting_quality
from efface.auditing.measures.intervals import Interval
from efface.auditing.measures.klom import klom
from efface.auditing.measures.margins import margins
from efface.auditing.measures.u_lira import Role, by_role, u_lira
from efface.auditing.records import Records
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Score, Scores, scored
from efface.errors import InputError

__all__ = ["MEASURES", "Thirds", "ensemble_scores", "thirds_scores"]

LIRA_ACCURACY = Measure(
    key="lira_accuracy",
    group="ensembles",
    title="U-LiRA, balanced accuracy on held-out models",
    unit="share",
    best="0.5",
    source="arXiv 2403.01218",
    reading="How often an attacker with models of both kinds tells unlearned from retrained, record by record.",
)

LIRA_AUC = Measure(
    key="lira_auc",
    group="ensembles",
    title="U-LiRA, AUC on held-out models",
    unit="share",
    best="0.5",
    source="arXiv 2403.01218",
    reading="The same as a ranking.",
)

THIRDS_ACCURACY = Measure(
    key="thirds_accuracy",
    group="ensembles",
    title="U-LiRA with shadow models in thirds, balanced accuracy",
    unit="share",
    best="0.5",
    source="RULI's design",
    reading="How often an attacker tells records that shadow models unlearned from records that they never saw.",
)

THIRDS_AUC = Measure(
    key="thirds_auc",
    group="ensembles",
    title="U-LiRA with shadow models in thirds, AUC",
    unit="share",
    best="0.5",
    source="RULI's design",
    reading="The same as a ranking of models, record by record.",
)

FPRS = {0.01: ("1", "1 %"), 0.001: ("01", "0.1 %")}
"""False-positive rates at which an attacker is asked who hardly accuses wrongly, and how they are written."""


def _low(prefix: str, title: str, source: str, reading: str) -> dict[float, Measure]:
    return {
        fpr: Measure(
            key=f"{prefix}_tpr_{short}",
            group="ensembles",
            title=f"{title}, found at {words} false positives",
            unit="share",
            best="reference",
            source=source,
            reading=reading,
        )
        for fpr, (short, words) in FPRS.items()
    }


LIRA_LOW = _low(
    "lira",
    "U-LiRA on held-out models",
    "arXiv 2403.01218",
    "Share of unlearned models and records that the attacker finds while hardly taking a retrained one for unlearned; "
    "a few exposed records show here, and not in a mean.",
)

THIRDS_LOW = _low(
    "thirds",
    "U-LiRA with shadow models in thirds",
    "RULI's design",
    "The same between records that shadow models unlearned and records that they never saw.",
)

QUALITY = Measure(
    key="quality",
    group="ensembles",
    title="Forgetting quality F",
    unit="number",
    best="reference",
    source="arXiv 2406.09073",
    most=1.0,
    reading="1 when no attack tells unlearned from retrained models on any record; the floor depends on their number.",
)

FINAL = Measure(
    key="final_score",
    group="ensembles",
    title="Final score of the 2023 challenge",
    unit="number",
    best="reference",
    source="arXiv 2406.09073",
    reading="F times the accuracies on kept and on test data, each divided by retrained models'; never in the verdict.",
)

KLOM_FORGET = Measure(
    key="klom_forget",
    group="ensembles",
    title="KLoM, forget data",
    unit="nats",
    best="reference",
    source="arXiv 2410.23232",
    reading="Difference of the margins' distributions, unlearned against retrained models.",
)

KLOM_FORGET_95 = Measure(
    key="klom_forget_95",
    group="ensembles",
    title="KLoM, forget data, worst 5 %",
    unit="nats",
    best="reference",
    source="arXiv 2410.23232",
    reading="The 95th percentile of the same.",
)

KLOM_RETAIN = Measure(
    key="klom_retain",
    group="ensembles",
    title="KLoM, kept training data",
    unit="nats",
    best="reference",
    source="arXiv 2410.23232",
    reading="The same on records that stay.",
)

KLOM_RETAIN_95 = Measure(
    key="klom_retain_95",
    group="ensembles",
    title="KLoM, kept training data, worst 5 %",
    unit="nats",
    best="reference",
    source="arXiv 2410.23232",
    reading="The 95th percentile on records that stay.",
)

KLOM_TEST = Measure(
    key="klom_test",
    group="ensembles",
    title="KLoM, test data",
    unit="nats",
    best="reference",
    source="arXiv 2410.23232",
    reading="The same on unseen records.",
)

KLOM_TEST_95 = Measure(
    key="klom_test_95",
    group="ensembles",
    title="KLoM, test data, worst 5 %",
    unit="nats",
    best="reference",
    source="arXiv 2410.23232",
    reading="The 95th percentile on unseen records.",
)

KLOM = {
    "forget": (KLOM_FORGET, KLOM_FORGET_95),
    "retain": (KLOM_RETAIN, KLOM_RETAIN_95),
    "test_retain": (KLOM_TEST, KLOM_TEST_95),
}
"""By part: the mean over records and their 95th percentile, as printed in its publication."""

OF_RUNS = (LIRA_ACCURACY, LIRA_AUC, *LIRA_LOW.values(), QUALITY, FINAL, *(m for both in KLOM.values() for m in both))
"""Measured on repeated runs of one request."""

OF_SHADOWS = (THIRDS_ACCURACY, THIRDS_AUC, *THIRDS_LOW.values())
"""Measured on shadow models."""

MEASURES = (*OF_RUNS[:4], *OF_SHADOWS, *OF_RUNS[4:])

LEAST = 3

SPLITS = 6


@dataclass(frozen=True)
class Thirds:
    """Shadow models in RULI's design: each forget record is IN, OUT and UNLEARNED in a third of them.

    Attributes:
        models: The shadow models, after unlearning.
        roles: Values of `lira.Role`, shape (models, records of D_f), in the order of `split.forget`.
    """

    models: Sequence[nn.Module]
    roles: Tensor


def ensemble_scores(unlearned: Sequence[Answers], retrained: Sequence[Answers], records: Records) -> Scores:
    """Return U-LiRA, F and KLoM with their floors at the same number of models.

    The retrained models are halved at random several times; one half of N is the reference, the other, also of N, is
    the floor's "unlearned" ensemble. N is what both sides allow: min(unlearned, retrained / 2). Value and floor are
    means over the halvings; the floor's interval is where one more halving would fall.

    Args:
        unlearned: Of models that were trained with the forget data and then unlearned, with different seeds.
        retrained: Of models never trained on it.
        records: Gives the records and the randomness.

    Returns:
        Every measure of `OF_RUNS`; not assessed, with the reason, where there are too few models.
    """
    n = min(len(unlearned), len(retrained) // 2)
    if not unlearned:
        return _missing(OF_RUNS, "the method was run once; several unlearned models are needed")
    if n < LEAST:
        return _missing(
            OF_RUNS,
            f"{len(unlearned)} unlearned and {len(retrained)} retrained models are too few: at least {LEAST} and "
            f"{2 * LEAST} are needed, so that the noise floor is known",
        )
    values, floors = _halved(unlearned, retrained, records, n)
    size = min(len(records.parts["forget"]), records.settings.attack_samples)
    too_few = {m.key: _too_few(fpr, n, size) for fpr, m in LIRA_LOW.items()}
    why = f"{n} models a side, mean over {SPLITS} random halvings of {len(retrained)} retrained models"
    scores: Scores = {}
    for measure in OF_RUNS:
        if not values[measure.key]:
            scores[measure.key] = Score.missing(too_few.get(measure.key, "there is no record of this part"))
            continue
        ours = torch.tensor(values[measure.key], dtype=torch.float64)
        score = scored(Interval(float(ours.mean()), float(ours.min()), float(ours.max())), why)
        scores[measure.key] = _with_floor(score, measure, floors[measure.key], records)
    return scores


def _halved(
    unlearned: Sequence[Answers], retrained: Sequence[Answers], records: Records, n: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return what each random halving gives: unlearned against retrained, and retrained against retrained."""
    generator = records.run.generator("audit/ensembles")
    chosen = {
        part: torch.randperm(len(retrained[0].labels[part]), generator=generator)[: records.settings.attack_samples]
        for part in ("forget", "retain", "test_retain")
    }
    values: dict[str, list[float]] = {m.key: [] for m in OF_RUNS}
    floors: dict[str, list[float]] = {m.key: [] for m in OF_RUNS}
    sides = unlearned, retrained
    tables = {
        part: tuple(torch.stack([s.margin(part)[rows] for s in side]) for side in sides)
        for part, rows in chosen.items()
        if len(rows)
    }
    accuracies = [torch.tensor([[s.accuracy(p) for p in ("retain", "test_retain")] for s in side]) for side in sides]
    for _ in range(SPLITS):
        ours = torch.randperm(len(unlearned), generator=generator)[:n]
        order = torch.randperm(len(retrained), generator=generator)
        for found, side, rows in ((values, 0, ours), (floors, 1, order[n : 2 * n])):
            pairs = {part: (both[side][rows], both[1][order[:n]]) for part, both in tables.items()}
            compared = _compare(pairs, closed=records.settings.klom_bins == "closed")
            right = accuracies[side][rows].double().mean(0), accuracies[1][order[:n]].double().mean(0)
            for key, value in {**compared, **_final(compared[QUALITY.key], *right)}.items():
                found[key].append(value)
    return values, floors


def thirds_scores(thirds: Thirds | None, records: Records) -> Scores:
    """Return U-LiRA between records that shadow models unlearned and records that they never saw.

    The floor is the same attack after each record's margins were dealt out at random to both sides, several times:
    identical distributions with the same N and the same records.

    Args:
        thirds: The shadow models and the roles of the forget records; None if there are none.
        records: Gives the records and the randomness.

    Raises:
        InputError: If the roles do not belong to these models and the forget records.
    """
    if thirds is None:
        return _missing(OF_SHADOWS, "no shadow models were given")
    part = records.parts["forget"]
    if thirds.roles.shape != (len(thirds.models), len(part)):
        raise InputError(
            f"The roles have shape {tuple(thirds.roles.shape)} for {len(thirds.models)} shadow models and {len(part)} "
            "forget records; give one role for each of them, in the order of split.forget."
        )
    n = min(int((thirds.roles == role).sum(0).min()) for role in (Role.OUT, Role.UNLEARNED))
    if n < LEAST:
        why = (
            f"some record is out of or unlearned by only {n} of {len(thirds.models)} shadow models; {LEAST} are needed"
        )
        return _missing(OF_SHADOWS, why)
    tracked = records.run.track(thirds.models, "audit: shadow models", len(thirds.models))
    table = torch.stack([margins(checked_logits(m, part, name="a shadow model"), part.labels) for m in tracked])
    unlearned, out = (by_role(table, thirds.roles, role, n) for role in (Role.UNLEARNED, Role.OUT))
    found = u_lira(unlearned, out, fprs=tuple(FPRS))
    generator, both = records.run.generator("audit/thirds"), torch.cat([unlearned, out])
    null = []
    for _ in range(SPLITS):
        dealt = both.gather(0, torch.rand(both.shape, generator=generator).argsort(0))
        null.append(u_lira(dealt[:n], dealt[n:], fprs=tuple(FPRS)))
    why = f"{n} shadow models a side for each of {len(part)} records"
    ours = {THIRDS_ACCURACY: (found.accuracy, [c.accuracy.value for c in null])}
    ours[THIRDS_AUC] = found.auc, [c.auc.value for c in null]
    scores = {m.key: _with_floor(scored(interval, why), m, floor, records) for m, (interval, floor) in ours.items()}
    for fpr, measure in THIRDS_LOW.items():
        value, floor = found.tpr[fpr], [c.tpr[fpr] for c in null]
        known = [rate for rate in floor if rate is not None]
        scores[measure.key] = (
            Score.missing(_too_few(fpr, n, len(part)))
            if value is None
            else _with_floor(Score(value=value, why=why), measure, known, records)
        )
    return scores


def _too_few(fpr: float, models: int, records: int) -> str:
    """Say how many records or models a false-positive rate would take."""
    needed = round(1 / fpr)
    return (
        f"a false-positive rate of {FPRS[fpr][1]} needs {needed} pairs of a model held out and a record; {models} "
        f"models a side and {records} records make {models * records}: it would take {-(-needed // models)} records, "
        f"or {-(-needed // records)} models a side"
    )


def _with_floor(score: Score, measure: Measure, floor: Sequence[float], records: Records) -> Score:
    """Return the score with the mean of identical distributions, and where one more draw of them would fall."""
    band = measure.band(torch.tensor(floor, dtype=torch.float64), records.settings.confidence)
    return score.model_copy(update={"floor": band.value, "floor_low": band.low, "floor_high": band.high})


def _missing(measures: Sequence[Measure], why: str) -> Scores:
    return {m.key: Score.missing(why) for m in measures}


def _compare(pairs: dict[str, tuple[Tensor, Tensor]], *, closed: bool) -> dict[str, float]:
    lira = u_lira(*pairs["forget"], fprs=tuple(FPRS))
    found = {
        **{LIRA_LOW[fpr].key: rate for fpr, rate in lira.tpr.items() if rate is not None},
        LIRA_ACCURACY.key: lira.accuracy.value,
        LIRA_AUC.key: lira.auc.value,
        QUALITY.key: forgetting_quality(epsilon(*pairs["forget"])),
    }
    for part, both in pairs.items():
        nats = klom(*both, closed=closed)
        found |= {KLOM[part][0].key: float(nats.mean()), KLOM[part][1].key: float(nats.quantile(0.95))}
    return found


def _final(quality: float, ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Return the final score from both ensembles' accuracies on kept training and test data, where there are both."""
    if bool(ours.isnan().any()):
        return {}
    accuracies = {"retain": ours[0], "retain_retrained": theirs[0], "test": ours[1], "test_retrained": theirs[1]}
    return {FINAL.key: final_score(quality, **{name: float(a) for name, a in accuracies.items()})}
