"""Killed work with workers: nothing is lost or left behind, and a re-run gives the bits of an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from efface.artifact.artifact import Artifact
from efface.references import load_references
from efface.verbs.compare import compare
from tests.conftest import efface_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc"),
]

PLAN = {
    "name": "killed",
    "data": {"source": "digits"},
    "model": {"build": "mlp", "arguments": {"hidden": [16]}},
    "recipe": {"lr": 0.1, "epochs": 6, "batch_size": 32},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "seeds": [0, 1],
    "measures": ["audit"],
    "references": 2,
    "audit": {"few_draws": 2, "resamples": 100, "relearn_cap": 3, "probe_per_class": 20, "attack_samples": 60},
    "methods": [{"method": "original"}, {"method": "logit-mask"}, {"method": "fine-tune", "settings": {"epochs": 1}}],
}
TIMES = {"seconds", "train_seconds", "of_retrain", "peak_memory"}


def started(*arguments: str | Path, folder: Path) -> subprocess.Popen:
    """Start the command line in a process of its own, with a temporary folder of its own."""
    environment = os.environ | {"TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "efface", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parents() -> dict[int, int]:
    """Return the parent of every process that is no zombie."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def below(pid: int) -> set[int]:
    """Return the processes that a process started, directly or not."""
    family, known = {pid}, parents()
    while more := {child for child, parent in known.items() if parent in family} - family:
        family |= more
    return family - {pid}


def waited(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def until(run: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Wait for a condition, or for the run's end."""
    assert waited(lambda: condition() or run.poll() is not None, 240)


def finished(cells: Path) -> dict[str, bytes]:
    """Return the finished cells' files."""
    return {f.name: f.read_bytes() for f in cells.glob("*.json") if re.fullmatch(r"[0-9a-f]{24}\.json", f.name)}


def gone(processes: set[int]) -> bool:
    return waited(lambda: not processes & parents().keys(), 10)


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.part"))


def test_a_grid_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path):
    file, temporary = tmp_path / "plan.yaml", tmp_path / "tmp"
    file.write_text(yaml.safe_dump(PLAN))
    temporary.mkdir()
    undisturbed = compare(file, out=tmp_path / "undisturbed")
    out, chance = tmp_path / "killed", random.Random(0)
    cells = out / ".cells"
    command = ("compare", file, "--out", out, "--workers", "2", "-q")
    for goal in (0, 1, 3, 6, 8, 10):
        run = started(*command, folder=temporary)
        until(run, lambda g=goal: len(finished(cells)) > g)
        time.sleep(chance.random())
        family = below(run.pid)
        if chance.random() < 0.3 and family:
            os.kill(chance.choice(sorted(family)), signal.SIGKILL)
        run.kill()
        run.communicate()
        assert gone(family)
    before = finished(cells)
    run = started(*command, folder=temporary)
    assert run.wait(300) == 0
    run.communicate()
    assert finished(cells).items() >= before.items()  # none was computed again
    folders = (tmp_path / "undisturbed", out)
    frames = [pd.read_csv(f / "results.csv").drop(columns=[*TIMES], errors="ignore") for f in folders]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert len(undisturbed.frame) == 12
    assert not left_over(out)
    assert not list(temporary.rglob("*.npy"))


@pytest.fixture
def original(tmp_path) -> Path:
    answer = efface_command(
        "train", "--data", "digits", "--model", "mlp", "--model-set", "hidden=[16]", "--recipe-set", "epochs=30",
        "--recipe-set", "lr=0.1", "--recipe-set", "batch_size=32", "--out", tmp_path / "original", "-q",
    )  # fmt: skip
    assert answer.status == 0, answer.stderr
    return tmp_path / "original"


def references(original: Path, out: Path, n: int = 6) -> tuple:
    return (
        "train", "--from", original, "--references", n, "--classes", "0", "--out", out, "--backend", "processes",
        "--workers", "2", "--device", "cpu", "-q",
    )  # fmt: skip


def weights(folder: Path) -> list[str]:
    return [Artifact.read_record(p).weights_after for p in load_references(folder).finished("reference")]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_references_killed_while_workers_live_are_completed_by_the_next_run(original, tmp_path, sent):
    temporary, out, chance = tmp_path / "tmp", tmp_path / "references", random.Random(1)
    temporary.mkdir()
    for goal in (0, 1, 3):
        run = started(*references(original, out), folder=temporary)
        until(run, lambda g=goal: len(list(out.glob("reference-*"))) > g)
        time.sleep(chance.random() / 2)
        family = below(run.pid)
        run.send_signal(sent)
        _, errors = run.communicate()
        if sent == signal.SIGTERM and run.returncode:
            assert run.returncode == 143, errors
            assert not left_over(out)
        assert gone(family)
        assert not [p for p in temporary.rglob("*") if p.is_file() and p.stat().st_size > 10_000]  # no copy of the data
    run = started(*references(original, out), folder=temporary)
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert efface_command(*references(original, tmp_path / "undisturbed")).status == 0
    assert weights(out) == weights(tmp_path / "undisturbed")
    assert not left_over(out)


def test_two_runs_into_one_folder_both_end_well(original, tmp_path):
    out = tmp_path / "references"
    command = [a for a in references(original, out, 4) if a != "-q"]
    both = [started(*command, folder=tmp_path) for _ in range(2)]
    answers = [run.communicate(timeout=300) for run in both]
    assert [run.returncode for run in both] == [0, 0], answers
    assert len(weights(out)) == 4
    waiting = [errors for _, errors in answers if "waiting for process" in errors.replace("\n", " ")]
    assert len(waiting) <= 1
