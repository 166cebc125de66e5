"""Scores of a method rather than of one model: many unlearned models against many retrained ones, with floors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.auditing.answers import Subject, checked_logits
from efface.auditing.floors import clip
from efface.auditing.measures.forgetting_quality import epsilon, forgetting_quality
from efface.auditing.measures.intervals import prediction_interval
from efface.auditing.measures.klom import klom
from efface.auditing.measures.margins import margins
from efface.auditing.measures.u_lira import Role, by_role, u_lira
from efface.auditing.records import Scene
from efface.auditing.scores.score import Score, Scores, scored
from efface.errors import InputError

__all__ = ["ENSEMBLE_KEYS", "THIRDS_KEYS", "Thirds", "ensemble_scores", "thirds_scores"]

ENSEMBLE_KEYS = ("lira_accuracy", "lira_auc", "quality", "klom_forget", "klom_forget_95", "klom_retain", "klom_test")

THIRDS_KEYS = ("thirds_accuracy", "thirds_auc")

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


def ensemble_scores(unlearned: Sequence[Subject], retrained: Sequence[Subject], scene: Scene) -> Scores:
    """Return U-LiRA, F and KLoM with their floors at the same number of models.

    The retrained models are halved at random several times; one half of N is the reference, the other, also of N, is
    the floor's "unlearned" ensemble. N is what both sides allow: min(unlearned, retrained / 2). Value and floor are
    means over the halvings; the floor's interval is where one more halving would fall.

    Args:
        unlearned: Models that were trained with the forget data and then unlearned, with different seeds.
        retrained: Models never trained on it.
        scene: Gives the records and the randomness.

    Returns:
        Every key of `ENSEMBLE_KEYS`; not assessed, with the reason, where there are too few models.
    """
    n = min(len(unlearned), len(retrained) // 2)
    if not unlearned:
        return _missing("the method was run once; several unlearned models are needed")
    if n < LEAST:
        return _missing(
            f"{len(unlearned)} unlearned and {len(retrained)} retrained models are too few: at least {LEAST} and "
            f"{2 * LEAST} are needed, so that the noise floor is known"
        )
    generator = scene.run.generator("audit/ensembles")
    chosen = {
        part: torch.randperm(len(retrained[0].labels[part]), generator=generator)[: scene.settings.attack_samples]
        for part in ("forget", "retain", "test_retain")
    }
    values: dict[str, list[float]] = {key: [] for key in ENSEMBLE_KEYS}
    floors: dict[str, list[float]] = {key: [] for key in ENSEMBLE_KEYS}
    tables = {
        part: tuple(torch.stack([s.margin(part)[rows] for s in side]) for side in (unlearned, retrained))
        for part, rows in chosen.items()
        if len(rows)
    }
    for _ in range(SPLITS):
        ours = torch.randperm(len(unlearned), generator=generator)[:n]
        order = torch.randperm(len(retrained), generator=generator)
        for found, side, rows in ((values, 0, ours), (floors, 1, order[n : 2 * n])):
            pairs = {part: (both[side][rows], both[1][order[:n]]) for part, both in tables.items()}
            for key, value in _compare(pairs).items():
                found[key].append(value)
    why = f"{n} models a side, mean over {SPLITS} random halvings of {len(retrained)} retrained models"
    scores: Scores = {}
    for key in ENSEMBLE_KEYS:
        if not values[key]:
            scores[key] = Score.missing("there is no record of this part")
            continue
        ours_mean, floor = (torch.tensor(x[key], dtype=torch.float64) for x in (values, floors))
        band = prediction_interval(floor, scene.settings.confidence)
        scores[key] = Score(
            value=float(ours_mean.mean()),
            low=float(ours_mean.min()),
            high=float(ours_mean.max()),
            floor=band.value,
            floor_low=clip(key, band.low),
            floor_high=clip(key, band.high),
            why=why,
        )
    return scores


def thirds_scores(thirds: Thirds | None, scene: Scene) -> Scores:
    """Return U-LiRA between records that shadow models unlearned and records that they never saw.

    The floor is the same attack after each record's margins were dealt out at random to both sides, several times:
    identical distributions with the same N and the same records.

    Args:
        thirds: The shadow models and the roles of the forget records; None if there are none.
        scene: Gives the records and the randomness.

    Raises:
        InputError: If the roles do not belong to these models and the forget records.
    """
    if thirds is None:
        return {key: Score.missing("no shadow models were given") for key in THIRDS_KEYS}
    part = scene.parts["forget"]
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
        return {key: Score.missing(why) for key in THIRDS_KEYS}
    tracked = scene.run.track(thirds.models, "audit: shadow models", len(thirds.models))
    table = torch.stack([margins(checked_logits(m, part, name="a shadow model"), part.labels) for m in tracked])
    unlearned, out = (by_role(table, thirds.roles, role, n) for role in (Role.UNLEARNED, Role.OUT))
    found = u_lira(unlearned, out, fprs=())
    generator, both = scene.run.generator("audit/thirds"), torch.cat([unlearned, out])
    null: list[tuple[float, float]] = []
    for _ in range(SPLITS):
        dealt = both.gather(0, torch.rand(both.shape, generator=generator).argsort(0))
        chance = u_lira(dealt[:n], dealt[n:], fprs=())
        null.append((chance.accuracy.value, chance.auc.value))
    why = f"{n} shadow models a side for each of {len(part)} records"
    scores: Scores = {}
    for key, interval, floor in zip(THIRDS_KEYS, (found.accuracy, found.auc), zip(*null, strict=True), strict=True):
        band = prediction_interval(torch.tensor(floor, dtype=torch.float64), scene.settings.confidence)
        ends = {"floor_low": clip(key, band.low), "floor_high": clip(key, band.high)}
        scores[key] = scored(interval, why).model_copy(update={"floor": band.value, **ends})
    return scores


def _missing(why: str) -> Scores:
    return {key: Score.missing(why) for key in ENSEMBLE_KEYS}


def _compare(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    lira = u_lira(*pairs["forget"], fprs=())
    forget = klom(*pairs["forget"])
    found = {
        "lira_accuracy": lira.accuracy.value,
        "lira_auc": lira.auc.value,
        "quality": forgetting_quality(epsilon(*pairs["forget"])),
        "klom_forget": float(forget.mean()),
        "klom_forget_95": float(forget.quantile(0.95)),
    }
    for key, part in (("klom_retain", "retain"), ("klom_test", "test_retain")):
        if part in pairs:
            found[key] = float(klom(*pairs[part]).mean())
    return found
