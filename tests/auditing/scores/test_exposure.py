"""A single record that stayed is found; the same question about models that never saw it finds none."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.floors import Floors
from efface.auditing.measures.exposure import CLIP, deviations, deviations_beside_unseen
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores.exposure import _name, exposure_scores
from efface.auditing.settings import AuditSettings
from efface.data import Split, load
from efface.request import Request
from efface.running.run import Run


@pytest.fixture(scope="module")
def plain():
    split = Split.of(load("digits"), Request(classes=(3,)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # what it answers is of no account, see `drawn`
    return Answers.of(Row("plain", "other", model), Records.drawn(split, AuditSettings(), Run()))


def drawn(plain, seed, **stayed):
    """Margins of a model that never saw the forget records: hard ones lower and wider; some may have stayed."""
    g = torch.Generator().manual_seed(seed)
    n, m = len(plain.labels["forget"]), len(plain.labels["held_out"])
    level = torch.full((n,), -6.0, dtype=torch.float64)
    level[:11] = torch.linspace(-25, -8, 11, dtype=torch.float64)
    spread = torch.where(level < -7, 1.0, 0.6).double()
    margins = level + spread * torch.randn(n, generator=g, dtype=torch.float64)
    for name, margin in stayed.items():
        margins[int(name[1:])] = margin
    unseen = -6 + 0.6 * torch.randn(m, generator=g, dtype=torch.float64)
    return dataclasses.replace(plain, name=f"model {seed}", _margins={"forget": margins, "held_out": unseen})


def _band(retrained, confidence=1 - 0.05 / 12):
    floors = Floors()
    for own in retrained:
        floors.add(exposure_scores(own, retrained[0], retrained))
    return floors.band("exposure", confidence)


def test_one_record_of_many_that_stayed_is_caught_and_named_with_sixteen_references(plain):
    caught, accused = 0, 0
    for trial in range(30):
        retrained = [drawn(plain, 1000 * trial + i) for i in range(16)]
        band = _band(retrained)
        kept, clean = drawn(plain, 1000 * trial + 900, r4=-2.0), drawn(plain, 1000 * trial + 901)
        found = exposure_scores(kept, retrained[0], retrained)["exposure"]
        caught += found.value > band.high
        assert found.why.startswith(f"record {plain.records.parts['forget'].indices[4]};") or found.value < band.high
        accused += abs(exposure_scores(clean, retrained[0], retrained)["exposure"].value) > band.high
    assert caught >= 27
    assert accused <= 1  # 0.4 % of 30 is 0.1


def test_a_record_that_is_rejected_lies_on_the_other_side(plain):
    retrained = [drawn(plain, i) for i in range(16)]
    found = exposure_scores(drawn(plain, 99, r50=-40.0), retrained[0], retrained)["exposure"]
    assert found.value < _band(retrained).low


def test_too_few_references_say_how_many_would_do(plain):
    few = [drawn(plain, i) for i in range(3)]
    assert exposure_scores(drawn(plain, 9), few[0], few)["exposure"].measured
    missing = exposure_scores(few[0], few[0], few)["exposure"]
    assert "4 retrained models, and 8 to find most single records; there are 3" in missing.why


def test_one_reference_compares_with_unseen_records(plain):
    reference = drawn(plain, 0)
    score = exposure_scores(drawn(plain, 1, r30=6.0), reference, [reference])
    assert score["exposure_ratio"].value > 3
    assert not score["exposure"].measured
    assert not exposure_scores(reference, reference, [reference])["exposure_ratio"].measured


def test_the_record_that_stands_out_is_named_with_what_it_was_measured_in(plain):
    reference, others = drawn(plain, 0), [drawn(plain, i) for i in range(1, 4)]
    own = drawn(plain, 9, r30=40.0)
    found = exposure_scores(own, reference, [reference, *others, own])  # the model itself is none of the others
    record = plain.records.parts["forget"].indices[30]
    assert found["exposure"].why == f"record {record}; standard deviations from the mean of 4 retrained models"
    z, _, _ = deviations(own.margin("forget"), torch.stack([m.margin("forget") for m in (reference, *others)]))
    assert found["exposure"].value == pytest.approx(float(z[30]))
    d, expected, unseen, levels = (
        part
        for name in ("forget", "held_out")
        for part in (own.margin(name) - reference.margin(name), reference.margin(name))
    )
    v = deviations_beside_unseen(d, expected, unseen, levels)
    assert found["exposure_ratio"].value == pytest.approx(float(v[30]))
    assert found["exposure_ratio"].why == f"record {record}; {len(unseen)} unseen records"


@pytest.mark.parametrize("part", ["forget", "held_out"])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("far", [-1e9, -torch.inf, 1e9, torch.inf])
def test_margins_beyond_what_is_counted_are_cut_alike_in_both_models(plain, part, which, far):
    models = [drawn(plain, 1), drawn(plain, 0)]
    margins = models[which].margin(part)
    margins[3] = far
    expected = [m.margin(name).clamp(-CLIP, CLIP) for name in ("forget", "held_out") for m in models]
    v = deviations_beside_unseen(expected[0] - expected[1], expected[1], expected[2] - expected[3], expected[3])
    found = exposure_scores(*models, models[1:])["exposure_ratio"]
    assert found.value == pytest.approx(float(v[v.abs().argmax()]))
    assert torch.isfinite(v).all()


def test_without_anything_to_compare_with_it_says_so(plain):
    own = drawn(plain, 0)
    alone = exposure_scores(own, None, [])
    assert alone["exposure_ratio"].why == "no retrained model was given"
    assert alone["exposure"].why.endswith("there are 0")
    assert exposure_scores(drawn(plain, 1), own, [own])["exposure"].why.endswith("there is 1")
    assert exposure_scores(own, own, [own])["exposure_ratio"].why == "this is the retrained model itself"
    same = dataclasses.replace(own, name="twin")
    assert (
        exposure_scores(same, own, [own])["exposure_ratio"].why == "both models give the same margins on unseen records"
    )


@pytest.mark.parametrize(
    ("ids", "said"), [(None, "7"), (np.array([f"cat/{i}.jpg" for i in range(9)]), "7 ('cat/7.jpg')")]
)
def test_the_record_is_named_as_its_owner_knows_it(ids, said):
    split = SimpleNamespace(data=SimpleNamespace(ids=ids))
    records = SimpleNamespace(parts={"forget": SimpleNamespace(indices=np.array([2, 7, 5]))}, split=split)
    assert _name(SimpleNamespace(records=records), torch.tensor([1.0, -3.0, 2.0])) == said
