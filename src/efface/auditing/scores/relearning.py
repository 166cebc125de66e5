"""Relearning: how many training steps until the forget data is known again, and its scores."""

from __future__ import annotations

from torch import nn

from efface.auditing.answers import Subject, checked_logits
from efface.auditing.measures.accuracy import accuracy
from efface.auditing.measures.ain import Relearning, anamnesis_index
from efface.auditing.questions import FEW_STEPS
from efface.auditing.scores.score import NO_REFERENCE, Score, Scores
from efface.data.part import Part
from efface.errors import InputError
from efface.running.run import Run
from efface.training.loop import Trainer
from efface.training.recipe import Recipe

__all__ = ["RELEARNING", "relearn", "relearned", "relearning_scores"]

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
        InputError: If a part is empty, the target is no accuracy, the cap is below 1, or training diverges.
    """
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


def relearned(subject: Subject, original: Subject, retrained: Relearning | str | None = None) -> Relearning | str:
    """Return how the model relearns the forget data, or why that was not measured.

    Args:
        subject: The model.
        original: The original model, whose forget accuracy less alpha is the target.
        retrained: The retrained model's relearning: with it, the cap is where its steps times the factor that passes
            as noise are exceeded, so that a capped model is known to differ.
    """
    scene, settings = subject.scene, subject.scene.settings
    if settings.relearn_cap == 0:
        return "left out by the settings"
    cap = settings.relearn_cap
    if isinstance(retrained, Relearning) and retrained.reached:
        cap = int(settings.ain_factor * (retrained.steps + FEW_STEPS)) + 1
    forget = scene.parts["forget"]
    target = max(0.0, float(original.correct("forget").double().mean()) - settings.relearn_alpha)
    watched = forget.sample(500, scene.run.generator("audit/relearning watched"))
    try:
        return relearn(subject.model, forget, target, scene.run, cap=cap, watched=watched)
    except InputError as error:
        return str(error)


def relearning_scores(ours: Relearning | str, theirs: Relearning | str | None) -> Scores:
    """Return relearning steps and AIN.

    Args:
        ours: From `relearned`.
        theirs: The retrained model's, or None without one.
    """
    if isinstance(ours, str):
        return {"relearn_steps": Score.missing(ours), "ain": Score.missing(ours)}
    why = f"Adam, learning rate {RELEARNING.lr:g}, batches of {RELEARNING.batch_size}"
    if not ours.reached:
        why = f"at least: the target was not reached; {why}"
    steps = Score(value=ours.steps, why=why)
    if theirs is None or isinstance(theirs, str):
        return {"relearn_steps": steps, "ain": Score.missing(NO_REFERENCE if theirs is None else theirs)}
    bounds = []
    if not ours.reached:
        bounds.append("at least: the model did not reach the target")
    if not theirs.reached:
        bounds.append("at most: the retrained model did not reach the target")
    ain = Score(value=anamnesis_index(ours, theirs), why="; ".join(bounds))
    gap = float(ours.steps - theirs.steps)
    return {"relearn_steps": steps.model_copy(update={"gap": gap}), "ain": ain}
