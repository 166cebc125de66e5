"""Images are prepared as each library says, which an image source does alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efface.data.sources.images import Preparation
from efface.models.preprocessing import preprocessing
from efface.models.spec import ModelSpec
from efface.running.extras import import_pillow, import_timm, import_torchvision

PICTURE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


def prepared(options: dict[str, Any]) -> torch.Tensor:
    """What an image source makes of the picture."""
    said = Preparation.of(**{k: v for k, v in options.items() if k != "preprocessing"})
    pixels = said.cut()(import_pillow().fromarray(PICTURE)) / 255
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (said.normalisation.mean, said.normalisation.std))
    return (pixels - mean) / std


def test_torchvisions_own_transform_gives_the_same_input() -> None:
    found = preprocessing(ModelSpec(build="torchvision.models.resnet18"))
    assert found["preprocessing"] == "torchvision, ResNet18_Weights.IMAGENET1K_V1"
    transform = import_torchvision().models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    torch.testing.assert_close(prepared(found), transform(import_pillow().fromarray(PICTURE)))


@pytest.mark.parametrize("name", ["convnext_atto", "test_vit"])
def test_timms_own_transform_gives_the_same_input(name: str) -> None:
    timm = import_timm()
    found = preprocessing(ModelSpec(build="timm.create_model", arguments={"model_name": name}))
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config, is_training=False)
    torch.testing.assert_close(prepared(found), transform(import_pillow().fromarray(PICTURE)))


def test_arguments_and_modules_of_timm_count() -> None:
    arguments = {"model_name": "test_vit", "img_size": 64}
    assert preprocessing(ModelSpec(build="timm.create_model", arguments=arguments))["size"] == 64
    module = import_timm().create_model("test_vit", num_classes=3)
    assert preprocessing(module)["mean"] == list(module.pretrained_cfg["mean"])
    assert preprocessing(torch.nn.Linear(2, 2)) == {}
    assert preprocessing(ModelSpec(build="mlp")) == {}


def test_options_of_ones_own_win_and_another_size_cuts_the_same_share() -> None:
    spec = ModelSpec(build="torchvision.models.resnet18")
    found = preprocessing(spec, size=56, workers=2)
    assert (found["size"], found["resize"], found["workers"]) == (56, 64, 2)
    assert found["preprocessing"] == "torchvision, ResNet18_Weights.IMAGENET1K_V1; as asked for: size"
    assert preprocessing(spec, size=56, resize=56)["resize"] == 56
    assert preprocessing(ModelSpec(build="mlp"), size=8) == {"size": 8}


def hugging_face(folder: Path, **said: object) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 48}
    (folder / "config.json").write_text(json.dumps(config))
    if said:
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return preprocessing(ModelSpec.of_folder(folder))


def test_a_hugging_face_folder_says_sizes_and_constants(tmp_path: Path) -> None:
    assert hugging_face(tmp_path)["size"] == 48
    constants = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}
    squashed = hugging_face(tmp_path, size={"height": 32, "width": 32}, **constants)
    assert (squashed["size"], squashed["squash"], squashed["interpolation"]) == (32, True, "bicubic")
    image = import_pillow()
    pixels = np.asarray(image.fromarray(PICTURE).resize((32, 32), image.Resampling.BICUBIC)) / 255
    expected = torch.tensor((pixels - 0.5) / 0.25).float().permute(2, 0, 1)
    torch.testing.assert_close(prepared(squashed), expected, rtol=1e-4, atol=1e-4)
    cut = hugging_face(tmp_path, size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, **constants)
    assert (cut["size"], cut["resize"], cut["squash"]) == (32, 40, False)
    raw = hugging_face(tmp_path, size=32, do_normalize=False, do_rescale=False)
    torch.testing.assert_close(prepared(raw)[0, 0, 0] * 0 + raw["std"][0] * 255, torch.tensor(1.0))
