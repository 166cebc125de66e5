"""Plans and grids: what runs, what is kept, what resumes."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from efface.artifact.artifact import Artifact
from efface.comparing import Plan
from efface.comparing.figures import pictures
from efface.data import load
from efface.errors import InputError
from efface.methods.retrain import Retrain
from efface.references import train_references
from efface.request import Request
from efface.verbs.compare import compare
from efface.verbs.train import train
from tests.conftest import efface_command
from tests.faults import drafts, killed_at

PLAN = {
    "name": "smoke",
    "data": {"source": "digits"},
    "model": {"build": "mlp", "arguments": {"hidden": [16]}},
    "recipe": {"lr": 0.1, "epochs": 4, "batch_size": 64},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "seeds": [0, 1],
    "measures": ["accuracy"],
    "methods": [
        {"method": "original"},
        {"method": "logit-mask", "grid": {"value": [-1e4, -50.0]}},
        {"method": "fine-tune", "settings": {"epochs": 0.5}},
    ],
    "published": {"fine-tune": {"A_R": "12.3 ± 0.4"}},
}


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return path


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Draw no figures, which take longer than these grids; what is drawn is tested in tests/comparing."""
    monkeypatch.setattr("efface.comparing.results.pictures", lambda *_: [])


def test_a_plan_from_the_shell_writes_a_row_per_cell_and_published_figures(plan_file, tmp_path):
    answer = efface_command("compare", plan_file, "-q")
    assert answer.status == 0, answer.stderr
    folder = tmp_path / "results" / "smoke"
    frame = pd.read_csv(folder / "results.csv")
    assert len(frame) == 2 * 2 * (1 + 2 + 1)
    masked = frame[frame.entry == "logit-mask"]
    assert (masked.E_F == 100).all()
    assert set(masked.value) == {-1e4, -50.0}
    table = (folder / "table.md").read_text()
    assert "12.3 ± 0.4" in table
    assert str(folder / "table.md") in answer.stdout


def test_a_run_keeps_what_its_page_and_figures_show(plan_file, tmp_path, monkeypatch):
    monkeypatch.setattr("efface.comparing.results.pictures", pictures)
    decay = {"method": "decay", "settings": {"steps": 3}}
    methods = [{"method": "original"}, {"method": "logit-mask"}, decay]
    shorter = {"requests": [{"classes": [0]}], "seeds": [0], "methods": methods, "published": {}}
    plan_file.write_text(yaml.safe_dump({**PLAN, **shorter}))
    result = compare(plan_file)
    folder = tmp_path / "results" / "smoke"
    assert {f.name for f in result.files} == {
        *("results.csv", "results.parquet", "table.md", "plan.json", "comparison.html"),
        *("usefulness.png", "seconds.png", "decay-steps.png", "classes-1.png"),
    }
    mask = next(c for c in result.kept if c["entry"] == "logit-mask")
    assert mask["per_class"]["0"] == 0
    kept = [v for name, v in mask["per_class"].items() if name != "0"]
    assert 100 * np.mean(kept) == pytest.approx(result.frame.set_index("entry").A_R["logit-mask"], abs=3)
    assert "Step by step: decay" in (folder / "comparison.html").read_text()


def test_codes_are_fine_tuned_into_the_plans_own_plain_original(plan_file, tmp_path, monkeypatch):
    tuned = {"method": "mnemonic", "fine_tune": {"lr": 0.01, "epochs": 1, "batch_size": 64}}
    plan = {**PLAN, "seeds": [1], "requests": PLAN["requests"][:1], "published": {}}
    plan["methods"] = [{"method": "original"}, {"method": "mnemonic", "train": tuned}]
    trainings = []
    monkeypatch.setattr("efface.verbs.compare.train", lambda *a, **k: trainings.append(k["recipe"]) or train(*a, **k))
    frame = compare(Plan.model_validate(plan), out=tmp_path / "out", device="cpu").frame
    assert [(r.epochs, r.seed) for r in trainings] == [(4, 1), (1, 1)]
    plain, coded = (frame[frame.entry == name].iloc[0] for name in ("original", "mnemonic"))
    assert coded.refused in ("", None) or pd.isna(coded.refused)
    assert coded.train_seconds > plain.train_seconds
    assert coded.A_R > 50


def test_means_are_over_seeds_and_requests(plan_file):
    result = compare(plan_file)
    ours = result.summary(by_request=False).loc["original"]
    cells = result.frame[result.frame.entry == "original"].A_R
    assert ours["A_R", "mean"].item() == pytest.approx(cells.mean())
    assert ours["A_R", "std"].item() == pytest.approx(cells.std(ddof=1))


def test_finished_cells_are_not_computed_again(plan_file, monkeypatch):
    first = compare(plan_file)
    monkeypatch.setattr("efface.verbs.compare._one", lambda *_: pytest.fail("a finished cell was computed again"))
    pd.testing.assert_frame_equal(compare(plan_file).frame, first.frame)


