"""Whether a retrained model deserves to be compared with: trained as the original was, and never on the forget data."""

from __future__ import annotations

import torch

from efface.auditing.answers import AllAnswers, Answers
from efface.auditing.records import Records
from efface.models.recorded import Recorded

__all__ = ["unchanged", "unfit"]

SAME = 1e-4
"""Largest difference of two models' probabilities that counts as the same answer: rounding, no other training."""


def unfit(answers: AllAnswers, records: Records) -> str:
    """Return why the retrained models are none to compare with, or an empty string.

    One that answers the forget data as the original does, or that knows a forgotten class, saw that data. One that is
    clearly less accurate on kept training data was trained in another way: "clearly" is by more than
    `recipe_tolerance`, for the best of them, beyond what the draw of records explains.

    Args:
        answers: Of all models.
        records: What they were asked.
    """
    recorded = isinstance(answers.original.model, Recorded)
    for own in answers.everyone:
        if _same(own, answers.original):
            either = "either it saw it, or answers as coarse as these cannot tell" if recorded else ""
            return (
                f"not assessed: {own.name!r} answers the forget data as the original does, to the last digit; "
                f"{either or 'it is no model that never saw it'}"
            )
        if records.by_class and own.accuracy("forget") > records.settings.reference_knows:
            return (
                f"not assessed: {own.name!r} answers {own.accuracy('forget'):.1%} of the forget data with the class "
                "that it should never have seen; give a model trained without it"
            )
    if answers.everyone and len(answers.original.labels["retain"]):
        best = max(own.accuracy("retain") for own in answers.everyone)
        before, n = answers.original.accuracy("retain"), len(answers.original.labels["retain"])
        # Twice the standard error of a difference of two shares of n records, at its largest.
        if before - best > records.settings.recipe_tolerance + (2 / n) ** 0.5:
            instead = (
                "predictions of a model trained as it was" if recorded else "recipe=... or retrained=<your module>"
            )
            return (
                f"not assessed: the recipe is not how the original was trained ({100 * best:.1f} against "
                f"{100 * before:.1f} % of kept training records); give {instead}"
            )
    return ""


def unchanged(candidate: Answers, original: Answers) -> bool:
    """Return whether a model has the original's weights and buffers, and answers as it does.

    Of recorded answers this is not known: a model whose leaves are pure answers alike after retraining, too.

    Args:
        candidate: Of the model that is audited.
        original: Of the model before forgetting.
    """
    if isinstance(candidate.model, Recorded):
        return False
    ours, theirs = candidate.model.state_dict(), original.model.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[k].cpu(), v.cpu()) for k, v in theirs.items()):
        return False
    return all(torch.equal(candidate.logits[part], z) for part, z in original.logits.items())


def _same(own: Answers, original: Answers) -> bool:
    ours, theirs = (a.logits["forget"].double().softmax(1) for a in (own, original))
    return bool((ours - theirs).abs().max() <= SAME)
