"""How a model is made, as data: a built-in's name or an import path, its arguments, and optional weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field, JsonValue, field_validator
from torch import nn

from efface.errors import InputError, nearest
from efface.fields import Fields
from efface.models.adapt import adapted
from efface.models.checkpoints import Origin, load_checkpoint
from efface.models.hugging_face import described, is_folder
from efface.models.sources import BUILT_IN, resolve
from efface.running.seeding import seeded

__all__ = ["BUILT_FROM", "ModelSpec", "build", "opened"]

BUILT_FROM = "_efface_built_from"
"""Attribute of a module that was built here: how, so that another can be built with fresh weights."""


class ModelSpec(Fields):
    """A model to be built: what `--model` and record.json hold.

    Attributes:
        build: "mlp", "lenet5", "resnet18", "all_cnn", or an import path: `torchvision.models.resnet18`,
            `timm.create_model`, `transformers.AutoModelForImageClassification`, `my_package:build`.
        arguments: Keyword arguments of that function. Built-ins get the data's input shape and number of classes as
            well, torchvision's and timm's the number of classes; every other function gets exactly these.
        weights: A .safetensors file, a state dict, or a folder of Hugging Face's, loaded into the built model.

    Example:
        >>> import efface
        >>> efface.ModelSpec(build="mlp", arguments={"hidden": [32]}).model_dump(exclude_none=True)
        {'build': 'mlp', 'arguments': {'hidden': [32]}}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: str = Field(min_length=1)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    weights: Path | None = None

    @classmethod
    def of_folder(cls, folder: str | Path) -> ModelSpec:
        """Describe what `save_pretrained` of Hugging Face wrote: config.json says how it is built.

        Raises:
            InputError: It holds no `config.json`, or one of another kind of model.
        """
        if not is_folder(folder):
            raise InputError(f"{folder} holds no config.json; needed: a folder written by save_pretrained")
        name, config = described(folder)
        return cls(build=name, arguments={"config": config}, weights=Path(folder))

    @field_validator("build")
    @classmethod
    def _known_or_path(cls, name: str) -> str:
        if name not in BUILT_IN and not re.fullmatch(r"\w+(\.\w+)*[.:]\w+(\.\w+)*", name):
            raise ValueError(
                f"unknown model {name!r}. {nearest(name, BUILT_IN)} Or an import path such as "
                "torchvision.models.resnet18, timm.create_model or my_package:build."
            )
        return name


def build(
    spec: ModelSpec,
    *,
    input_shape: Sequence[int],
    num_classes: int,
    seed: int | torch.Generator = 0,
    trust: bool = False,
    weights: bool = True,
) -> nn.Module:
    """Build the model from `seed`, load the weights if the spec names any, and check that it fits the data.

    Args:
        spec: What to build.
        input_shape: Shape of one input, without the batch axis.
        num_classes: Number of classes of the data.
        seed: Of the initial weights; the caller's random state is not touched.
        trust: Import and run code named by the spec. True for what the user typed; False for what was read from a
            file: then only built-ins, `torchvision.models.*` and timm's own models are built.
        weights: False to leave out `spec.weights` and the arguments that download pretrained weights, because the
            caller loads its own into the architecture.

    Raises:
        InputError: An unknown name or argument, code that is not trusted, a package that is missing, weights that do
            not fit, or logits whose width is not the number of classes.
    """
    model = _made(spec, tuple(input_shape), num_classes, seed, trust, weights)
    if weights and spec.weights is not None:
        load_checkpoint(model, spec.weights)
    return adapted(model, input_shape, num_classes)[0]


def opened(
    spec: ModelSpec, *, input_shape: Sequence[int], num_classes: int, input_dtype: torch.dtype | None = None
) -> tuple[nn.Module, Origin, tuple[str, ...]]:
    """Build a model that others trained, from a spec that the user gave, and load its weights.

    Args:
        spec: What to build, and the file of its weights.
        input_shape: Shape of one input, without the batch axis.
        num_classes: Number of classes of the data.
        input_dtype: Type of the data's inputs.

    Returns:
        The model; how its weights were stored; and a sentence for each thing that was adapted.

    Raises:
        InputError: As `build`, or the spec names no weights.
    """
    if spec.weights is None:
        raise InputError(f"{spec.build} has no weights; name the file that holds them (ModelSpec.weights)")
    model = _made(spec, tuple(input_shape), num_classes, 0, trust=True, weights=False)
    origin, notes = load_checkpoint(model, spec.weights)
    model, more = adapted(model, input_shape, num_classes, input_dtype)
    return model, origin, (*notes, *more)


def _made(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    num_classes: int,
    seed: int | torch.Generator,
    trust: bool,
    weights: bool,
) -> nn.Module:
    """Call the function that builds it."""
    function, arguments = resolve(
        spec.build,
        spec.arguments,
        input_shape=input_shape,
        num_classes=num_classes,
        trust=trust,
        weights=weights,
    )
    _check_arguments(spec, function, arguments)
    with seeded(seed):
        model = function(**arguments)
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec.build} returned {type(model).__name__}, but a torch.nn.Module is needed.")
    object.__setattr__(model, BUILT_FROM, (spec, input_shape, num_classes))
    return model


def _check_arguments(spec: ModelSpec, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Compare the arguments with the function's signature before it runs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a builtin without a signature: the call itself will tell
    names = [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name in arguments:
        if name not in names and not open_ended:
            raise InputError(f"{spec.build} has no argument {name!r}. {nearest(name, names)}")
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(f"{spec.build}{signature} cannot be called with {arguments}: {error}.") from error
