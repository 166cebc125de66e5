"""Apply a method to an artifact: checked, guarded, timed, recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.artifact.record import Recognition, Record, Spent, describe_data, now, versions, weights_sha256
from efface.data import Split
from efface.data.touched import counting
from efface.errors import InputError, UnsupportedRequestError
from efface.mechanisms.class_means import LayerMeans
from efface.mechanisms.class_removal import KEPT, keep_class_means, memory_without
from efface.methods.catalogue import make, methods
from efface.methods.method import Method, Target
from efface.models.checkpoints import diverged
from efface.models.ensemble import Ensemble
from efface.models.predictions import accuracy_of
from efface.models.spec import ModelSpec
from efface.running.machine import Machine
from efface.running.peak import watched_memory
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.convergence import still_falling
from efface.training.loop import fit, warm_up
from efface.training.recipe import Recipe

__all__ = ["apply", "check", "forgotten", "prepare", "rebuilt", "recorded_settings"]

IDS = 10_000
"""Ids of forgotten records that a record keeps."""

LOOK = 2000
"""Records to forget that a last look reads at most."""


def rebuilt(model: nn.Module, record: Record) -> nn.Module:
    """Return the architecture that a record's chain of methods left; for `Artifact.load`."""
    for step in record.chain:
        if step.method in methods():
            model = make(step.method, step.settings).rebuild(model, step)
    return model


def prepare(
    method: Method | None,
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    run: Run,
    *,
    spec: ModelSpec | None = None,
    parent: Artifact | None = None,
    keep: Sequence[str] = (),
) -> Artifact:
    """Train a copy of `model` under a method and return the artifact.

    Args:
        method: Decides what training leaves behind; None trains plainly.
        model: Initial weights, or an already trained model; not changed.
        split: The data, without a request.
        recipe: How to train.
        run: Device, precision, randomness, progress, history.
        spec: How the network was built, for the record.
        parent: The artifact that `model` comes from, if training continues from one.
        keep: What to keep for forgetting beside what the method leaves: `class-means`.

    Raises:
        InputError: Training diverged, the data does not fit, or `keep` names something unknown.
    """
    if unknown := [name for name in keep if name != KEPT]:
        raise InputError(f"training cannot keep {', '.join(unknown)}; allowed: {KEPT}")
    _check_apart(method, model)
    if method is not None:
        _check_inputs(method, split)
    if method is not None and parent is not None:
        method.check_start(parent)
    before = weights_sha256(model.state_dict())
    run.purpose = _purpose(method)
    warm_up(run)
    started = time.perf_counter()
    copied = run.copied(model)
    # Training draws from the run; a model that draws in its forward pass must not move the caller's random numbers.
    with seeded(run.number("train/forward passes")):
        trained, memory = (
            method.train(copied, split, recipe, run) if method else (fit(copied, split.train, recipe, run), {})
        )
    seconds = {"train": time.perf_counter() - started}
    if unfinished := still_falling(run.history.of("train"), recipe, len(split.data.classes)):
        run.note(unfinished)
    trained.eval()
    after = weights_sha256(trained.state_dict())
    if keep:
        started = time.perf_counter()
        memory = {**memory, **keep_class_means(trained, split, run, after)}
        seconds["keep"] = time.perf_counter() - started
    record = Record(
        action="train",
        created=now(),
        model=None if spec is None else spec.model_copy(update={"weights": None}),
        data=describe_data(split),
        method=method.name if method else "plain",
        settings=method.settings() if method else {},
        recipe=recipe,
        seed=run.seed,
        device=str(run.device),
        seconds=seconds,
        notes=tuple(run.notes),
        history=tuple(run.history.rows),
        versions=versions(),
        machine=Machine.here(run.device),
        weights_before=before,
        weights_after=after,
        kept=tuple(dict.fromkeys(keep)),
        parent=parent.record if parent else None,
    )
    return Artifact(trained, record, memory, parent=parent, interim=tuple(run.interim))


