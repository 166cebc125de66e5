"""The README's example runs as it stands, on a torchvision model and a user's own Dataset."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from efface.data import load
from efface.running.extras import import_torchvision
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe

README = Path(__file__).parents[1] / "README.md"


class Enlarged(Dataset):
    """A user's dataset: three channels, 32 pixels, and a transform of its own."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.targets = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.x[i].expand(3, 8, 8).repeat_interleave(4, 1).repeat_interleave(4, 2), int(self.targets[i])


def example() -> str:
    (code,) = re.findall(r"<!-- example.*?-->\n```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return code


def test_the_example_has_eight_lines():
    assert len([line for line in example().splitlines() if line.strip() and not line.startswith("import")]) == 8


@pytest.mark.seconds
def test_the_example_runs_on_a_torchvision_model(tmp_path, monkeypatch, capsys):
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("the example's model comes from torchvision, which is not installed")
    monkeypatch.chdir(tmp_path)
    digits = load("digits")
    train_set = Enlarged(digits.train.inputs[:300], digits.train.labels[:300])
    test_set = Enlarged(digits.test.inputs[:100], digits.test.labels[:100])
    with seeded(0):
        model = import_torchvision().models.shufflenet_v2_x0_5(num_classes=10)
    from efface.data import Data, Split

    fit(model, Split.of(Data.of(train_set, test_set)).train, Recipe(lr=0.05, epochs=2, batch_size=32), Run())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    exec(example(), {"train_set": train_set, "test_set": test_set, "model": model})  # noqa: S102 - our own README
    assert "evel (b)" in capsys.readouterr().out
    assert (tmp_path / "forgotten" / "report.html").is_file()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_every_shell_command_in_the_readme_exists():
    from typer.main import get_command

    from efface.cli import app

    known = set(get_command(app).commands)
    used = set(re.findall(r"^efface (\w+)", README.read_text(), flags=re.MULTILINE))
    assert used <= known
    assert {"train", "forget", "audit", "compare", "methods"} <= used
