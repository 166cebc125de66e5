"""How a model is made, as data: a built-in's name or an import path, its arguments, and optional weights."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from torch import nn

from efface.errors import InputError, nearest
from efface.models.all_cnn import all_cnn
from efface.models.check import check_model
from efface.models.lenet5 import lenet5
from efface.models.mlp import mlp
from efface.models.resnet18 import resnet18
from efface.models.seeding import seeded
from efface.models.torchvision_compat import import_timm, import_torchvision
from efface.models.weights import load_weights

__all__ = ["BUILT_IN", "ModelSpec", "build"]

BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "all_cnn": all_cnn,
    "lenet5": lenet5,
    "mlp": mlp,
    "resnet18": resnet18,
}

# Arguments of timm.create_model that read other files or repositories than timm's own.
TIMM_ELSEWHERE = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


class ModelSpec(BaseModel):
    """A model to be built: what `--model` and record.json hold.

    Attributes:
        build: "mlp", "lenet5", "resnet18", "all_cnn", or an import path: `torchvision.models.resnet18`,
            `timm.create_model`, `my_package:build`.
        arguments: Keyword arguments of that function. Built-ins get the data's input shape and number of classes as
            well; every other function gets exactly these.
        weights: A .safetensors file or a state dict, loaded into the built model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: str = Field(min_length=1)
    arguments: dict[str, JsonValue] = {}
    weights: Path | None = None

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
    function, arguments = _resolve(spec, tuple(input_shape), num_classes, trust, weights)
    _check_arguments(spec, function, arguments)
    with seeded(seed):
        model = function(**arguments)
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec.build} returned {type(model).__name__}, but a torch.nn.Module is needed.")
    if weights and spec.weights is not None:
        load_weights(model, spec.weights)
    check_model(model, input_shape, num_classes)
    return model


def _resolve(
    spec: ModelSpec, input_shape: tuple[int, ...], num_classes: int, trust: bool, weights: bool
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function that builds the model and the arguments it gets."""
    arguments: dict[str, Any] = dict(spec.arguments)
    if spec.build in BUILT_IN:
        function = BUILT_IN[spec.build]
        offered = {"input_shape": input_shape, "in_channels": input_shape[0], "num_classes": num_classes}
        accepted = inspect.signature(function).parameters
        return function, {key: value for key, value in offered.items() if key in accepted} | arguments
    if spec.build.startswith("torchvision.models."):
        # GoogLeNet and Inception compute something else when they are built with weights: keep the argument there.
        if not weights and not spec.build.endswith(("googlenet", "inception_v3")):
            arguments.pop("weights", None)
        return _torchvision_model(spec.build), arguments
    if spec.build in ("timm.create_model", "timm:create_model"):
        if not weights:
            arguments.pop("pretrained", None)
        return _timm_model(arguments, trust), arguments
    if not trust:
        raise InputError(
            f"The model is built by {spec.build!r}, which is code outside Efface, torchvision.models and timm; it was "
            "not run, because that path was read from a file. If you trust where that file comes from, pass trust=True "
            "in Python, or --trust on the command line."
        )
    return _import(spec.build), arguments


def _torchvision_model(path: str) -> Callable[..., Any]:
    """Return a registered torchvision builder; attributes are not followed, which could lead to any function."""
    models = import_torchvision().models
    name = path.removeprefix("torchvision.models.")
    if name not in models.list_models():
        raise InputError(f"torchvision has no model {name!r}. {_nearest_few(name, models.list_models())}")
    builder: Callable[..., Any] = models.get_model_builder(name)
    return builder


def _timm_model(arguments: dict[str, Any], trust: bool) -> Callable[..., Any]:
    """Return timm.create_model after checking the model's name and, without trust, that all comes from timm itself."""
    timm = import_timm()
    name = arguments.get("model_name")
    if not isinstance(name, str):
        raise InputError("timm.create_model needs the argument model_name, e.g. model_name=resnet18.")
    elsewhere = [key for key in TIMM_ELSEWHERE if key in arguments]
    if not trust and (elsewhere or "/" in name or ":" in name):
        raise InputError(
            f"timm would build {name!r} from outside its own registry{f' ({elsewhere[0]})' if elsewhere else ''}, and "
            "that was read from a file. If you trust where that file comes from, pass trust=True (--trust)."
        )
    if "/" not in name and ":" not in name and not timm.is_model(name):
        raise InputError(f"timm has no model {name!r}. {_nearest_few(name, timm.list_models())}")
    create: Callable[..., Any] = timm.create_model
    return create


def _import(path: str) -> Callable[..., Any]:
    """Import `package.module:function` or `package.module.function`; the current folder counts as importable."""
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # at the end: it finds the user's own module and never hides an installed package
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise  # the user's module exists, and something that it imports does not
        raise InputError(
            f"{path!r}: there is no module {error.name!r} to import; looked on the Python path and in {here}. "
            "Write my_package:build for the function `build` in my_package.py."
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")]
            raise InputError(f"{module_name} has no attribute {attribute!r}. {_nearest_few(part, names)}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{path!r} is a {type(found).__name__}, not a function that builds a model.")
    function: Callable[..., Any] = found
    return function


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


def _nearest_few(name: str, allowed: Sequence[str]) -> str:
    """As `nearest`, for hundreds of names: those that resemble, or the first few."""
    start = re.match(r"[A-Za-z]*", name)
    alike = [other for other in allowed if start and other.lower().startswith(start[0].lower())]
    return nearest(name, (alike or list(allowed))[:12])
