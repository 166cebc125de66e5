"""What every test may use: the trained digits model of the command line, and the folder of real data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings
from typer.testing import CliRunner

from efface.cli import app
from tests.kept_fixtures import leave_out, pytest_fixture_setup
from tests.times import heaviest_first, pytest_addoption, pytest_runtest_call

__all__ = [
    "efface_command",
    "pytest_addoption",
    "pytest_fixture_setup",
    "pytest_runtest_call",
]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

torch.set_num_threads(1)

# How long an example takes says how busy the machine is, and no test is about that.
settings.register_profile("efface", deadline=None)
settings.load_profile("efface")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out(config, items)
    heaviest_first(items)


class Answer(NamedTuple):
    """What a command said."""

    status: int
    stdout: str
    stderr: str


def efface_command(*arguments: str | Path) -> Answer:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


SMALL: Sequence[str] = (
    "--data", "digits", "--model", "mlp", "--model-set", "hidden=[32]",
    "--recipe-set", "epochs=8", "--recipe-set", "lr=0.1", "--recipe-set", "batch_size=64", "-q",
)  # fmt: skip


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact folder made by `efface train`: a small MLP on digits, trained with mnemonic codes."""
    folder = tmp_path_factory.mktemp("cli") / "trained"
    answer = efface_command("train", *SMALL, "--method", "mnemonic", "--out", folder)
    assert answer.status == 0, answer.stderr
    return folder


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The data root, or a skip where MNIST is not at hand."""
    if not (SHARED / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not in ../shared/data")
    return SHARED
