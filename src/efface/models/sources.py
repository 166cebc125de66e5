"""Where a network comes from: built in, torchvision, timm, Hugging Face, or an import path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from efface.errors import InputError
from efface.models.hugging_face import AUTO_CLASSES, from_config
from efface.models.networks.all_cnn import all_cnn
from efface.models.networks.lenet5 import lenet5
from efface.models.networks.mlp import mlp
from efface.models.networks.resnet18 import resnet18
from efface.running.extras import import_timm, import_torchvision
from efface.running.imported import imported, nearest_few

__all__ = ["BUILT_IN", "is_foreign", "resolve"]

BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "all_cnn": all_cnn,
    "lenet5": lenet5,
    "mlp": mlp,
    "resnet18": resnet18,
}

# Arguments of timm.create_model that read other files or repositories than timm's own.
TIMM_ELSEWHERE = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def resolve(
    name: str,
    given: Mapping[str, Any],
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    trust: bool,
    weights: bool,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function that builds a model and the arguments it gets.

    Args:
        name: A built-in's name or an import path.
        given: Keyword arguments for it.
        input_shape: Shape of one input, for built-ins; its channels for timm.
        num_classes: Number of classes; what the caller says under that name stays.
        trust: Allow code outside of Efface, torchvision, timm and transformers.
        weights: Leave arguments that ask for pretrained weights.

    Raises:
        InputError: The function does not exist, or may not be run.
    """
    arguments: dict[str, Any] = dict(given)
    if name in BUILT_IN:
        function = BUILT_IN[name]
        offered = {"input_shape": input_shape, "in_channels": input_shape[0], "num_classes": num_classes}
        accepted = inspect.signature(function).parameters
        return function, {key: value for key, value in offered.items() if key in accepted} | arguments
    if name.startswith("torchvision.models."):
        # GoogLeNet and Inception compute something else when they are built with weights: keep the argument there.
        if not weights and not name.endswith(("googlenet", "inception_v3")):
            arguments.pop("weights", None)
        if arguments.get("weights") is None:  # torchvision's own weights have a width of their own
            arguments.setdefault("num_classes", num_classes)
        return _torchvision_model(name), arguments
    if name in ("timm.create_model", "timm:create_model"):
        if not weights:
            arguments.pop("pretrained", None)
        arguments.setdefault("num_classes", num_classes)
        if len(input_shape) == 3 and input_shape[0] != 3:
            arguments.setdefault("in_chans", input_shape[0])
        return _timm_model(arguments, trust), arguments
    if name in AUTO_CLASSES:
        return from_config(name), arguments
    if not trust:
        raise InputError(
            f"The model is built by {name!r}, which is code outside Efface, torchvision.models, timm and transformers; "
            "it was not run, because that path was read from a file. If you trust where that file comes from, pass "
            "trust=True in Python, or --trust on the command line."
        )
    return _import(name), arguments


def is_foreign(name: str) -> bool:
    """Say whether a builder is code outside Efface, torchvision, timm and transformers, which only trust runs."""
    timm = ("timm.create_model", "timm:create_model")
    return not (name in BUILT_IN or name.startswith("torchvision.models.") or name in timm or name in AUTO_CLASSES)


def _torchvision_model(path: str) -> Callable[..., Any]:
    """Return a registered torchvision builder; attributes are not followed, which could lead to any function."""
    models = import_torchvision().models
    name = path.removeprefix("torchvision.models.")
    if name not in models.list_models():
        raise InputError(f"torchvision has no model {name!r}. {nearest_few(name, models.list_models())}")
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
        raise InputError(f"timm has no model {name!r}. {nearest_few(name, timm.list_models())}")
    create: Callable[..., Any] = timm.create_model
    return create


def _import(path: str) -> Callable[..., Any]:
    """Import a user's function that builds a model."""
    found = imported(path, example="Write my_package:build for the function `build` in my_package.py.")
    if not callable(found):
        raise InputError(f"{path!r} is a {type(found).__name__}, not a function that builds a model.")
    function: Callable[..., Any] = found
    return function
