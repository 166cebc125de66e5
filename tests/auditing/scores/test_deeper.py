"""The sealed questions' scores from what was seen in models, made by hand."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.auditing.answers import Answers
from efface.auditing.measures.neighbourhood import residual_knowledge
from efface.auditing.measures.path_back import loss_barrier
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores import deeper as module
from efface.auditing.scores.deeper import deeper_scores, path_scores
from efface.auditing.scores.looked import DRAWS, PROBES, Looked
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.models.recorded import Recorded
from efface.request import Request
from efface.running.run import Run


def _seen(seed, *, margin=-15.0, bias=0.0, recall=0.5, near=0.0, mass=(0.0, 0.0, 0.0), missing=()):
    g = torch.Generator().manual_seed(seed)
    found = {
        "margins": margin + 0.3 * torch.randn(1, generator=g) + torch.zeros(50, dtype=torch.float64),
        "recognised": torch.zeros(50, dtype=torch.float64),
        "bias": torch.tensor([bias]) + 0.5 * torch.randn(1, generator=g),
        "norm": 0.5 * torch.randn(1, generator=g),
        "mass": (torch.tensor(mass) + 0.2 * torch.randn(50, 3, generator=g)).double().log_softmax(1),
        "blocks": recall + 0.02 * torch.randn(len(PROBES), 2, generator=g).double(),
        "unseen": torch.tensor(200),
        "near": torch.full((50,), near * DRAWS, dtype=torch.float64),
    }
    return Looked({k: v for k, v in found.items() if k not in missing}, dict.fromkeys(missing, "why not"), ("b", "c"))


REFERENCES = [_seen(s) for s in range(8)]
ORIGINAL = _seen(99, mass=(0.0, 0.0, 0.7))


def _outside(looked, confidence=0.997):
    scores = deeper_scores(looked, REFERENCES, ORIGINAL, confidence)
    return {
        k: 1 if s.value > s.floor_high else -1 for k, s in scores.items() if not s.floor_low <= s.value <= s.floor_high
    }


def test_one_more_retrained_model_lies_within_every_band():
    assert _outside(_seen(100)) == {}


@pytest.mark.parametrize(
    ("differs", "key", "side"),
    [
        ({"margin": -10.0}, "kept_data_margin", 1),
        ({"margin": -20.0}, "kept_data_margin", -1),
        ({"bias": -50.0}, "head_bias", -1),
        ({"recall": 0.7}, "block_probe", 1),
        ({"recall": 0.3}, "block_probe", -1),
        ({"near": 0.2}, "neighbourhood", 1),
    ],
)
def test_each_difference_is_seen_by_its_own_question_on_its_own_side(differs, key, side):
    assert _outside(_seen(100, **differs)) == {key: side}


def test_mass_that_goes_elsewhere_is_seen():
    assert _outside(_seen(100, mass=(3.0, 0.0, 0.0)))["kept_mass"] == 1


@pytest.mark.parametrize(("towards", "side"), [(0.3, 1), (-0.3, -1)])
def test_a_little_of_the_originals_answers_is_seen_where_the_size_of_the_difference_tells_nothing(towards, side):
    assert _outside(_seen(100, mass=(0.0, 0.0, towards))) == {"kept_lean": side}
    assert deeper_scores(ORIGINAL, REFERENCES, ORIGINAL, 0.95)["kept_lean"].value == pytest.approx(1)


def test_one_block_and_probe_that_stands_out_is_named():
    odd = _seen(100)
    odd.found["blocks"][1, 0] = 0.9
    score = deeper_scores(odd, REFERENCES, ORIGINAL, 0.997)["block_probe"]
    assert score.value > score.floor_high
    assert "before 'b' from 10 records a class: recall 90.0%, mean of the others 5" in score.why


def test_the_null_of_the_mass_is_each_reference_beside_the_others():
    score = deeper_scores(_seen(100), REFERENCES, ORIGINAL, 0.95)["kept_mass"]
    others = [[o for o in REFERENCES if o is not r] for r in REFERENCES]
    pairs = zip(REFERENCES, others, strict=True)
    own = [deeper_scores(r, rest, ORIGINAL, 0.95)["kept_mass"].value for r, rest in pairs]
    assert score.floor == pytest.approx(sum(own) / 8)


def test_a_handful_recognised_where_retrained_models_recognise_none_is_noise():
    """The spread of eight shares of 0 is 0; the draw of 50 records is not."""
    assert _outside(_seen(100, near=0.01)) == {}


def test_what_cannot_be_measured_says_why():
    scores = deeper_scores(_seen(100, missing=("blocks",)), REFERENCES, ORIGINAL, 0.95)
    assert (scores["block_probe"].measured, scores["block_probe"].why) == (False, "why not")
    few = deeper_scores(_seen(100), REFERENCES[:3], ORIGINAL, 0.95)
    assert {s.measured for s in few.values()} == {False}
    assert "needs 4 of them where this can be measured; there are 3" in few["head_bias"].why
    other = Looked(_seen(100).found, {}, ("b", "d"))
    assert "its blocks (b, d) are not those" in deeper_scores(other, REFERENCES, ORIGINAL, 0.95)["block_probe"].why


def test_of_items_the_most_memorised_are_asked_about_after_training_on_kept_data():
    """The original knew 5 of 50 records, and they come back; the mean over all 50 would hide it."""
    original = _seen(0)
    original.found["before"] = torch.full((50,), -15.0, dtype=torch.float64)
    original.found["before"][:5] += 30

    def seen(seed, back=0.0):
        looked, g = _seen(seed), torch.Generator().manual_seed(seed)
        looked.found["before"] = -15.0 + 0.3 * torch.randn(50, generator=g, dtype=torch.float64)
        looked.found["margins"] = looked.found["before"].clone()
        looked.found["margins"][:5] += back
        return looked

    references = [seen(s) for s in range(8)]
    score = deeper_scores(seen(100, back=5.0), references, original, 0.997, items=True)["kept_data_margin"]
    assert score.value > score.floor_high
    assert "the 10 most memorised records" in score.why
    gone = deeper_scores(seen(100), references, original, 0.997, items=True)["kept_data_margin"]
    assert gone.floor_low < gone.value < gone.floor_high


# --- the way back, and the words ------------------------------------------------------------------------------------


def linear(weight):
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.as_tensor(weight))
    return model


HERE, THERE = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]


def asked(model):
    labels = torch.arange(30) % 2
    x = torch.eye(2)[labels] + 0.1 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    split = Split.of(
        Data("two", ArraySamples(x, labels), ArraySamples(x, labels), tuple("abc")), Request(items=(0,)), 0
    )
    return Answers.of(Row("mine", "other", model), Records.drawn(split, AuditSettings(), Run(device="cpu")))


def test_the_way_back_is_a_straight_line_between_both_models_weights():
    ours, theirs = asked(linear(HERE)), asked(linear(THERE))
    found = path_scores(ours, theirs)
    assert found["path_distance"].value == pytest.approx(5)
    x, y = ours.records.parts["retain"].tensors()
    losses = []
    for t in torch.linspace(0, 1, 11):
        with torch.no_grad():
            losses.append(F.cross_entropy(x @ torch.lerp(torch.tensor(HERE), torch.tensor(THERE), t).T, y))
    assert found["path_barrier"].value == pytest.approx(loss_barrier(torch.stack(losses).double()), abs=1e-6)
    same = path_scores(ours, ours)
    assert (same["path_distance"].value, same["path_barrier"].value) == pytest.approx((0, 0), abs=1e-7)
    assert torch.equal(ours.model[1].weight, torch.tensor(HERE))


def test_the_way_back_leaves_every_module_its_mode():
    ours = asked(linear(HERE))
    modes = [m.training for m in ours.model.train().modules()]
    path_scores(ours, asked(linear(THERE)))
    assert [m.training for m in ours.model.modules()] == modes


def test_a_barrier_is_what_rises_above_the_line(monkeypatch):
    monkeypatch.setattr(module, "_losses", lambda *_: torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64))
    assert path_scores(asked(linear(HERE)), asked(linear(THERE)))["path_barrier"].value == pytest.approx(2.5)


def test_models_of_other_shapes_have_no_way_between_them():
    wide = nn.Sequential(nn.Flatten(), nn.Linear(2, 4, bias=False), nn.Linear(4, 3, bias=False))
    found = path_scores(asked(wide), asked(linear(HERE)))
    assert {s.why for s in found.values()} == {"its weights have other names or shapes than the original's"}
    assert set(found) == {"path_distance", "path_barrier"}


def test_recorded_answers_have_no_way_back():
    ours = dataclasses.replace(asked(linear(HERE)), model=Recorded(torch.zeros(2, 3)))
    found = path_scores(ours, asked(linear(THERE)))
    said = "only its answers are known, and the way from its weights to the original's needs the model itself"
    assert {key: s.why for key, s in found.items()} == dict.fromkeys(("path_distance", "path_barrier"), said)


def test_each_score_says_what_it_rests_on():
    looked = _seen(100, near=0.02, recall=0.5)
    looked.found["recognised"][:5] = 1
    scores = deeper_scores(looked, [_seen(s, near=0.01) for s in range(8)], ORIGINAL, 0.95)
    assert scores["kept_data_margin"].why == "10.0% recognised afterwards"
    assert scores["kept_data_margin"].value == pytest.approx(float(looked.found["margins"].mean()))
    # 5 hits of 250 where retrained models have 2.5: r is their ratio, counted as the measure counts.
    assert scores["neighbourhood"].value == pytest.approx(0.02)
    hits = torch.full((8,), 0.01 * DRAWS * 50, dtype=torch.float64)
    assert scores["neighbourhood"].why == (
        f"r = {residual_knowledge(0.02 * DRAWS * 50, hits, 50 * DRAWS):.3g} times as often as retrained models"
    )
    assert {scores[k].why for k in ("head_bias", "head_norm", "kept_mass", "kept_lean", "kept_entropy")} == {""}
    assert scores["head_bias"].value == pytest.approx(float(looked.found["bias"][0]))
    one = _seen(100)
    one.found["blocks"][0, 1] = 0.9
    others = sum(float(r.found["blocks"][0, 1]) for r in REFERENCES) / 8
    assert deeper_scores(one, REFERENCES, ORIGINAL, 0.95)["block_probe"].why == (
        f"before 'c' from 1 record a class: recall 90.0%, mean of the others {others:.1%}"
    )


def test_of_several_classes_the_row_furthest_away_counts():
    looked = _seen(100)
    looked.found["bias"] = torch.tensor([1.0, -7.0, 3.0])
    assert deeper_scores(looked, REFERENCES, ORIGINAL, 0.95)["head_bias"].value == -7


def test_an_original_that_could_not_be_looked_at_is_said():
    original = _seen(0, missing=("mass", "margins"))
    lean = deeper_scores(_seen(100), REFERENCES, original, 0.95)["kept_lean"]
    assert (lean.measured, lean.why) == (False, "why not")
    margin = deeper_scores(_seen(100), REFERENCES, original, 0.95, items=True)["kept_data_margin"]
    assert (margin.measured, margin.why) == (False, "of the original: why not")


def test_references_that_miss_a_look_are_left_out_of_its_band():
    some = [*REFERENCES[:4], *(_seen(s, missing=("bias",)) for s in (20, 21))]
    scores = deeper_scores(_seen(100), some, ORIGINAL, 0.95)
    assert scores["head_bias"].measured
    assert scores["head_bias"].floor == pytest.approx(sum(float(r.found["bias"]) for r in REFERENCES[:4]) / 4)
    three = deeper_scores(_seen(100), [*REFERENCES[:3], *some[4:]], ORIGINAL, 0.95)
    assert three["head_bias"].why.endswith("there are 3")
    assert three["head_norm"].measured
