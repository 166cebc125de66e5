"""The questions that a verdict asks, and what an answer on either side means."""

from __future__ import annotations

from typing import Literal, NamedTuple

from efface.auditing.settings import AuditSettings

__all__ = ["MEANING", "OF_CANARIES", "OF_METHODS", "QUESTIONS", "SEALED", "Direction", "Question", "asked"]

Direction = Literal["", "left", "over", "worse", "better", "unlike"]


class Question(NamedTuple):
    """One question of the verdict.

    Attributes:
        key: Short name of its check.
        measure: Score that answers it.
        question: In plain language.
        below: What a score below the retrained model's means.
        above: What a score above it means.
        target: Whether it is asked for single items too.
        tolerance: The setting that says which gap passes as noise while no floor is known.
        at_b: The score that answers it at level b, if that is another one.
        meddled: What the question has to find, in words, where that is no trait of the original: it can tell if it
            finds this in the original.
    """

    key: str
    measure: str
    question: str
    below: Direction
    above: Direction
    target: Literal["both", "classes"] = "both"
    tolerance: Literal["tolerance", "probe_tolerance", "shift_tolerance", "separation_factor", "exposure_factor"] = (
        "tolerance"
    )
    at_b: str = ""
    meddled: str = ""

    def allowed(self, settings: AuditSettings, reference: float | None) -> float:
        """Return the gap that passes as noise while no floor is known.

        Args:
            settings: Tolerances.
            reference: The retrained model's score, for a tolerance that is a factor.
        """
        value: float = getattr(settings, self.tolerance)
        return (value - 1) * abs(reference or 0.0) if self.tolerance == "separation_factor" else value


QUESTIONS = (
    Question("test", "test_accuracy", "Does it work on unseen records of the kept classes?", "worse", "better"),
    Question("retain", "retain_accuracy", "Does it work on the training records that stay?", "worse", "better"),
    Question("forget", "forget_accuracy", "Does it recognise the forget records?", "over", "left"),
    Question(
        "forget-test",
        "test_forget_accuracy",
        "Does it recognise unseen records of the forgotten classes?",
        "over",
        "left",
        "classes",
    ),
    Question(
        "threshold",
        "population_auc",
        "Do forget records look more familiar than unseen ones (one threshold)?",
        "over",
        "left",
    ),
    Question(
        "confidence",
        "forget_shift",
        "Is it as sure or unsure of the forget records as a retrained model?",
        "over",
        "left",
        tolerance="shift_tolerance",
    ),
    Question("record", "rmia_auc", "Do forget records stand out one by one (RMIA)?", "over", "left"),
    Question(
        "single",
        "exposure",
        "Is any single record still known, or rejected, unlike by a retrained model?",
        "over",
        "left",
        tolerance="exposure_factor",
        at_b="exposure_ratio",
    ),
    Question(
        "probe",
        "probe_recall",
        "Does a new head find the forgotten classes in its features?",
        "over",
        "left",
        "classes",
    ),
    Question(
        "probe-few",
        "probe_recall_few",
        "Does a new head find them from a few records?",
        "over",
        "left",
        "classes",
        "probe_tolerance",
    ),
    Question(
        "separation",
        "separation",
        "Do its features hold the forgotten classes apart no further than a retrained model's?",
        "over",
        "left",
        "classes",
        "separation_factor",
    ),
    Question("relearn", "ain", "Does it relearn the forget data as slowly?", "left", "over"),
)

"""Of one model."""

OF_METHODS = (
    Question(
        "lira-accuracy",
        "lira_accuracy",
        "Can an attacker with many models tell unlearned from retrained, record by record (U-LiRA)?",
        "",
        "unlike",
    ),
    Question(
        "lira-low",
        "lira_tpr_1",
        "Can it find any while hardly accusing wrongly (U-LiRA at 1 % false positives)?",
        "",
        "unlike",
    ),
    Question(
        "quality",
        "quality",
        "Does any attack per record tell them apart (forgetting quality F)?",
        "unlike",
        "",
    ),
    Question(
        "klom-forget",
        "klom_forget",
        "Are the margins distributed as those of retrained models (KLoM)?",
        "",
        "unlike",
    ),
    Question(
        "thirds-accuracy",
        "thirds_accuracy",
        "Can it tell unlearned from never seen records, with shadow models of its own (RULI)?",
        "",
        "unlike",
    ),
    Question(
        "thirds-low",
        "thirds_tpr_1",
        "Can it find any of those while hardly accusing wrongly (1 % false positives)?",
        "",
        "unlike",
    ),
)
"""Of a method that was run several times, where it was; a side without a meaning is not asked about."""

OF_CANARIES = (
    Question("canaries", "canary_auc", "Are the canaries of training still known?", "over", "left"),
    Question("canary-1", "canary_tpr_1", "Is any canary known better than 99 % of fresh ones?", "", "left"),
    Question("canary-01", "canary_tpr_01", "Is any canary known better than 99.9 % of fresh ones?", "", "left"),
    Question("canary-noise", "canary_noise", "Do its gradients point to the canaries' own noise?", "left", "over"),
)
"""Asked where a request names the canaries of training; no search may read them."""

SEALED = (
    Question("kept-data", "kept_data_margin", "Does it come back by training on kept data alone?", "over", "left"),
    Question("blocks", "block_probe", "Does any stage of the network still hold it?", "over", "left", "classes"),
    Question(
        "head-bias",
        "head_bias",
        "Is its bias in the head like the others?",
        "over",
        "left",
        "classes",
        meddled="the original with its bias lowered until the class is not answered",
    ),
    Question(
        "head-norm",
        "head_norm",
        "Is its row of the head like the others?",
        "unlike",
        "unlike",
        "classes",
        meddled="the original with its row drawn anew",
    ),
    Question("mass", "kept_mass", "Does it send the records where retrained models do?", "", "unlike"),
    Question("lean", "kept_lean", "Does it send them where the original would, rather?", "over", "left"),
    Question("entropy", "kept_entropy", "Is it as undecided about them among kept classes?", "unlike", "unlike"),
    Question("near", "neighbourhood", "Does it recognise what lies close to the records?", "over", "left"),
)
"""Asked only in a sealed audit, of one model: no search may read them."""


def asked(*, by_class: bool, sealed: bool = False, canaries: bool = False) -> tuple[Question, ...]:
    """Return the questions that a verdict asks of one model, in order.

    Args:
        by_class: Whether whole classes were forgotten; single items are not asked about classes.
        sealed: Whether the sealed questions are among them.
        canaries: Whether those about canaries are.
    """
    more = (*(SEALED if sealed else ()), *(OF_CANARIES if canaries else ()))
    return tuple(q for q in (*QUESTIONS, *more) if by_class or q.target == "both")


MEANING: dict[Direction, str] = {
    "left": "knowledge of the forget data is left",
    "over": "the forget data is rejected more than by a model that never saw it (over-unlearned), which betrays it too",
    "worse": "usefulness was lost",
    "better": "it is more accurate than a retrained model",
    "unlike": "it is not what retraining gives",
    "": "",
}
