"""Relearning: how many training steps until the forget data is known again, and its scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from efface.auditing.answers import Answers, checked_logits
from efface.auditing.kept import Found, depends_on, remembered
from efface.auditing.measures.accuracy import accuracy
from efface.auditing.measures.ain import FEW_STEPS, Relearning, anamnesis_index
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import NO_REFERENCE, Score, Scores
from efface.data.part import Part
from efface.errors import InputError
from efface.models.recorded import need_weights
from efface.running.run import Run
from efface.training.loop import Trainer
from efface.training.recipe import Recipe

__all__ = ["AIN", "MEASURES", "RELEARNING", "Relearned", "relearn", "relearning_scores"]

STEPS = Measure(
    key="relearn_steps",
    group="relearning",
    title="Training steps until the forget data is known again",
    unit="steps",
    best="reference",
    source="arXiv 2201.05629",
    reading="Optimiser steps on the forget data until its accuracy is within 0.05 of the original's.",
)

AIN = Measure(
    key="ain",
    group="relearning",
    title="Anamnesis index (AIN)",
    unit="ratio",
    best="1",
    source="arXiv 2201.05629",
    compares=True,
    reading="Relearning steps divided by the retrained model's; below 1 knowledge is left, above 1 the model was made "
    "unable to learn it.",
)

MEASURES = (STEPS, AIN)

RELEARNING = Recipe(optimiser="adam", lr=1e-3, momentum=0.0, weight_decay=0.0, batch_size=256)
"""Adam, 1e-3, batch 256, no augmentation: the values of Zero-Shot MU's code."""


def relearn(
    model: nn.Module,
    part: Part,
    target: float,
    run: Run,
    *,
    recipe: Recipe = RELEARNING,
    cap: int = 100,
    watched: Part | None = None,
) -> Relearning:
    """Fine-tune a copy of the model on a part until its accuracy there reaches a target.

    BatchNorm keeps its running statistics: batches of one class would wreck them, which is not forgetting.

    Args:
        model: Any module; never changed.
        part: What it is trained on, e.g. D_f.
        target: Accuracy to reach, usually the original model's less alpha = 0.05.
        run: Device and randomness; equal runs give each model the same batches.
        recipe: Optimiser, learning rate and batch size; its epochs are not used.
        cap: Most steps.
        watched: Where accuracy is read; `part` by default.

    Raises:
        InputError: If a part is empty, the target is no accuracy, the cap is below 1, training diverges, or only the
            model's answers are known.
    """
    need_weights(model, "training it further")
    if not 0 <= target <= 1 or cap < 1:
        raise InputError(f"target is {target} and cap is {cap}; give an accuracy in [0, 1] and at least one step.")
    seen = part if watched is None else watched
    labels = seen.labels
    copy = run.copied(model)
    for parameter in copy.parameters():
        parameter.requires_grad_(True)
    trainer = Trainer(
        copy, part, recipe, run.child(), stage="audit/relearning", total_steps=cap, freeze_batch_norm=True
    )
    accuracies = [accuracy(checked_logits(copy, seen), labels)]
    while accuracies[-1] < target and len(accuracies) <= cap:
        trainer.advance(1)
        accuracies.append(accuracy(checked_logits(copy, seen), labels))
    return Relearning(len(accuracies) - 1, accuracies[-1] >= target, tuple(accuracies))


@dataclass(frozen=True)
class Relearned:
    """How a model relearns the forget data, or why that was not measured.

    Attributes:
        course: Its steps and accuracies; None where not measured.
        missing: Why not.
    """

    course: Relearning | None
    missing: str = ""

    @classmethod
    def of(
        cls,
        answers: Answers,
        original: Answers,
        retrained: Relearned | None = None,
        folder: Path | None = None,
    ) -> Relearned:
        """Let one model relearn.

        Args:
            answers: The model's.
            original: The original model's, whose forget accuracy less alpha is the target.
            retrained: How the retrained model relearns: with it, the cap is where its steps times the factor that
                passes as noise are exceeded, so that a capped model is known to differ.
            folder: Where to keep the course, and to take it from; None lets the model relearn again.

        Raises:
            InputError: A kept file is damaged.
        """
        records, settings = answers.records, answers.records.settings
        if settings.relearn_cap == 0:
            return cls(None, "left out by the settings")
        cap = settings.relearn_cap
        if retrained is not None and retrained.course is not None and retrained.course.reached:
            cap = int(settings.ain_factor * (retrained.course.steps + FEW_STEPS)) + 1
        forget = records.parts["forget"]
        target = max(0.0, original.accuracy("forget") - settings.relearn_alpha)
        watched = forget.sample(500, records.run.generator("audit/relearning watched"))

        def find() -> Found:
            try:
                course = relearn(answers.model, forget, target, records.run, cap=cap, watched=watched)
            except InputError as error:
                return {}, {"missing": str(error)}
            return {}, {"reached": course.reached, "accuracies": course.accuracies}

        _, about = remembered(folder, "relearning", [*depends_on(answers), target, cap], find)
        if "missing" in about:
            return cls(None, about["missing"])
        accuracies = tuple(about["accuracies"])
        return cls(Relearning(len(accuracies) - 1, about["reached"], accuracies))


def relearning_scores(ours: Relearned, theirs: Relearned | None) -> Scores:
    """Return relearning steps and AIN.

    AIN is a bound where one side did not reach the target, and says nothing where neither did.

    Args:
        ours: The model's.
        theirs: The retrained model's; None without one.
    """
    if ours.course is None:
        return {m.key: Score.missing(ours.missing) for m in MEASURES}
    reached = ours.course.reached
    why = f"Adam, learning rate {RELEARNING.lr:g}, batches of {RELEARNING.batch_size}"
    if not reached:
        why = f"at least: the target was not reached; {why}"
    steps = Score(value=ours.course.steps, why=why, bound="" if reached else "at least")
    if theirs is None or theirs.course is None:
        return {STEPS.key: steps, AIN.key: Score.missing(NO_REFERENCE if theirs is None else theirs.missing)}
    bounds = []
    if not reached:
        bounds.append("at least: the model did not reach the target")
    if not theirs.course.reached:
        bounds.append("at most: the retrained model did not reach the target")
    ain = Score(
        value=anamnesis_index(ours.course, theirs.course),
        why="; ".join(bounds),
        bound="" if reached == theirs.course.reached else "at most" if reached else "at least",
    )
    gap = float(ours.course.steps - theirs.course.steps)
    return {STEPS.key: steps.model_copy(update={"gap": gap}), AIN.key: ain}