def apply(method: Method, case: Case) -> Artifact:
    """Forget a case's request with a method, and return a new artifact whose parent is the original.

    Checks come first: target, preparation, the method's own. The split the method sees raises `DataAccessError` for
    data it did not declare, and the original's weights are compared before and after.

    Args:
        method: What forgets.
        case: The original with its data under the request, and what the work runs on.

    Raises:
        UnsupportedRequestError: The method cannot forget this kind of target.
        NotPreparedError: Training left nothing behind for it.
        InputError: The method's own check, or forgetting produced weights that are not finite.
    """
    artifact, split, run = case.original, case.split, case.run
    check(method, artifact, split)
    before = artifact.weights_sha256
    run.purpose = _purpose(method)
    if method.reads():  # what reads no data trains nothing, and need not wait
        warm_up(run)
    with counting(split.data.train, split.positions) as touched, watched_memory(run.device) as peak:
        started = time.perf_counter()
        # Methods draw from the run; a model that draws in its forward pass must not move the caller's random numbers.
        with seeded(run.number(f"{method.name}/forward passes")):
            model, memory = method.forget_and_keep(artifact, split.only(method.reads(), method.name), run)
        seconds = time.perf_counter() - started
    if artifact.weights_sha256 != before:
        raise RuntimeError(f"{method.name} changed its input model; this is a defect of the method")
    spent = Spent(samples=touched.counts, peak_memory=peak.taken)
    return forgotten(method, artifact, model, split, run, {"forget": seconds}, memory, spent)


def check(method: Method, artifact: Artifact, split: Split) -> None:
    """Raise what `apply` raises before any work: no request, a target that the method cannot serve, its own check."""
    if split.request is None or split.resolved is None:
        raise InputError("there is no request in this split; give one to Split.of")
    target = split.request.target
    if target not in method.needs.targets:
        raise UnsupportedRequestError(
            f"{method.name} forgets {' and '.join(method.needs.targets)}, not {target}; "
            f"methods that can: {', '.join(_serving(target))}"
        )
    _check_apart(method, artifact.model)
    _check_inputs(method, split)
    _check_settings(method, artifact)
    method.check(artifact, split)


def _check_settings(method: Method, artifact: Artifact) -> None:
    """Refuse hyper-parameters of training that were given for forgetting and are not those of that training."""
    trained, given = _trained_with(method, artifact), method.settings()
    known = type(method)().settings() if trained else {}
    if other := {k: v for k, v in given.items() if k in trained and v not in (trained[k], known[k])}:
        wrong = ", ".join(f"{k}={v} (trained with {trained[k]})" for k, v in other.items())
        raise InputError(
            f"{method.name} reads {', '.join(other)} when it trains, and forgetting cannot change it: {wrong}. Leave "
            "it out, or train anew with it"
        )


def recorded_settings(method: Method, artifact: Artifact) -> dict[str, object]:
    """Return a method's hyper-parameters as the record of a forgetting has them.

    Those that only training reads are as they were when this method trained the model, whatever the method says.
    """
    return method.settings() | _trained_with(method, artifact)


def _trained_with(method: Method, artifact: Artifact) -> dict[str, object]:
    """Return the hyper-parameters that only training reads, as they were when this method last trained."""
    steps = (r for r in reversed(artifact.record.chain) if r.action == "train" and r.method == method.name)
    step = next(steps, None)
    return {} if step is None else {k: v for k, v in step.settings.items() if k in method.at_training}


def _check_inputs(method: Method, split: Split) -> None:
    """Refuse token ids to a method that makes inputs."""
    if method.makes_inputs and split.data.input_dtype == torch.int64:
        others = [n for n in _serving(method.needs.targets[0]) if not methods()[n].makes_inputs]
        raise InputError(
            f"{method.name} makes inputs or moves them by gradients, but the inputs of {split.data.name} are token "
            f"ids, of which there is no gradient; methods that can: {', '.join(others)}"
        )


