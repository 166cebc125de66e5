"""New users' trials: a table of customers, an image folder, a text classifier, a regression model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import efface
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe
from tests.conftest import efface_command

RECIPE = Recipe(lr=0.05, epochs=8, batch_size=32)


def trained(model: nn.Module, data: efface.Data) -> nn.Module:
    """The user's own model, trained on everything."""
    from efface.data import Split

    return fit(model, Split.of(data, validation=0.0).train, RECIPE, Run(device="cpu"))


def test_all_rows_of_a_customer_of_a_tabular_model_are_forgotten() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=g)
    y = (x[:, 0] + x[:, 1] > 0).long()
    customers = np.repeat(np.arange(10), 40)
    data = efface.Data.of(TensorDataset(x[:400], y[:400]), TensorDataset(x[:80], y[:80]), groups=customers)
    with seeded(0):
        model = trained(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)), data)
    made = efface.forget(model, data, efface.Request(groups=(3,)), method="fine-tune", recipe=RECIPE, device="cpu")
    counts = made.record.counts
    assert counts is not None
    assert (counts.asked, counts.found, counts.forgotten, counts.untrained) == (40, 40, 40, 0)


def test_a_class_of_an_image_folder_is_forgotten_from_the_shell(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part, each in (("train", 12), ("test", 4)):
        for level, name in ((40, "cat"), (120, "dog"), (200, "owl")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for k in range(each):
                pixels = np.clip(rng.normal(level, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
                image.fromarray(pixels).save(folder / f"{k}.png")
    source = ("--root", tmp_path / "photos")
    built = ("--data", "image_folder", "--data-set", "size=12", "--model", "mlp", "--model-set", "hidden=[16]")
    recipe = ("--recipe-set", "epochs=20", "--recipe-set", "lr=0.05", "--recipe-set", "batch_size=12")
    answer = efface_command("train", *built, *source, *recipe, "--out", tmp_path / "original", "-q")
    assert answer.status == 0, answer.stderr
    asked = ("--classes", "dog", "-m", "retrain", "--out", tmp_path / "forgotten", "-q")
    answer = efface_command("forget", tmp_path / "original", *source, *asked)
    assert answer.status == 0, answer.stderr
    assert "12 records asked for: 11 to forget, 1 never trained on (held out)" in answer.stdout


class Words(nn.Module):
    """A text classifier on token ids, without any wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(50, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding(ids))


def test_a_class_of_a_text_classifier_is_forgotten_or_the_user_is_told() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 3
    ids = torch.randint(0, 15, (240, 7), generator=g) + 15 * y[:, None]
    data = efface.Data.of(TensorDataset(ids[:180], y[:180]), TensorDataset(ids[180:], y[180:]))
    with seeded(0):
        model = trained(Words(), data)
    made = efface.forget(model, data, efface.Request(classes=(1,)), method="neg-grad-plus", recipe=RECIPE, device="cpu")
    recognition = made.record.recognition
    assert recognition is not None
    assert recognition.after < recognition.before or made.record.failures


def test_a_regression_is_refused_by_name() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=g), torch.randn(60, generator=g) * 3
    with pytest.raises(efface.InputError, match=r"amounts|regression|whole"):
        efface.Data.of(TensorDataset(x, y), TensorDataset(x, y))
