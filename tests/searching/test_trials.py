"""Trials: what each says in a line, which of them leads, and how a stopped search finds them again."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import given
from efface.data import Split, load
from efface.errors import InputError
from efface.running.run import Run
from efface.searching.trials import BEST, FILE, Trial, Trials
from efface.training.recipe import Recipe

ABOUT = {"original": "abc", "seed": 1}


@pytest.fixture(scope="module")
def original() -> Artifact:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return given(model, Split.of(load("digits")), Recipe(), Run(device="cpu"))


def trial(method="ssd", excess=0.5, **fields) -> Trial:
    return Trial(method=method, kept=0.9, forgotten=0.125, excess=excess, spent=2.0, **fields)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (trial(seconds=1.234), "ssd: kept 90.0%, forgotten 12.5%, 1.23 s; misses them by 0.500"),
        (trial(excess=0.0), "ssd: kept 90.0%, forgotten 12.5%, 0.00 s; meets the standards"),
        (
            trial(probe=0.25, settings={"alpha": 0.123456, "search": True, "steps": 3}),
            "ssd (alpha=0.1235, search=True, steps=3): kept 90.0%, forgotten 12.5%, recall on features 25.0%, 0.00 s; "
            "misses them by 0.500",
        ),
        (
            trial(excess=2.0, differs=("forget", "probe")),
            "ssd: kept 90.0%, forgotten 12.5%, 0.00 s; misses them by 2.000; the audit differs in: forget, probe",
        ),
        (Trial(method="ssd", refused="no classes"), "ssd: refused: no classes"),
        (trial(excess=0.0, refused="it broke"), "ssd: refused: it broke"),
    ],
)
def test_a_trial_in_a_line(made, line):
    assert str(made) == line
    assert made.passed == (made.excess == 0 and not made.refused)


def test_the_least_miss_leads_and_its_model_is_kept(original, tmp_path):
    folder = tmp_path / "search" / "deep"
    trials = Trials(folder, ABOUT, original)
    assert (trials.leader, trials.best, trials.spent, list(trials)) == (None, None, 0, [])
    refused = Trial(method="a", refused="why", spent=1.0)
    trials.add(refused, None)
    assert trials.leader is None
    worse, better, equal = trial("b", 0.75), trial("c", 0.25), trial("d", 0.25)
    other = given(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Split.of(load("digits")), Recipe(), Run(device="cpu"))
    trials.add(worse, original)
    assert trials.best is original
    trials.add(better, other)
    trials.add(equal, original)
    assert (trials.leader, trials.best, trials.spent, list(trials)) == (
        better,
        other,
        7.0,
        [refused, worse, better, equal],
    )
    assert (trials.reused, trials.folder) == (0, folder)
    kept = json.loads((folder / FILE).read_text())
    assert (kept["about"], [t["method"] for t in kept["trials"]]) == (ABOUT, ["a", "b", "c", "d"])
    # Found again, each is done once: when it is asked for.
    again = Trials(folder, ABOUT, original)
    assert torch.equal(again.best.model[1].weight, other.model[1].weight)
    assert again.best.parent is original
    assert (again.done, again.spent, again.leader) == ([], 0, None)
    assert again.known("c", {}) == better
    assert again.known("c", {}) is None
    assert again.known("c", {"x": 1}) is None
    assert (again.reused, again.done) == (1, [better])
    again.add(trial("e", 9.0), original)  # what was not asked for again yet stays
    assert [t["method"] for t in json.loads((folder / FILE).read_text())["trials"]] == ["c", "e", "a", "b", "d"]
    with pytest.raises(InputError, match=r"deep holds the trials of another search .*; delete it, or choose another"):
        Trials(folder, ABOUT | {"seed": 2}, original)


def test_hyper_parameters_in_any_order_are_the_same_trial(original, tmp_path):
    first = Trials(tmp_path, ABOUT, original)
    first.add(trial(settings={"a": 1, "b": 2.5}), original)
    again = Trials(tmp_path, ABOUT, original)
    assert again.known("other", {"a": 1, "b": 2.5}) is None
    assert again.known("ssd", {"b": 2.5, "a": 1}) is not None


def test_without_a_folder_nothing_is_written(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trials = Trials(None, ABOUT, original)
    trials.add(trial(), original)
    trials.add(trial(excess=0.75), None)
    assert trials.best is original
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"trials": 3}', '{"trials": [{"methood": "ssd"}]}'])
def test_a_damaged_file_says_what_to_do(content, original, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match=rf"{FILE} is damaged \(.*\); delete {tmp_path} and the search starts again"):
        Trials(tmp_path, ABOUT, original)


def test_trials_without_a_model_resume(original, tmp_path):
    first = Trials(tmp_path, ABOUT, original)
    first.add(Trial(method="a", refused="why"), None)
    assert not (tmp_path / BEST).exists()
    assert Trials(tmp_path, ABOUT, original).best is None


def test_a_leader_whose_model_was_not_kept_has_none(original, tmp_path):
    """An earlier start went on to a better trial, which this one does not reach: its model is not the leader's."""
    other = given(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Split.of(load("digits")), Recipe(), Run(device="cpu"))
    first = Trials(tmp_path, ABOUT, original)
    first.add(trial("a", 0.75, weights=original.record.weights_after), original)
    assert first.taken is original
    first.add(trial("b", 0.25, weights=other.record.weights_after), other)
    assert first.taken is other
    again = Trials(tmp_path, ABOUT, original)
    assert again.taken is None
    again.known("a", {})
    assert again.taken is None
    again.known("b", {})
    assert again.taken.record.weights_after == other.record.weights_after