def forgotten(
    method: Method,
    artifact: Artifact,
    model: nn.Module,
    split: Split,
    run: Run,
    seconds: dict[str, float],
    memory: dict[str, Tensor] | None = None,
    spent: Spent | None = None,
) -> Artifact:
    """Return the new artifact around the model that a method made; `apply` does so itself.

    Args:
        method: What made it.
        artifact: What it was made from.
        model: What was made.
        split: The data under the request.
        run: What it ran on.
        seconds: Wall time; `forget` where it may be compared with other methods' times.
        memory: What is kept for later requests; what the method's `memory_after` says if not given.
        spent: What it cost beside time, if that was measured.

    Raises:
        InputError: The weights are not finite.
    """
    assert split.resolved is not None
    model.eval()
    bad = diverged(model)
    if bad:
        raise InputError(f"{method.name} made weights that are not finite ({', '.join(bad[:3])}); use smaller steps")
    if memory is None:
        memory = method.memory_after(artifact, model, split)
    after = weights_sha256(model.state_dict())
    with seeded(run.number(f"{method.name}/last look")):
        recognition = _recognition(method, artifact, model, split, run)
    if after == artifact.weights_sha256:
        run.fail(f"{method.name}: nothing was done: the weights are the original's")
    elif recognition is not None and recognition.still:
        run.fail(f"{method.name}: {recognition.text}")
    memory = memory_without(memory, split, run)
    if came := artifact.record.first_came_as:
        run.note(f"the weights came as {came}: they were changed, and are kept, in float32")
    record = Record(
        action="forget",
        created=now(),
        model=artifact.record.model,
        data=describe_data(split),
        request=split.request,
        request_fingerprint=split.resolved.fingerprint,
        method=method.name,
        settings=recorded_settings(method, artifact),
        recipe=artifact.record.recipe,
        seed=run.seed,
        device=str(run.device),
        seconds=seconds,
        spent=spent,
        notes=tuple(run.notes),
        failures=tuple(run.failures),
        counts=split.counts,
        forgotten_ids=split.forget_ids[:IDS],
        recognition=recognition,
        history=tuple(run.history.rows),
        versions=versions(),
        machine=Machine.here(run.device),
        weights_before=artifact.weights_sha256,
        weights_after=after,
        kept=(KEPT,) if LayerMeans.recalled(memory) else (),
        parent=artifact.record,
    )
    return Artifact(model, record, memory, parent=artifact, interim=tuple(run.interim))


def _check_apart(method: Method | None, model: nn.Module) -> None:
    """Refuse to train or change the members of an ensemble together, which would mix what was kept apart."""
    if isinstance(model, Ensemble) and not (method and method.apart):
        raise InputError(
            f"this model is an ensemble of {len(model.members)} members trained apart, and "
            f"{method.name if method else 'plain training'} would change them together; methods that do not: "
            f"{', '.join(name for name, kind in methods().items() if kind.apart)}"
        )


def _recognition(method: Method, artifact: Artifact, model: nn.Module, split: Split, run: Run) -> Recognition | None:
    """Look whether the model still recognises what it was to forget; None where the method may not look."""
    found = method.recognised(artifact, model, split, run)
    of: Literal["records", "codes"] = "codes"
    if found is None and "forget" in method.reads() and "forget" in split.allowed:
        of, part = "records", split.forget.sample(LOOK, run.generator("forget/last look"))
        before, after = (accuracy_of(m, part) for m in (run.copied(artifact.model), model))
        found = len(part), before, after
    if found is None:
        return None
    size, before, after = found
    still = bool(split.forget_classes) and before > 0 and after >= before / 2
    return Recognition(of=of, size=size, before=before, after=after, still=still)


def _purpose(method: Method | None) -> str:
    return "" if method is None else f"{method.name} {json.dumps(method.settings(), sort_keys=True)}"


def _serving(target: Target) -> list[str]:
    from efface.methods.catalogue import methods

    return [name for name, kind in methods().items() if target in kind.needs.targets and not kind.needs.prepared]
