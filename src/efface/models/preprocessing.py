"""How a model wants its images: what its library's configuration says, as options of an image source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from efface.models.hugging_face import AUTO_CLASSES, preprocessor
from efface.models.spec import ModelSpec
from efface.running.extras import import_timm, import_torchvision

__all__ = ["preprocessing"]

RESAMPLING = {2: "bilinear", 3: "bicubic", 0: "nearest", 1: "lanczos"}
"""Pillow's numbers, as Hugging Face's preprocessor_config.json has them; nearest and Lanczos are not offered."""

OFFERED = ("bilinear", "bicubic")


def preprocessing(model: ModelSpec | nn.Module, **own: Any) -> dict[str, Any]:
    """Return the options with which an image source prepares images as a model was trained on them.

    Sources of truth: timm's `resolve_data_config` of the model's pretrained configuration, the transforms of
    torchvision's default (or named) weights, `preprocessor_config.json` of a Hugging Face folder. A model that was
    trained on images of another kind needs its own options, which go over these.

    Args:
        model: How a model is built, or a module of timm's.
        own: Options of the caller's, which win. With another `size` and no `resize`, the same share is cut away.

    Returns:
        `size`, `resize`, `mean`, `std`, `interpolation`, where known `squash`, and `preprocessing`, a word for the
        record that says where they come from; `own` alone where nothing is known.

    Example:
        >>> import efface
        >>> efface.preprocessing(efface.ModelSpec(build="torchvision.models.resnet18"))["size"]
        224
    """
    said = _said(model)
    if not said:
        return own
    if isinstance(own.get("size"), int) and "resize" not in own and "resize" in said:
        said["resize"] = math.floor(own["size"] * said["resize"] / said["size"])
    if changed := sorted(said.keys() & own.keys()):
        said["preprocessing"] += f"; as asked for: {', '.join(changed)}"
    return said | own


def _said(model: ModelSpec | nn.Module) -> dict[str, Any]:
    """Return what the library says."""
    if isinstance(model, nn.Module):
        config = getattr(model, "pretrained_cfg", None)
        return _timm(config, {}, type(model).__name__) if isinstance(config, Mapping) else {}
    if model.build.startswith("torchvision.models."):
        return _torchvision(model)
    if model.build in ("timm.create_model", "timm:create_model"):
        name = str(model.arguments.get("model_name"))
        config = import_timm().models.get_pretrained_cfg(name.partition("/")[2] or name)
        return {} if config is None else _timm(config.to_dict(), model.arguments, name)
    if model.build in AUTO_CLASSES:
        return _hugging_face(model)
    return {}


def _options(size: int, resize: int, mean: Any, std: Any, interpolation: str, said: str) -> dict[str, Any]:
    found: dict[str, Any] = {"size": size, "resize": max(size, resize), "mean": list(mean), "std": list(std)}
    return found | {"interpolation": interpolation if interpolation in OFFERED else "bilinear", "preprocessing": said}


def _timm(config: Mapping[str, Any], arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    import_timm()
    from timm.data import resolve_data_config

    asked = {"img_size": arguments["img_size"]} if isinstance(arguments.get("img_size"), int) else {}
    said = resolve_data_config(asked, pretrained_cfg=dict(config))
    size = int(said["input_size"][-1])
    # timm's own evaluation transform: the shorter side is resized to size / crop_pct, and the centre cut out.
    resize = math.floor(size / said["crop_pct"])
    found = _options(size, resize, said["mean"], said["std"], said["interpolation"], f"timm, {name}")
    return found | ({"squash": True} if said["crop_mode"] == "squash" else {})


def _torchvision(spec: ModelSpec) -> dict[str, Any]:
    models = import_torchvision().models
    name = spec.build.removeprefix("torchvision.models.")
    if name not in models.list_models():
        return {}
    kinds = models.get_model_weights(name)
    asked = str(spec.arguments.get("weights") or "DEFAULT").rpartition(".")[2]
    weights = kinds[asked] if asked in kinds.__members__ else kinds.DEFAULT
    preset = weights.transforms()
    needed = {"crop_size", "resize_size", "mean", "std", "interpolation"}
    if not needed <= vars(preset).keys():
        return {}  # a detector's or a quantised model's preset
    size, resize = int(preset.crop_size[0]), int(preset.resize_size[0])
    return _options(size, resize, preset.mean, preset.std, preset.interpolation.value, f"torchvision, {weights}")


def _hugging_face(spec: ModelSpec) -> dict[str, Any]:
    """Read what stands beside the weights; see `ImageProcessor` of transformers for the fields' meaning."""
    said = preprocessor(spec.weights) if spec.weights is not None and spec.weights.is_dir() else None
    config = spec.arguments.get("config")
    if said is None:
        size = config.get("image_size") if isinstance(config, dict) else None
        return (
            {"size": size, "preprocessing": "Hugging Face, config.json (size alone)"} if isinstance(size, int) else {}
        )
    size, resize, squash = _sizes(said)
    if size is None:
        return {}
    channels = 3
    normalise = bool(said.get("do_normalize", True))
    mean = said.get("image_mean", [0.5] * channels) if normalise else [0.0] * channels
    std = said.get("image_std", [0.5] * channels) if normalise else [1.0] * channels
    scale = float(said.get("rescale_factor", 1 / 255)) * 255 if said.get("do_rescale", True) else 255.0
    mean, std = ([float(v) / scale for v in values] for values in (mean, std))
    interpolation = RESAMPLING.get(said.get("resample", 2), "bilinear")
    found = _options(size, resize or size, mean, std, interpolation, "Hugging Face, preprocessor_config.json")
    return found | {"squash": squash}


def _sizes(said: Mapping[str, Any]) -> tuple[int | None, int | None, bool]:
    """Return the side of the input, the shorter side before cutting, and whether both sides are resized alike."""
    size, crop = said.get("size"), said.get("crop_size")
    cut = said.get("do_center_crop", crop is not None)
    inner = crop.get("height") if isinstance(crop, Mapping) else crop
    if isinstance(size, Mapping):
        outer, squash = size.get("shortest_edge", size.get("height")), "shortest_edge" not in size
    else:
        outer, squash = size, True
    if not isinstance(outer, int):
        return None, None, False
    return (int(inner), outer, squash) if cut and isinstance(inner, int) else (outer, outer, squash)
