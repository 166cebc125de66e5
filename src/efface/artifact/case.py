"""One original with its data under one request."""

from __future__ import annotations

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import Record, describe_data, now, versions, weights_sha256
from efface.data import Data, Split
from efface.models.check import check_model
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

__all__ = ["Model", "given", "network_of", "split_of", "split_under"]

Model = nn.Module | Artifact


def split_under(record: Record, data: Data, request: Request | None = None) -> Split:
    """Return the data split that a recorded model was trained on, under a further request."""
    return Split.of(data, request, record.data.validation, record.data.split_seed, record.earlier_requests)


def given(model: nn.Module, split: Split, recipe: Recipe, run: Run, *, spec: ModelSpec | None = None) -> Artifact:
    """Wrap an already trained model, so that methods can be applied to it.

    Args:
        model: From inputs to logits; a copy is kept.
        split: The data it was trained on.
        recipe: How it was trained, or how Efface shall retrain it.
        run: Device and seed.
        spec: How the network is built, if known.

    Raises:
        InputError: The model does not take the data's inputs, or its output width is not the number of classes.
    """
    check_model(model, split.data.input_shape, len(split.data.classes), split.data.input_dtype)
    twin = run.copied(model).eval()
    record = Record(
        action="given",
        created=now(),
        model=None if spec is None else spec.model_copy(update={"weights": None}),
        data=describe_data(split),
        method="none",
        settings={},
        recipe=recipe,
        seed=run.seed,
        device=str(run.device),
        seconds={},
        versions=versions(),
        weights_after=weights_sha256(twin.state_dict()),
    )
    return Artifact(twin, record)


def split_of(artifact: Artifact, data: Data, request: Request | None = None) -> Split:
    """Return the data split as the artifact was trained on it, under a further request."""
    return split_under(artifact.record, data, request)


def network_of(model: Model) -> nn.Module:
    """Return the module itself, out of an artifact or as it was given."""
    return model.model if isinstance(model, Artifact) else model
