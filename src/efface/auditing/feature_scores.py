"""The scores that look past the answers: probes of features, relearning; and what it all cost."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.auditing.cost import speedup
from efface.auditing.intervals import bootstrap_mean, paired_gap
from efface.auditing.membership import percentiles
from efface.auditing.outputs import features_of, logits_of
from efface.auditing.probe import class_separation, few_record_probe, kept_outputs, linear_probe
from efface.auditing.questions import FEW_STEPS
from efface.auditing.relearning import RELEARNING, Relearning, anamnesis_index, relearn
from efface.auditing.result import Score
from efface.auditing.scoring import NO_REFERENCE, Scores, mean_score, scored, share_score, strict, with_gap
from efface.auditing.subject import Scene, Subject
from efface.errors import InputError

__all__ = ["cost_scores", "probe_gaps", "probe_scores", "relearned", "relearning_scores"]


def probe_scores(subject: Subject) -> tuple[Scores, dict[str, Tensor]]:
    """Return the probes and, for gaps, what each rests on: hits on each unseen record, or bootstrap draws.

    Args:
        subject: The model.
    """
    scene, settings = subject.scene, subject.scene.settings
    keys = ("probe_recall", "probe_recall_few", "separation", "probe_outputs")
    if not scene.by_class:
        return {
            k: Score.missing("the request names no class: single items have no head of their own") for k in keys
        }, {}
    train, test = scene.parts["probe_train"], scene.parts["probe_test"]
    if len(test) == 0:
        return {k: Score.missing("the test data holds no record of the forgotten classes") for k in keys}, {}
    scores: Scores = {}
    hits: dict[str, Tensor] = {}
    y, z = train.labels, test.labels
    try:
        features = features_of(subject.model, train, subject.layer), features_of(subject.model, test, subject.layer)
        hits["probe_recall"] = (linear_probe(features[0], y, features[1]) == z).double()
        per_class = min(settings.few_per_class, int(torch.bincount(y)[y.unique()].min()))
        votes = few_record_probe(
            features[0],
            y,
            features[1],
            scene.run.generator("audit/few records"),
            per_class=per_class,
            draws=settings.few_draws,
        )
        hits["probe_recall_few"] = votes[torch.arange(len(z)), z]
        generator = scene.run.generator("audit/separation")
        hits["separation"] = class_separation(features[0], y, scene.split.forget_classes, generator, settings.resamples)
    except InputError as error:
        scores |= {k: Score.missing(str(error)) for k in keys[:3] if k not in hits}
    try:
        kept = [
            kept_outputs(logits_of(subject.model, p, name=subject.name), scene.split.forget_classes)
            for p in (train, test)
        ]
        hits["probe_outputs"] = (linear_probe(kept[0], y, kept[1]) == z).double()
    except InputError as error:
        scores["probe_outputs"] = Score.missing(str(error))
    for key, share in hits.items():
        why = f"{per_class} records per class, {settings.few_draws} draws" if key == "probe_recall_few" else ""
        if key == "separation":
            scores[key] = scored(percentiles(float(share[0]), share[1:], settings.confidence))
        elif key == "probe_recall_few":
            scores[key] = mean_score(share, scene, key, settings.resamples, why)
        else:
            scores[key] = share_score(share, None, scene)
    return {key: scores[key] for key in keys}, hits


def probe_gaps(scores: Scores, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], scene: Scene) -> Scores:
    """Return the probes' scores with gaps to the retrained model's, on the same unseen records.

    Args:
        scores: From `probe_scores`.
        ours: What they rest on.
        theirs: The same of the retrained model.
        scene: Where the bootstrap's randomness comes from.
    """
    found = dict(scores)
    for key in ours.keys() & theirs.keys():
        if key == "separation":
            each = ours[key] - theirs[key]
            gap = percentiles(float(each[0]), each[1:], strict(scene))
        elif key == "probe_recall_few":
            gap = bootstrap_mean(
                ours[key] - theirs[key],
                scene.run.generator(f"audit/bootstrap/{key} gap"),
                resamples=scene.settings.resamples,
                confidence=strict(scene),
            )
        else:
            gap = paired_gap(ours[key], theirs[key], strict(scene))
        found[key] = with_gap(scores[key], gap)
    return found


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


def cost_scores(name: str, seconds: Mapping[str, float], reference: str | None) -> Scores:
    """Return wall time and how many times faster than retraining.

    Args:
        name: The row.
        seconds: Wall times by row, as far as they are known.
        reference: Name of the retrained model's row, or None.
    """
    if name not in seconds:
        why = "no time was given for this model"
        return {"seconds": Score.missing(why), "speedup": Score.missing(why)}
    scores = {"seconds": Score(value=seconds[name])}
    if reference is None or reference not in seconds:
        scores["speedup"] = Score.missing("no retraining time was given")
    elif seconds[name] <= 0:
        scores["speedup"] = Score.missing("no measurable time was taken")
    else:
        scores["speedup"] = Score(value=speedup(seconds[name], seconds[reference]))
    return scores