def test_a_stopped_run_resumes_with_what_is_missing(plan_file, monkeypatch, tmp_path):
    from efface.verbs import compare as grid

    real, calls = grid._one, []

    def stops_after_three(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(grid, "_one", stops_after_three)
    with pytest.raises(KeyboardInterrupt):
        compare(plan_file)
    assert len(list((tmp_path / "results" / "smoke" / ".cells").glob("*.json"))) == 3
    calls.clear()
    monkeypatch.setattr(grid, "_one", lambda *a: calls.append(1) or real(*a))
    compare(plan_file)
    assert len(calls) == 16 - 3


def killed(plan, out, step=None) -> int:
    """Run a grid in a fork of this process, killed at one of its steps on disk; return how many it made, if not."""
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            made = killed_at(str(out), step)
            compare(plan, out=out, device="cpu")
            os.write(theirs, str(len(made)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    said = os.read(ours, 100)
    os.close(ours)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in {0, -signal.SIGKILL}
    return int(said) if ended == 0 else 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")
def test_killed_at_random_steps_the_last_run_gives_the_undisturbed_table(tmp_path):
    """Twenty kills of grids with workers, at random moments, are in tests/test_faults.py."""
    smaller = {"requests": [{"classes": [0]}], "seeds": [0], "published": {}}
    plan = Plan.model_validate(PLAN | smaller)
    undisturbed = compare(plan, out=tmp_path / "undisturbed", device="cpu")  # here, so that forks find all imported
    steps = killed(plan, tmp_path / "counted")
    chance, out, kept = random.Random(17), tmp_path / "out", dict[str, bytes]()
    for _ in range(4):
        if killed(plan, out, chance.randint(steps // 4, steps // 2)):
            break
        found = {f.name: f.read_bytes() for f in (out / ".cells").glob("?" * 24 + ".json")}
        assert kept.items() <= found.items()  # what is finished is not computed again
        kept = found
    assert kept  # it was killed with cells behind it
    last = compare(plan, out=out, device="cpu")
    assert last.reused >= len(kept)
    shown = ["entry", "request", "seed", "value", "A_R", "E_F", "RA", "FA", "refused"]
    pd.testing.assert_frame_equal(last.frame[shown], undisturbed.frame[shown], check_exact=True)
    assert not drafts(out)


def test_places_are_held_once_each_and_in_one_order(plan_file, tmp_path, monkeypatch):
    """Of two runs that hold them in another order, each would wait for the other."""
    asked: list[Path] = []

    @contextmanager
    def held(place, say):
        asked.append(place)
        yield

    def begun(*_):
        raise InterruptedError

    module = sys.modules[compare.__module__]
    monkeypatch.setattr(module, "held", held)
    monkeypatch.setattr(module, "run_jobs", begun)
    for number in range(8):
        asked.clear()
        with pytest.raises(InterruptedError):
            compare(plan_file, out=tmp_path / f"out{number}", cells=tmp_path / f"cells{9 - number}")
        assert asked == [tmp_path / f"cells{9 - number}", tmp_path / f"out{number}"]
    (tmp_path / "cells9").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cells9")
    asked.clear()
    with pytest.raises(InterruptedError):
        compare(plan_file, out=tmp_path / "cells9", cells=tmp_path / "link")
    assert asked == [tmp_path / "cells9"]


def test_processes_give_the_same_numbers(plan_file, tmp_path):
    here = compare(plan_file, out=tmp_path / "here")
    there = compare(plan_file, out=tmp_path / "there", workers=2)
    columns = ["entry", "request", "seed", "A_R", "E_F", "RA", "FA"]
    pd.testing.assert_frame_equal(here.frame[columns], there.frame[columns])


def test_every_cell_is_checked_before_any_work(plan_file, monkeypatch):
    monkeypatch.setattr(Retrain, "forget", lambda *_: pytest.fail("worked before checking"))
    bad = {**PLAN, "methods": [{"method": "retrain"}, {"method": "fine-tune", "settings": {"lrr": 1}}]}
    bad.pop("published")
    plan_file.write_text(yaml.safe_dump(bad))
    with pytest.raises(InputError, match="mean 'lr'"):
        compare(plan_file)


def test_a_plan_without_accuracies_is_written_and_retrains_nothing_to_compare_them_with(plan_file, monkeypatch):
    monkeypatch.setattr(Retrain, "forget", lambda *_: pytest.fail("retrained for nothing"))
    methods = [{"method": "logit-mask"}, {"method": "fine-tune", "settings": {"epochs": 0.5}}]
    change = {"measures": ["probe"], "requests": [{"classes": [0]}], "seeds": [0], "methods": methods, "published": {}}
    plan_file.write_text(yaml.safe_dump(PLAN | change))
    result = compare(plan_file)
    assert result.frame.probe.notna().all()
    assert "Retraining for as long" not in result.markdown()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methodz": []}, "mean 'methods'"),
        ({"seeds": []}, "seeds"),
        ({"methods": [{"method": "original"}, {"method": "original"}]}, "label"),
        ({"published": {"nobody": {"A_R": "1"}}}, "not in the plan"),
        ({"requests": [{"classes": [0], "items": [1]}]}, "exactly one"),
        ({"data": {"source": "digitz"}}, "mean 'digits'"),
        ({"train": {"fine_tune": {"epochs": 1}}}, "name it"),
    ],
)
def test_bad_plans_are_refused(plan_file, change, words):
    plan_file.write_text(yaml.safe_dump({**PLAN, "published": {}, **change}))
    answer = efface_command("compare", plan_file, "-q")
    assert answer.status == 2
    assert words in answer.stderr


def test_plans_survive_json():
    plan = Plan.model_validate(PLAN)
    assert Plan.model_validate(json.loads(plan.model_dump_json())) == plan


@pytest.mark.seconds
def test_a_method_that_breaks_is_a_row_with_its_error_and_is_tried_again(plan_file, monkeypatch, tmp_path):
    from efface.verbs import compare as grid

    real = grid.forget

    def breaks(*arguments, **named):
        if named["method"] == "fine-tune":
            raise MemoryError("no room")
        return real(*arguments, **named)

    monkeypatch.setattr(grid, "forget", breaks)
    frame = compare(plan_file).frame
    assert set(frame[frame.entry == "fine-tune"].refused) == {"out of memory (MemoryError: no room)"}
    assert frame[frame.entry != "fine-tune"].A_R.notna().all()
    monkeypatch.undo()
    result = compare(plan_file)
    assert result.reused == 12
    assert result.frame.A_R.notna().all()
    assert not list((tmp_path / "results" / "smoke" / ".cells").glob("*.failed.json"))


def test_tables_are_made_from_finished_cells_without_computing(plan_file, monkeypatch, tmp_path):
    from efface.verbs import compare as grid

    compare(plan_file)
    folder = tmp_path / "results" / "smoke"
    before = {f: (folder / f).read_bytes() for f in ("table.md", "results.csv", "results.parquet")}
    monkeypatch.setattr(grid, "_do", lambda *_: pytest.fail("something was computed"))
    for name in before:
        (folder / name).unlink()
    answer = efface_command("compare", plan_file, "--table", "-q")
    assert answer.status == 0
    assert "16 of 16 cells were finished before" in answer.stderr
    assert {f: (folder / f).read_bytes() for f in before} == before
    plan_file.write_text(yaml.safe_dump({**PLAN, "seeds": [0, 1, 2]}))
    result = compare(plan_file, table=True)
    assert set(result.frame[result.frame.seed == 2].refused) == {"not computed yet"}
    assert set(result.frame[result.frame.seed != 2].refused) == {""}


def test_results_of_changed_data_under_the_same_path_are_not_reused(plan_file, tmp_path):
    rows = np.random.default_rng(0)
    x, y = rows.random((300, 6), dtype=np.float32), np.arange(300) % 3
    x[np.arange(300), y] += 1

    def write(labels):
        np.savez(tmp_path / "d.npz", x_train=x[:200], y_train=labels[:200], x_test=x[200:], y_test=labels[200:])

    plan = {**PLAN, "data": {"source": "arrays", "path": "d.npz"}, "methods": [{"method": "original"}], "seeds": [0]}
    plan_file.write_text(yaml.safe_dump({**plan, "requests": [{"classes": [0]}], "published": {}}))
    write(y)
    first = compare(plan_file, root=tmp_path)
    assert compare(plan_file, root=tmp_path).reused == 1
    write((y + 1) % 3)
    second = compare(plan_file, root=tmp_path)
    assert second.reused == 0
    assert second.frame.A_R[0] == compare(plan_file, root=tmp_path, out=tmp_path / "anew").frame.A_R[0]
    assert first.frame.A_R[0] != second.frame.A_R[0]


def test_a_folder_with_another_plans_results_is_refused(plan_file, tmp_path):
    plan_file.write_text(yaml.safe_dump({**PLAN, "methods": [{"method": "original"}], "published": {}}))
    compare(plan_file, out=tmp_path / "both")
    plan_file.write_text(yaml.safe_dump({**PLAN, "name": "other"}))
    with pytest.raises(InputError, match="results of the plan 'smoke'"):
        compare(plan_file, out=tmp_path / "both")


AUDITED = {
    **PLAN,
    "requests": [{"classes": [0]}],
    "seeds": [0],
    "measures": ["audit"],
    "references": 2,
    "audit": {"few_draws": 2, "resamples": 100, "relearn_cap": 3, "probe_per_class": 20, "attack_samples": 60},
    "methods": [{"method": "original"}, {"method": "logit-mask"}, {"method": "fine-tune", "settings": {"epochs": 0.5}}],
}


def test_audits_share_references_and_their_scores_are_rows_with_floors(plan_file, tmp_path, monkeypatch):
    made = []
    real = Retrain.forget
    monkeypatch.setattr(Retrain, "forget", lambda *a: made.append(a[1].record.recipe.epochs) or real(*a))
    plan_file.write_text(yaml.safe_dump(AUDITED))
    result = compare(plan_file)
    assert made.count(AUDITED["recipe"]["epochs"]) == 2  # once for all three rows; for as long as one took is shorter
    folder = tmp_path / "results" / "smoke"
    scores = pd.read_parquet(folder / "results.parquet").set_index(["entry", "score"])
    mask = scores.loc["logit-mask"]
    assert (mask.loc["forget_accuracy", "value"], mask.loc["FA", "value"], mask.loc["E_F", "value"]) == (0, 0, 100)
    assert set(mask.level) == {"b"}
    assert mask.loc["test_accuracy", "floor_low"] < mask.loc["test_accuracy", "floor_high"]
    assert mask.loc["A_R", "low"] < mask.loc["A_R", "value"] < mask.loc["A_R", "high"]
    assert mask.loc["A_R", "value"] == pytest.approx(result.frame.set_index("entry").A_R["logit-mask"])
    assert {"efface", "torch", "machine", "threads"} <= set(scores.columns)
    audits = [json.loads(f.read_text()) for f in (folder / ".cells").glob("*.audit.json")]
    assert sorted(a["candidate"] for a in audits) == ["candidate", "fine-tune", "logit-mask"]
    # They are the models that `train --references` makes, so that either may stand in for the other.
    original = Artifact.load(next((folder / ".cells").glob("original-*")))
    (by_number,) = (folder / ".cells").glob("references-*")
    data, request = load("digits"), Request(classes=(0,))
    alone = train_references(original, data, request, 2, tmp_path / "r", backend="serial", device="cpu")
    ours = [Artifact.load(by_number / f"reference-{k:03d}").record.weights_after for k in range(2)]
    assert ours == [r.record.weights_after for r in alone]


@pytest.mark.slow
def test_ray_gives_the_same_cells_bit_for_bit(plan_file, tmp_path):
    pytest.importorskip("ray")
    plan_file.write_text(yaml.safe_dump(AUDITED))
    here = compare(plan_file, out=tmp_path / "here", workers=2)
    there = compare(plan_file, out=tmp_path / "there", engine="ray", workers=2)
    volatile = ["seconds", "train_seconds", "peak_memory"]
    scores = [
        r.scores[~r.scores.score.isin(["seconds", "speedup", "peak_memory"])].drop(columns=volatile)
        for r in (here, there)
    ]
    pd.testing.assert_frame_equal(*scores, check_exact=True)
    again = compare(plan_file, out=tmp_path / "there", engine="ray", workers=2)
    assert again.reused == 3


def test_a_method_that_fails_keeps_its_row_and_its_reason(plan_file, tmp_path):
    diverging = {"method": "fine-tune", "settings": {"lr": 1e30}}
    plan_file.write_text(yaml.safe_dump({**PLAN, "methods": [{"method": "original"}, diverging], "published": {}}))
    result = compare(plan_file)
    failed = result.frame[result.frame.entry == "fine-tune"]
    assert failed.A_R.isna().all()
    assert failed.refused.str.contains("not finite").all()
    assert "not finite" in (tmp_path / "results" / "smoke" / "table.md").read_text()


@pytest.mark.seconds
def test_ensembles_are_rows_whose_features_are_not_assessed(tmp_path):
    """Exact deletion, and retraining members apart, lose the class; the probe's column stays empty."""
    sisa = {"method": "sisa", "settings": {"shards": 2, "slices": 1}}
    plan = PLAN | {
        "recipe": {"lr": 0.1, "epochs": 15, "batch_size": 32},
        "requests": [{"classes": [3]}],
        "seeds": [0],
        "measures": ["accuracy", "probe"],
        "methods": [
            {"method": "original", "label": "shards", "train": sisa},
            {"method": "sisa", "train": sisa},
            {"method": "retrain", "train": sisa},
            {"method": "arcane", "train": {"method": "arcane"}},
        ],
    }
    plan = {k: v for k, v in plan.items() if k != "published"}
    frame = compare(Plan.model_validate(plan), out=tmp_path / "out", device="cpu", progress=False).frame
    found = frame.set_index("entry")
    assert found.A_R.notna().all()
    assert (found.E_F[["sisa", "arcane", "retrain"]] > 90).all()
    assert found.E_F["shards"] < 50
    assert found.probe.isna().all()
