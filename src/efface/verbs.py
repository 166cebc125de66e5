"""The verbs as functions: train, forget, audit. The command line has one subcommand for each, with the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from efface.artifact import Artifact
from efface.data import Data, Split
from efface.errors import InputError
from efface.lineage import check_architecture, check_data, check_reference, rebuilt, split_under
from efface.methods.catalogue import make
from efface.methods.method import Method, apply, given, prepare
from efface.models.check import check_model
from efface.models.spec import ModelSpec, build
from efface.references import References, train_references
from efface.request import Request
from efface.run import Progress, Run
from efface.training import Recipe

if TYPE_CHECKING:
    from efface.auditing.result import Audit
    from efface.auditing.subject import AuditSettings

__all__ = ["audit", "forget", "rebuilt", "split_of", "train", "train_references"]

Model = nn.Module | Artifact
AUTO = "auto"


def train(
    model: nn.Module | ModelSpec | str | Artifact,
    data: Data,
    *,
    method: str | Method | None = None,
    settings: Mapping[str, Any] | None = None,
    keep: Sequence[str] = (),
    recipe: Recipe | None = None,
    validation: float = 0.1,
    device: str = "auto",
    progress: Progress | None = None,
) -> Artifact:
    """Train a classifier, plainly or with what a method needs to forget later.

    Args:
        model: A built-in's name, a `ModelSpec`, your own module (a copy is trained, from its present weights), or an
            artifact to continue from (e.g. to fine-tune mnemonic codes in).
        data: Training and test data.
        method: A method that prepares at training time (its name or an instance); None trains plainly.
        settings: Hyper-parameters of a method given by name.
        keep: What to keep for forgetting beside what the method leaves: `class-means`, the mean inputs of every layer
            per class, with which the methods class-means and project-distil need no data of the forgotten class.
        recipe: How to train; the artifact's own, or the default recipe, if not given.
        validation: Fraction of the training data to hold out; an artifact's own value wins.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

    Returns:
        The artifact; nothing is written until `save`.

    Raises:
        InputError: Something given does not fit.
    """
    parent = model if isinstance(model, Artifact) else None
    recipe = recipe or (parent.record.recipe if parent else Recipe())
    chosen = None if method is None else _method(method, settings)
    if chosen is None and settings:
        raise InputError(
            f"hyper-parameters {', '.join(settings)} were given, but no method to take them; name a method"
        )
    run = Run(seed=recipe.seed, device=device, precision=recipe.precision, progress=progress)
    spec: ModelSpec | None = None
    if isinstance(model, Artifact):
        check_data(model.record, data)
        spec, network = model.record.model, model.model
        split = split_of(model, data)
    else:
        if isinstance(model, str):
            model = ModelSpec(build=model)
        if isinstance(model, ModelSpec):
            spec = model
            network = build(
                model,
                input_shape=data.input_shape,
                num_classes=len(data.classes),
                seed=run.number("initial weights"),
                trust=True,
            )
        else:
            network = model
            check_model(network, data.input_shape, len(data.classes))
        split = Split.of(data, validation=validation, seed=recipe.seed)
    return prepare(chosen, network, split, recipe, run, spec=spec, parent=parent, keep=keep)


def forget(
    model: Model,
    data: Data,
    request: Request,
    *,
    method: str | Method,
    settings: Mapping[str, Any] | None = None,
    retrained: Model | None = None,
    recipe: Recipe | None = None,
    validation: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Artifact:
    """Make a trained classifier forget.

    Args:
        model: An artifact, or your own trained module; it is not changed.
        data: The data it was trained on.
        request: What to forget.
        method: Name or instance; `auto` tries what the request and the data allow, see `efface.choosing.choose`.
        settings: Hyper-parameters of a method given by name.
        retrained: For `auto`: a model retrained without the data, to judge by.
        recipe: How your own module was trained, for methods that train; an artifact knows.
        validation: Fraction of the training data held out, for your own module (its training should not have seen
            it); an artifact knows.
        seed: Seed of this step.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

    Returns:
        A new artifact whose record names the old one as its parent.

    Raises:
        InputError: The request, the method, its settings or the data do not fit together.
    """
    chosen = None if method == AUTO else _method(method, settings)
    if chosen is None and settings:
        raise InputError("method auto takes every method at its defaults; name a method to set hyper-parameters")
    if chosen is not None and retrained is not None:
        raise InputError("a retrained model is only for method auto to judge by; give it to the audit instead")
    if isinstance(model, Artifact):
        check_data(model.record, data)
        recipe = model.record.recipe
        split = split_of(model, data, request)
    else:
        recipe = recipe or Recipe()
        split = Split.of(data, request, validation, recipe.seed)
    # Offset by one: retraining from the original's own seed would give a model unnaturally close to it.
    run = Run(seed=recipe.seed + 1 + seed, device=device, precision=recipe.precision, progress=progress)
    artifact = model if isinstance(model, Artifact) else given(model, split, recipe, run)
    if chosen is None:
        from efface.choosing import choose  # scikit-learn and scipy, which no method needs

        return choose(artifact, split, run, None if retrained is None else _network(retrained))
    return apply(chosen, artifact, split, run)


def audit(
    model: Model,
    data: Data,
    request: Request | None = None,
    *,
    original: Model | None = None,
    retrained: Model | Sequence[Model] | References | bool = False,
    others: Mapping[str, Model] | None = None,
    recipe: Recipe | None = None,
    validation: float = 0.1,
    settings: AuditSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Audit:
    """Measure how far a model has forgotten, beside the original, retrained, fine-tuned and logit-mask rows.

    Args:
        model: What to audit: an artifact made by `forget`, or any module.
        data: The data the original was trained on.
        request: What was to be forgotten; an artifact knows.
        original: The model before; an artifact made in this process knows.
        retrained: One or several models trained without the data, or a folder of them (`load_references`); True
            trains one now; False audits at level (a). Of a folder, repeated runs of the model's own method are used,
            too.
        others: More rows by name.
        recipe: How the original was trained, if neither model is an artifact.
        validation: Fraction held out of training; an artifact knows.
        settings: What the audit may spend, and its tolerances.
        seed: Seed of the audit's draws and of the models it trains.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        progress: Where to show progress.

    Raises:
        InputError: A model, the request or the data is missing or does not fit.
    """
    from efface.auditing.answers import Answers
    from efface.auditing.assess import assess  # scikit-learn and scipy, which training and forgetting do not need

    record = model.record if isinstance(model, Artifact) else None
    if request is None:
        request = record.request if record else None
    if request is None:
        raise InputError("the request is missing: say what was to be forgotten")
    if original is None:
        original = model.parent if isinstance(model, Artifact) else None
    if original is None:
        raise InputError("the original model is missing: give the model (or artifact folder) before forgetting")
    if record is not None:
        check_data(record, data)
        validation, split_seed, recipe = record.data.validation, record.data.split_seed, record.recipe
        earlier = tuple(r for r in record.earlier_requests if r != request)
    elif isinstance(original, Artifact):
        check_data(original.record, data)
        validation, split_seed = original.record.data.validation, original.record.data.split_seed
        recipe, earlier = original.record.recipe, original.record.earlier_requests
    else:
        recipe = recipe or Recipe()
        split_seed, earlier = recipe.seed, ()
    split = Split.of(data, request, validation, split_seed, earlier)
    run = Run(seed=recipe.seed + 1 + seed, device=device, precision=recipe.precision, progress=progress)
    before = original if isinstance(original, Artifact) else given(original, split, recipe, run)

    name = record.method if record and record.action == "forget" else "candidate"
    rows: dict[str, nn.Module] = {"original": before.model}
    seconds: dict[str, float] = {}
    notes: list[str] = []
    history = [dict(row) for row in record.history] if record else []
    if isinstance(retrained, References):
        retrained.check(before.record, split)
    if record and isinstance(original, Artifact) and record.weights_before not in {None, original.record.weights_after}:
        raise InputError(
            "this original is not the model that forgetting started from "
            f"(SHA-256 {original.record.weights_after[:12]}..., recorded {str(record.weights_before)[:12]}...)"
        )
    references = _references(retrained, before, split, run)
    repeats = (
        retrained.unlearned(record.method, record.settings) if record and isinstance(retrained, References) else []
    )
    if references:
        rows["retrained"] = references[0].model
        if "forget" in references[0].record.seconds:
            seconds["retrained"] = references[0].record.seconds["forget"]
    for row, kind in (("fine-tuned", "fine-tune"), ("logit mask", "logit-mask")):
        baseline = make(kind)
        if request.target in baseline.needs.targets and name not in {row, kind}:
            try:
                made = apply(baseline, before, split, run.twin())
            except InputError as error:
                notes.append(f"the row {row!r} is not assessed: {error}")
            else:
                rows[row], seconds[row] = made.model, made.record.seconds["forget"]
    for label, other in (others or {}).items():
        rows[label] = _network(other)
        if isinstance(other, Artifact) and "forget" in other.record.seconds:
            seconds[label] = other.record.seconds["forget"]
    rows[name] = _network(model)
    if record and "forget" in record.seconds:
        seconds[name] = record.seconds["forget"]
    found = assess(
        {label: run.copied(network) for label, network in rows.items()},
        split,
        run,
        candidate=name,
        references=[run.copied(r.model) for r in references[1:]],  # the first is the row
        shadows=[run.copied(r.model) for r in repeats],
        seconds=seconds,
        history=history,
        settings=settings,
        answers=Answers(retrained.answers) if isinstance(retrained, References) and retrained.answers else None,
    )
    if record and isinstance(retrained, References):
        from efface.references.shadow_attack import shadow_notes

        notes += shadow_notes(retrained, split, record)
    return found.model_copy(update={"notes": (*found.notes, *notes)})


def split_of(artifact: Artifact, data: Data, request: Request | None = None) -> Split:
    """Return the data split as the artifact was trained on it, under a further request."""
    return split_under(artifact.record, data, request)


def _method(method: str | Method, settings: Mapping[str, Any] | None) -> Method:
    if isinstance(method, Method):
        if settings:
            raise InputError("settings go with a method's name; an instance already has its own")
        return method
    return make(method, settings)


def _network(model: Model) -> nn.Module:
    return model.model if isinstance(model, Artifact) else model


def _references(
    retrained: Model | Sequence[Model] | References | bool, original: Artifact, split: Split, run: Run
) -> list[Artifact]:
    if isinstance(retrained, References):
        models = list(retrained)
        check_architecture(models[0].model, original.model)
        return models
    if retrained is False:
        return []
    if retrained is True:
        return [apply(make("retrain"), original, split, run.twin())]
    listed = [retrained] if isinstance(retrained, Artifact | nn.Module) else list(retrained)
    made = []
    for reference in listed:
        if isinstance(reference, Artifact):
            check_reference(reference.record, original.record, split)
            made.append(reference)
        else:
            made.append(given(reference, split, original.record.recipe, run))
    return made
