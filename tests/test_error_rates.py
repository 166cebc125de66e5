"""experiments/audits: error rates are those of the audit's own verdict, and their intervals are exact."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

import efface
from efface.auditing.questions import asked
from efface.auditing.settings import AuditSettings

AUDITS = Path(__file__).parents[1] / "experiments" / "audits"

LOOSE = {"few_draws": 5, "probe_per_class": 20, "resamples": 100, "ain_factor": 4.0}
TIGHT = {**LOOSE, "tolerance": 0.0, "probe_tolerance": 0.01, "shift_tolerance": 0.05, "separation_factor": 1.01}


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(AUDITS))
    import error_models
    import error_rates
    import error_tables
    import judged
    import level_b
    import planned

    modules = {"models": error_models, "rates": error_rates, "tables": error_tables, "judged": judged}
    yield modules | {"level_b": level_b, "plans": planned}
    sys.path.remove(str(AUDITS))


@pytest.fixture(scope="module")
def models(scripts):
    plan = {
        "model": {"build": "mlp", "arguments": {"hidden": [16], "activation": "relu"}},
        "recipe": {"optimiser": "adam", "lr": 0.01, "epochs": 8, "batch_size": 64},
    }
    return scripts["models"].Models(plan, efface.load_data("digits"), scripts["models"].Asked(1, 3), {})


@pytest.fixture(scope="module")
def made(models):
    """Four retrained models; the fine-tuned one keeps what it knew."""
    return models.retrained({"any": 4})["any"], models.by("fine-tune")


def test_what_a_question_would_need_decides_as_the_audit_does(scripts, models, made):
    (first, second, *_), tuned = made
    needs, raised = scripts["level_b"].needed, set()
    with scripts["judged"].remembering():
        for settings in (LOOSE, TIGHT, {**LOOSE, "exposure_factor": 1.01}):
            by = AuditSettings(**settings)
            accused = {"retrained": second, "fine-tune": tuned}
            found = scripts["judged"].judged(models.original, [first], accused, models.split, by)
            for one in found.values():
                row = {q.key: needs(q, one) for q in asked(by_class=True)}
                differs = [c.key for c in one.verdict.checks if c.outcome == "differs"]
                assert scripts["tables"].differing(row, by) == differs
                raised |= set(differs)
    assert raised >= {"forget", "confidence", "single", "probe-few", "separation", "relearn"}


def test_what_is_remembered_changes_no_verdict(scripts, models, made):
    (first, *others), tuned = made
    settings = AuditSettings(**LOOSE)
    accused = {"retrained 0": others[0], "fine-tune": tuned}
    judged = scripts["judged"].judged
    plain = judged(models.original, [first, *others[1:]], accused, models.split, settings)
    with scripts["judged"].remembering([first, *others]):
        judged(models.original, [first], accused, models.split, settings)
        again = judged(models.original, [first, *others[1:]], accused, models.split, settings)
    assert {k: v.verdict for k, v in again.items()} == {k: v.verdict for k, v in plain.items()}


def test_a_memorised_record_that_is_left_is_trained_on(scripts):
    plan = {
        "model": {"build": "mlp", "arguments": {"hidden": [64], "activation": "relu"}},
        "recipe": {"optimiser": "adam", "lr": 0.02, "weight_decay": 0, "epochs": 60, "batch_size": 64}
        | {"schedule": "cosine"},
    }
    models = scripts["models"].Models(plan, efface.load_data("digits"), scripts["models"].Asked(101, None), {})
    assert len(models.split.forget) == scripts["models"].ASKED
    wrong = models.split.forget.indices.tolist()
    chosen = models.split.forget.take([wrong.index(i) for i in models.memorised])
    x, y = chosen.tensors()
    known = {k: int((models.left(k)(x).argmax(1) == y).sum()) for k in (0, 5)}
    assert known[0] <= 1
    assert known[5] >= 4


def test_intervals_are_exact(scripts):
    share = scripts["tables"].share
    assert share(0, 60) == f"0 of 60 (0.0 to {100 * (1 - 0.025 ** (1 / 60)):.1f} %)"
    assert share(60, 60) == f"60 of 60 ({100 * 0.025 ** (1 / 60):.1f} to 100.0 %)"
    # The exact interval's ends are the shares of which so few, or so many, come up once in forty times.
    low, high = (float(x) / 100 for x in share(8, 420).split("(")[1].removesuffix(" %)").split(" to "))
    law = torch.distributions.Binomial(420, torch.tensor([low, high], dtype=torch.float64))
    upto = torch.stack([law.log_prob(torch.tensor(float(k))).exp() for k in range(9)])
    assert 1 - float(upto[:8, 0].sum()) == pytest.approx(0.025, abs=0.005)
    assert float(upto[:, 1].sum()) == pytest.approx(0.025, abs=0.005)


@pytest.fixture(scope="module")
def plan():
    return yaml.safe_load((AUDITS / "error_rates.yaml").read_text())


def rows_of_audits(**columns):
    """Audits at level (c) of a class, but for the columns given."""
    given = pd.DataFrame(columns)
    usual = {"references": "as the original", "N": 4, "kind": "class", "row": "original", "differs": "", "unfit": False}
    return given.assign(**{k: v for k, v in usual.items() if k not in columns})


def test_a_level_that_no_request_of_items_reached_is_a_dash(scripts, plan):
    frame = rows_of_audits(
        request=["1/0", "1/0", "9/items"],
        kind=["class", "class", "items"],
        N=[4, 64, 4],
        differs=["single:left", "", ""],
    )
    assert scripts["tables"].misses(frame, plan) == [
        "| request | model | c, 4 | c, 64 |",
        "|---|---|---|---|",
        "| class | original | 0 of 1 | 1 of 1 |",
        "| items | original | 1 of 1 | - |",
    ]


def test_models_of_a_pool_are_counted_once_however_often_they_are_drawn(scripts, plan):
    frame = rows_of_audits(
        setting="a", request="1/0", row="retrained", number=[0, 0, 1, 1], differs=["single:left", "", "test:better", ""]
    )
    _, _, row = scripts["tables"].pooled_alarms(frame, plan)
    assert row == f"| a | class | 1 | c, 4 | 1 of 4 | {scripts['tables'].share(1, 2)} | single 1 |"


def test_a_model_that_no_draw_of_a_kind_has_is_a_dash(scripts, plan):
    frame = rows_of_audits(
        setting="a", request=["1/0", "1/0", "9/items"], kind=["class", "class", "items"], N=[4, 8, 4],
        row=["original", "original", "1 left"], differs=["single:left", "", ""],
    )  # fmt: skip
    assert scripts["tables"].pooled_misses(frame, plan)[2:] == [
        "| a | class | original | 0 of 1 | 1 of 1 |",
        "| a | items | 1 left | 1 of 1 | - |",
    ]


def test_references_and_accused_of_one_draw_are_different_models_of_the_pool(scripts, models, monkeypatch):
    drawn = []

    def judged(original, references, accused, split, settings=None):
        drawn.append(({id(m) for m in references}, {k: id(m) for k, m in accused.items()}))
        return {}

    monkeypatch.setattr(scripts["rates"], "judged", judged)
    monkeypatch.setattr(scripts["rates"], "in_a_ring", lambda *_: ())
    monkeypatch.setattr(scripts["rates"], "kept_something", lambda *_: {"kept": nn.Identity()})
    list(scripts["rates"].resampled(models, {"retrained": 5, "draws": 3, "levels": [2, 3], "left": []}))
    assert [(len(r), len(a)) for r, a in drawn] == 3 * [(1, 1), (2, 3), (3, 3)]
    assert all(not references & set(accused.values()) for references, accused in drawn)
    assert len({frozenset(references) for references, _ in drawn if len(references) == 3}) > 1


def test_side_by_side_only_without_convolutions(scripts):
    dense, convolutional = [nn.Linear(4, 2), nn.Linear(4, 2)], [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())]
    assert list(scripts["models"].side_by_side(dense)) == dense
    assert not scripts["models"].side_by_side(convolutional)


@pytest.mark.parametrize("script", sorted(p.stem for p in AUDITS.glob("*.py")))
def test_every_script_of_the_folder_imports(scripts, script):
    assert importlib.import_module(script).__doc__


def test_a_plan_is_opened_beside_its_results(scripts, tmp_path):
    (tmp_path / "audits").mkdir()
    file = tmp_path / "audits" / "any.yaml"
    file.write_text("name: any\ndata: {source: digits, records: 100}\n")
    plan, out = scripts["plans"].opened(str(file))
    assert out == tmp_path / "results" / "any"
    assert out.is_dir()
    data = scripts["plans"].data_of(plan, "-")
    assert (len(data.train), len(data.test)) == (100, 100)
    assert scripts["plans"].finished(out) == []


def test_draws_of_kept_mass_end_in_a_table(scripts, monkeypatch, tmp_path):
    kept_mass = importlib.import_module("kept_mass")
    plan = {"chosen_on": [0], "tested_on": [1], "sizes": [3], "draws": 2, "references": 8}
    generator = torch.Generator().manual_seed(0)
    retrained, original = torch.randn(8, 5, 9, generator=generator).log_softmax(-1), torch.zeros(5, 9).log_softmax(-1)
    monkeypatch.setattr(kept_mass, "read", lambda _: (plan, {}, tmp_path))
    monkeypatch.setattr(kept_mass, "answers", lambda *_: (retrained, original, {"original": original}))
    kept_mass.main("plan", "work")
    table = (tmp_path / "table.md").read_text()
    assert "| 1 | 3 | original |" in table
