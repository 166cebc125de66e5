"""Models of three libraries, each through import, forget, audit and export, and loaded again by its own library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Data, Split, load
from efface.models.preprocessing import preprocessing
from efface.models.spec import ModelSpec
from efface.running.extras import import_pillow, import_timm, import_torchvision
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe
from tests.conftest import SMALL, efface_command

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, each of its own brightness."""
    root, rng = tmp_path_factory.mktemp("elsewhere") / "photos", np.random.default_rng(0)
    for part, each in (("train", 8), ("test", 3)):
        for level, name in zip((20, 120, 230), CLASSES, strict=True):
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(each):
                pixels = np.clip(rng.normal(level, 10, (32, 32, 3)), 0, 255).astype(np.uint8)
                import_pillow().fromarray(pixels).save(folder / f"{k}.png")
    return root


class Library(NamedTuple):
    """How a library makes a network, how its users save one, and how they load one."""

    network: Callable[[], nn.Module]
    save: Callable[[nn.Module, Path], Path]
    options: tuple[str, ...]
    spec: Callable[[Path], ModelSpec]
    load: Callable[[Path], nn.Module]
    exported: str
    came_as: str


def torchvision_network() -> nn.Module:
    return import_torchvision().models.shufflenet_v2_x0_5(num_classes=3)


def save_lightning(model: nn.Module, folder: Path) -> Path:
    """The layout of Lightning's ModelCheckpoint: weights of a module that holds the network, beside all else."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()} | {"loss.weight": torch.ones(3)}
    torch.save(
        {
            "epoch": 3,
            "global_step": 12,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "/home/me/x.ckpt"}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 0.1, "width": 3},
        },
        folder / "last.ckpt",
    )
    return folder / "last.ckpt"


def load_lightning(file: Path) -> nn.Module:
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["hyper_parameters"] == {"lr": 0.1, "width": 3}
    assert checkpoint["pytorch-lightning_version"] == "2.5.0"
    assert not {"optimizer_states", "callbacks", "loops"} & checkpoint.keys()
    around = nn.Module()
    around.model = torchvision_network()
    around.load_state_dict(checkpoint["state_dict"])
    return around.model


def timm_network() -> nn.Module:
    return import_timm().create_model("test_vit", num_classes=3, img_size=32)


def save_safetensors(model: nn.Module, folder: Path) -> Path:
    safetensors.torch.save_model(model, str(folder / "weights.safetensors"))
    return folder / "weights.safetensors"


def load_timm(file: Path) -> nn.Module:
    return import_timm().create_model("test_vit", num_classes=3, img_size=32, checkpoint_path=str(file))


def hugging_face_network() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=3, **sizes)
    return transformers.AutoModelForImageClassification.from_config(config)


def save_pretrained(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder / "vit")
    said = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 32, "width": 32}, "resample": 3}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(said))
    return folder / "vit"


def load_pretrained(folder: Path) -> nn.Module:
    import transformers

    return transformers.AutoModelForImageClassification.from_pretrained(folder)


MOBILE = ("--model", "torchvision.models.shufflenet_v2_x0_5", "--data-set", "size=32", "--data-set", "resize=32")
VIT = ("--model", "timm.create_model", "--model-set", "model_name=test_vit", "--model-set", "img_size=32")


def mobile(path: Path) -> ModelSpec:
    return ModelSpec(build="torchvision.models.shufflenet_v2_x0_5", weights=path)


def vit(path: Path) -> ModelSpec:
    return ModelSpec(build="timm.create_model", arguments={"model_name": "test_vit", "img_size": 32}, weights=path)


LIBRARIES = {
    "torchvision, Lightning's checkpoint": Library(
        torchvision_network, save_lightning, MOBILE, mobile, load_lightning, "new.ckpt", "last.ckpt (torch)"
    ),
    "timm, safetensors": Library(
        timm_network, save_safetensors, VIT, vit, load_timm, "new.safetensors", "weights.safetensors (safetensors)"
    ),
    "Hugging Face, a folder": Library(
        hugging_face_network, save_pretrained, (), ModelSpec.of_folder, load_pretrained, "new", "vit (hugging-face)"
    ),
}


def trained(library: Library, path: Path, data: Data) -> nn.Module:
    """The user's own model, trained with the preprocessing that goes with it."""
    with seeded(0):
        model = library.network()

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            out = self.inner(x)
            return out if isinstance(out, Tensor) else out.logits

    fitted = fit(
        Logits(), Split.of(data, validation=0).train, Recipe(lr=0.02, epochs=8, batch_size=8), Run(device="cpu")
    )
    return fitted.inner.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_librarys_model_is_forgotten_from_and_goes_back_to_it(name: str, photos: Path, tmp_path: Path) -> None:
    library = LIBRARIES[name]
    with seeded(0):
        spec = library.spec(library.save(library.network(), tmp_path))
    said = preprocessing(spec) | {"size": 32}
    said["resize"] = 32 if "torchvision" in name else said["resize"]
    data = load("image_folder", photos, **said)
    weights = library.save(trained(library, tmp_path, data), tmp_path)
    source = ("--data", "image_folder", "--root", photos)
    answer = efface_command("import", weights, *library.options, *source, "--out", tmp_path / "imported")
    assert answer.status == 0, answer.stderr
    assert library.came_as in answer.stdout
    record = Artifact.read_record(tmp_path / "imported")
    assert record.data.fingerprint == data.fingerprint
    assert record.data.options["preprocessing"].startswith(name.partition(",")[0])
    asked = ("-m", "logit-mask", "--classes", "dog", "--out", tmp_path / "out", "-q")
    answer = efface_command("forget", weights, *library.options, *source, *asked)
    assert answer.status == 0, answer.stderr + answer.stdout
    audited = efface_command("audit", tmp_path / "out", "--original", weights, "--root", photos, "-q")
    assert audited.status == 0, audited.stderr
    answer = efface_command("export", tmp_path / "out", "--out", tmp_path / library.exported)
    assert answer.status == 0, answer.stderr
    again, ours = library.load(tmp_path / library.exported).eval(), Artifact.load(tmp_path / "out").model
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = again(x)
        assert torch.equal(theirs if isinstance(theirs, Tensor) else theirs.logits, ours(x))
        before = library.load(weights) if "Lightning" not in name else None
        if before is not None:
            was = before.eval()(x)
            assert not torch.equal(was if isinstance(was, Tensor) else was.logits, ours(x))


