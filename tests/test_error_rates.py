"""experiments/audits: error rates are those of the audit's own verdict, and their intervals are exact."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

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
    import error_tables
    import judged
    import level_b

    yield {"models": error_models, "tables": error_tables, "judged": judged, "level_b": level_b}
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
