"""Runs: randomness from seed and purpose alone, history, notes, progress, devices."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from efface.errors import InputError
from efface.running.progress import ConsoleProgress, Progress, shown
from efface.running.run import History, Run


@given(st.integers(0, 2**63), st.text(max_size=20))
def test_generator_is_a_function_of_seed_and_purpose(seed: int, purpose: str) -> None:
    first, second = (Run(seed=seed, device="cpu").generator(purpose) for _ in range(2))
    assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))
    assert 0 <= Run(seed=seed, device="cpu").number(purpose) < 2**31


def test_other_seeds_and_purposes_give_other_numbers() -> None:
    drawn = {Run(seed=s, device="cpu").number(p) for s in range(50) for p in ("a", "b", "1/a")}
    assert len(drawn) == 150
    assert Run(seed=1, device="cpu").number("1/a") != Run(seed=11, device="cpu").number("/a")


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    torch.rand(5, generator=Run(device="cpu").generator("x"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_child_has_its_own_history_notes_and_seed() -> None:
    run = Run(seed=1, device="cpu")
    run.history.add("a", loss=1.0)
    run.note("said")
    child = run.child(2)
    child.history.add("b", loss=2.0)
    child.note("other")
    assert [row["stage"] for row in run.history.rows] == ["a"]
    assert run.notes == ["said"]
    assert (run.seed, child.seed) == (1, 2)
    assert run.child().seed == 1
    assert child.device == run.device


def test_copied_shares_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    twin = Run(device="cpu").copied(model)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor.fill_(7)
    assert not any((v == 7).all() for v in model.state_dict().values())


@pytest.mark.parametrize("device", ["tpu", "gpu", ""])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(InputError, match="allowed: auto, cpu, cuda"):
        Run(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_and_auto_falls_back() -> None:
    with pytest.raises(InputError, match="sees no GPU"):
        Run(device="cuda:0")
    assert Run().device == torch.device("cpu")


def test_history_selects_by_stage() -> None:
    history = History()
    history.add("train", epoch=1, loss=2.0)
    history.add("probe", accuracy=0.5)
    assert history.of("train") == [{"stage": "train", "epoch": 1, "loss": 2.0}]


def test_progress_yields_every_item_in_order() -> None:
    assert list(Run(device="cpu").track(range(5), "x")) == list(range(5))
    assert list(Progress().track(iter("abc"), "x")) == ["a", "b", "c"]


@pytest.mark.parametrize("terminal", [True, False])
def test_console_progress_shows_and_yields(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress(every=0.0)
    shown = io.StringIO()
    progress.console = Console(file=shown, force_terminal=terminal, width=100)
    nested = [(a, list(progress.track(range(2), "inner"))) for a in progress.track(range(3), "outer")]
    assert nested == [(a, [0, 1]) for a in range(3)]
    said = shown.getvalue() if terminal else capsys.readouterr().err
    assert "outer" in said
    assert "inner" in said
    assert terminal or "outer: 1 of 3" in said


@pytest.mark.parametrize("terminal", [True, False])
def test_work_that_does_not_come_in_items_is_metered(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().meter("nowhere", 1) as done:
        done(1)
    progress = ConsoleProgress(every=0.0)
    shown = io.StringIO()
    progress.console = Console(file=shown, force_terminal=terminal, width=100)
    with progress.meter("units", 135) as done:
        done(33.6)
        if terminal:
            progress._bars.refresh()
        done(101.4)
    said = shown.getvalue() if terminal else capsys.readouterr().err
    assert ("25%" if terminal else "units: 34 of 135, ") in said
    assert terminal or said.count("\n") == 1, "what is finished has no time left"
    assert progress._bars is None


@pytest.mark.parametrize(("terminal", "lines"), [(True, 3), (False, 1)])
def test_a_long_line_is_broken_for_people_and_whole_for_programs(terminal: bool, lines: int) -> None:
    progress = ConsoleProgress()
    progress.console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    Run(device="cpu", progress=progress).note(30 * "words ")
    assert len(progress.console.file.getvalue().splitlines()) == lines


def test_console_progress_cleans_up_after_an_exception() -> None:
    progress = ConsoleProgress()
    progress.console = Console(file=io.StringIO(), force_terminal=True)

    def interrupted() -> None:
        for _ in progress.track(range(3), "x"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(progress.track(range(2), "again")) == [0, 1]
    assert progress._bars is None


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_where_a_person_looks_on(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Console, "is_terminal", terminal)
    assert isinstance(shown(None), ConsoleProgress) == terminal
    assert isinstance(shown(True), ConsoleProgress)
    assert type(shown(False)) is Progress
    mine = Progress()
    assert shown(mine) is mine