def test_wrong_preprocessing_is_warned_of_and_a_recipe_is_kept(tmp_path: Path) -> None:
    assert efface_command("train", *SMALL, "--out", tmp_path / "trained").status == 0
    weights = Artifact.load(tmp_path / "trained").export(tmp_path / "w.pth")
    built = ("--model", "mlp", "--model-set", "hidden=[32]", "--recipe-set", "epochs=8")
    good = efface_command("import", weights, *built, "--data", "digits", "--out", tmp_path / "good")
    assert good.status == 0, good.stderr
    assert "of 200 of its training records right" in good.stdout
    assert "probably not" not in good.stdout
    assert Artifact.read_record(tmp_path / "good").recipe.epochs == 8
    digits = load("digits")
    x = [s.inputs.numpy() for s in (digits.train, digits.test)]
    y = [s.labels.numpy() for s in (digits.train, digits.test)]
    shuffled = np.random.default_rng(0).permutation(64)  # not what it was trained on
    x = [v.reshape(len(v), 64)[:, shuffled].reshape(v.shape) for v in x]
    np.savez(tmp_path / "other.npz", x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])
    other = ("--data", "arrays", "--root", tmp_path / "other.npz")
    bad = efface_command("import", weights, *built, *other, "--out", tmp_path / "bad")
    assert bad.status == 0, bad.stderr
    assert "its inputs are probably not what it was trained on" in bad.stdout


def test_what_is_no_artifact_is_answered_with_import_and_import_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = efface_command("audit", tmp_path / "empty", "--original", tmp_path / "empty")
    assert (answer.status, "efface import" in answer.stderr) == (2, True)
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    out = ("--out", tmp_path / "out")
    assert "holds no weights" in efface_command("import", tmp_path / "empty", *out).stderr
    assert "--data is missing" in efface_command("import", tmp_path / "w.pt", "--model", "mlp", *out).stderr
    answer = efface_command("import", tmp_path / "w.pt", "--model", "mlp", "--data", "digits", *out)
    assert (answer.status, "missing: fc1.weight" in answer.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
