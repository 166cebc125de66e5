"""The sealed questions' scores from what was seen in models, made by hand."""

import pytest
import torch

from efface.auditing.scores.deeper import deeper_scores
from efface.auditing.scores.looked import DRAWS, PROBES, Looked


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
