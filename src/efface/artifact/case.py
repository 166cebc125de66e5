"""One original with its data under one request, and the run of all work on them: made once, checked once."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.compatible import as_trained
from efface.artifact.record import Record, describe_data, now, versions, weights_sha256
from efface.data import Data, Split
from efface.errors import InputWarning
from efface.models.adapt import adapted, cast_from
from efface.models.checkpoints import Origin
from efface.models.predictions import accuracy_of, as_naming_the_commonest
from efface.models.spec import ModelSpec, opened
from efface.request import Request
from efface.running.machine import Machine
from efface.running.progress import Progress
from efface.running.run import Run
from efface.training.recipe import Recipe

__all__ = ["Case", "Model", "asked_seed", "given", "network_of", "split_under", "step_seed"]

Model = nn.Module | Artifact

LOOK = 200
"""Training records that a model is asked about when it is given."""

OFFSET = 1
"""Retraining from the original's own seed would give a model unnaturally close to it."""


@dataclass(frozen=True)
class Case:
    """One original, the data it was trained on under one request, and what work on them runs on.

    Attributes:
        original: The model that the request is addressed to, as an artifact.
        split: Its data, held out and gone as when it was trained, under the request.
        run: Device, randomness, progress and history of the work.
    """

    original: Artifact
    split: Split
    run: Run

    @classmethod
    def of(
        cls,
        original: Model | ModelSpec,
        data: Data,
        request: Request | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        recipe: Recipe | None = None,
        validation: float = 0.0,
        progress: Progress | None = None,
        known: Record | None = None,
    ) -> Case:
        """Put an original, its data and a request together.

        Args:
            original: An artifact, any trained module from inputs to logits (a copy is kept), or how to build one and
                where its weights are.
            data: The data it was trained on.
            request: What to forget; None keeps everything.
            seed: Of this piece of work; see `step_seed`.
            device: `auto`, `cpu`, `cuda`, `cuda:N`.
            recipe: How a module was trained, or how Efface shall retrain it; an artifact knows.
            validation: Fraction of the training data that a module has not seen, drawn as `train` draws it from the
                recipe's seed; an artifact knows.
            progress: Where to show progress.
            known: Record of a model made from the original by this request, and perhaps by others before and since, if
                there is one: it says how the original was trained.

        Warns:
            InputWarning: A model that is no artifact gets hardly any of its own training data right.

        Raises:
            InputError: The data is not what the artifact was trained on, the model does not take it, or the request
                does not fit (see `Split.of`).
        """
        record = known or (original.record if isinstance(original, Artifact) else None)
        if record is not None:
            data = as_trained(record, data)
            recipe = record.recipe
            served = record.earlier_requests
            step = None if known is None or request is None else known.step_of(request)
            before, since = (served, ()) if step is None else (served[:step], served[step + 1 :])
            split = Split.of(data, request, record.data.validation, record.data.split_seed, before, since)
        else:
            recipe = recipe or Recipe()
            split = Split.of(data, request, validation, recipe.seed)
        run = Run(seed=step_seed(recipe, seed), device=device, precision=recipe.precision, progress=progress)
        if request is not None and (left := len(split.canaries_left)):
            run.note(f"{left} canaries of training stay in the model: the request ({request.describe()}) leaves them")
        if isinstance(original, Artifact):
            return cls(original, split, run)
        if isinstance(original, ModelSpec):
            shape, classes, dtype = data.input_shape, len(data.classes), data.input_dtype
            network, origin, notes = opened(original, input_shape=shape, num_classes=classes, input_dtype=dtype)
            artifact = given(network, split, recipe, run, spec=original, origin=origin, notes=notes)
        else:
            artifact = given(original, split, recipe, run)
        artifact.record = _looked_at(artifact, split, run)
        return cls(artifact, split, run)

    def child(self, seed: int | None = None) -> Case:
        """Return the same case with a history and notes of its own and, if given, another seed; see `Run.child`."""
        return dataclasses.replace(self, run=self.run.child(seed))


def _looked_at(artifact: Artifact, split: Split, run: Run) -> Record:
    """Return the record with a note of how the model that was given does on its own training data.

    Warns:
        InputWarning: It does no better than naming the commonest class always.
    """
    part = split.train.sample(LOOK, run.generator("given/look"))
    accuracy = accuracy_of(artifact.model, part)
    said = f"the model as given gets {accuracy:.1%} of {len(part)} of its training records right"
    if (commonest := as_naming_the_commonest(accuracy, part.labels)) is not None:
        said += (
            f", and the commonest class alone would give {commonest:.1%}: its inputs are probably not what it was "
            "trained on. Check size, mean and standard deviation of the images (--data-set), the order of the classes, "
            "and that this is its training data"
        )
        warnings.warn(said, InputWarning, stacklevel=4)
    record = artifact.record
    return record.model_copy(update={"notes": (*record.notes, said)})


def step_seed(recipe: Recipe, seed: int) -> int:
    """Return the seed of a step after training: `recipe.seed + 1 + seed`.

    Args:
        recipe: How the original was trained.
        seed: The one asked for, 0 by default.
    """
    return recipe.seed + OFFSET + seed


def asked_seed(recipe: Recipe, step: int) -> int:
    """Return the seed that was asked for, from the seed of a step: the inverse of `step_seed`."""
    return step - recipe.seed - OFFSET


def split_under(record: Record, data: Data, request: Request | None = None) -> Split:
    """Return the data split that a recorded model was trained on, under a further request."""
    whole = as_trained(record, data)
    return Split.of(whole, request, record.data.validation, record.data.split_seed, record.earlier_requests)


def given(
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    run: Run,
    *,
    spec: ModelSpec | None = None,
    origin: Origin | None = None,
    notes: tuple[str, ...] = (),
) -> Artifact:
    """Wrap an already trained model, so that methods can be applied to it.

    Args:
        model: From inputs to logits; a copy is kept.
        split: The data it was trained on.
        recipe: How it was trained, or how Efface shall retrain it.
        run: Device and seed.
        spec: How the network is built, if known.
        origin: How its weights were stored, if they come from a file.
        notes: What was adapted so far.

    Raises:
        InputError: The model does not take the data's inputs, or its output width is not the number of classes; see
            `adapted`.
    """
    came = ", ".join(cast_from(model)) or ("" if origin is None else origin.dtype)
    model, more = adapted(model, split.data.input_shape, len(split.data.classes), split.data.input_dtype)
    copied = run.copied(model).eval()
    record = Record(
        action="given",
        created=now(),
        model=None if spec is None else spec.model_copy(update={"weights": None}),
        origin=origin,
        came_as=came,
        data=describe_data(split),
        method="none",
        settings={},
        recipe=recipe,
        seed=run.seed,
        device=str(run.device),
        seconds={},
        notes=(*notes, *more),
        versions=versions(),
        machine=Machine.here(run.device),
        weights_after=weights_sha256(copied.state_dict()),
    )
    return Artifact(copied, record)


def network_of(model: Model) -> nn.Module:
    """Return the module itself, out of an artifact or as it was given."""
    return model.model if isinstance(model, Artifact) else model
