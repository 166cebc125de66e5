"""What the deeper questions look at in one model, on networks whose answers are known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.auditing.answers import Answers
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores import looked as module
from efface.auditing.scores.looked import DRAWS, LARGEST_MARGIN, PROBES, Looked, tampered_rows
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

CLASSES = 4


def planted(each: int = 12) -> Data:
    """Four classes at ten times the unit vectors, hardly any noise."""

    def samples(seed: int) -> ArraySamples:
        labels = torch.arange(CLASSES).repeat_interleave(each)
        noise = 0.1 * torch.randn(len(labels), CLASSES, generator=torch.Generator().manual_seed(seed))
        return ArraySamples(10 * torch.eye(CLASSES)[labels] + noise, labels)

    return Data("planted", samples(0), samples(1), tuple("abcd"))


def network(scale: float = 1.0, bias: bool = True) -> nn.Module:
    """Two layers that hand the input on: the logits are the inputs."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(CLASSES, CLASSES, bias=False), nn.Linear(CLASSES, CLASSES, bias=bias))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(CLASSES))
        model[2].weight.copy_(scale * torch.eye(CLASSES))
        if bias:
            model[2].bias.copy_(torch.tensor([0.5, 1.0, -0.5, 0.0]))
    return model


def answers(model: nn.Module, request: Request = Request(classes=(1,)), seed: int = 0, **settings) -> Answers:  # noqa: B008
    split = Split.of(planted(), request, 0.0)
    records = Records.drawn(split, AuditSettings(kept_steps=2, **settings), Run(seed=seed, device="cpu"))
    return Answers.of(Row("mine", "candidate", model), records)


def test_every_look_is_there_with_its_shape():
    own = answers(network())
    looked = Looked.at(own, None)
    assert looked.missing == {}
    assert {k: tuple(v.shape) for k, v in looked.found.items()} == {
        "margins": (12,), "recognised": (12,), "before": (12,), "bias": (1,), "norm": (1,),
        "mass": (12, 3), "blocks": (3, 1), "unseen": (), "near": (12,),
    }  # fmt: skip
    assert looked.blocks == ("2",)
    assert int(looked.found["unseen"]) == 12
    # Every class is at a place of its own: any probe finds it, also a quarter of a spread away from its records.
    torch.testing.assert_close(looked.found["blocks"], torch.ones(3, 1, dtype=torch.float64))
    assert looked.found["near"].tolist() == [DRAWS] * 12
    torch.testing.assert_close(looked.found["before"], own.margin("forget")[own.records.watched].clamp(-100, 100))


def test_what_was_seen_is_kept_and_taken_from_the_folder(tmp_path, monkeypatch):
    own = answers(network())
    first = Looked.at(own, None, tmp_path)
    assert [p.name.partition("-")[0] for p in tmp_path.iterdir()] == ["deeper"]
    monkeypatch.setattr(Looked, "_now", None)
    again = Looked.at(own, None, tmp_path)
    assert (again.missing, again.blocks) == (first.missing, first.blocks)
    assert first.found.keys() == again.found.keys()
    assert all(torch.equal(first.found[k], again.found[k]) for k in first.found)


def test_the_heads_rows_are_in_deviations_of_the_kept_ones():
    found = Looked.at(answers(network()), None).found
    kept = torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64)
    assert found["bias"].tolist() == pytest.approx([float((1 - kept.mean()) / kept.std())])
    model = network()
    with torch.no_grad():
        model[2].weight[1] *= 4
        model[2].weight[0] *= 2
    norms = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    assert Looked.at(answers(model), None).found["norm"].tolist() == pytest.approx(
        [float((4 - norms.mean()) / norms.std())]
    )


def test_mass_is_the_softmax_over_kept_classes():
    own = answers(network())
    x, _ = own.records.parts["forget"].take(own.records.watched).tensors()
    with torch.no_grad():
        expected = network()(x)[:, [0, 2, 3]].double().log_softmax(1)
    torch.testing.assert_close(Looked.at(own, None).found["mass"], expected)


def test_what_a_request_or_a_network_has_not_is_missing_with_its_reason():
    of_items = Looked.at(answers(network(), Request(items=(0, 5))), None)
    assert of_items.missing == {
        "bias": "the request names no class: single items have no row of the head",
        "norm": "the request names no class: single items have no row of the head",
        "blocks": "the request names no class: single items have no probe",
    }
    assert set(of_items.found) == {"margins", "recognised", "before", "mass", "near"}
    without = Looked.at(answers(network(bias=False)), None)
    assert without.missing == {"bias": "the head has no bias"}
    own = answers(network())
    none = own.records.settings.model_copy(update={"kept_steps": 0})
    own = dataclasses.replace(own, records=dataclasses.replace(own.records, settings=none))
    assert Looked.at(own, None).missing == {"margins": "left out by the settings"}


def test_after_training_on_kept_data_is_by_the_recipe_that_the_original_had():
    """Two steps of plain gradient descent on all kept records, by hand."""
    recipe = Recipe(lr=0.5, momentum=0.0, weight_decay=0.0, epochs=7, batch_size=64, schedule="cosine")
    own = answers(network())
    looked = Looked.at(own, recipe)
    model = network()
    x, y = own.records.split.retain.tensors()
    optimiser = torch.optim.SGD(model.parameters(), lr=recipe.bare().lr)
    for _ in range(2):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    z, labels = own.records.parts["forget"].take(own.records.watched).tensors()
    with torch.no_grad():
        logits = model(z).double()
    expected = logits[:, 1] - logits[:, [0, 2, 3]].logsumexp(1)
    torch.testing.assert_close(looked.found["margins"], expected, rtol=1e-4, atol=1e-4)
    assert looked.found["recognised"].tolist() == (logits.argmax(1) == labels).double().tolist()
    assert torch.equal(own.model[2].weight, network()[2].weight)  # the model itself is not trained
    other = Looked.at(own, None)  # by Adam
    assert not torch.equal(other.found["margins"], looked.found["margins"])


def test_margins_are_cut_where_they_say_nothing_more():
    found = Looked.at(answers(network(scale=1e4)), None).found
    assert found["before"].tolist() == [LARGEST_MARGIN] * 12
    assert float(found["margins"].max()) <= LARGEST_MARGIN


def test_copies_further_away_than_the_classes_lie_apart_are_not_recognised(monkeypatch):
    """Of a ball of radius r around a record at 10 e_1, most lies on other classes' side if r is large."""
    shares = {}
    for radius in (0.25, 4.0, 100.0):
        monkeypatch.setattr(module, "RADIUS", radius)
        shares[radius] = float(Looked.at(answers(network()), None).found["near"].sum()) / (12 * DRAWS)
    # The forget records are their own spread of 0.2 apart, so that a quarter of it changes nothing.
    assert shares[0.25] == 1
    assert shares[4.0] == 1
    assert shares[100.0] < 0.9
    one, two = (Looked.at(answers(network(), seed=s), None).found["near"].tolist() for s in (0, 1))
    assert one != two


def test_a_harder_probe_sees_fewer_records(monkeypatch):
    seen = []
    monkeypatch.setattr(
        module, "standardised_probe", lambda x, y, z: seen.append(y) or torch.zeros(len(z), dtype=torch.int64)
    )
    found = Looked.at(answers(network()), None).found["blocks"]
    assert found.tolist() == [[0.0]] * 3  # it answers class a, where all are of class b
    sizes = [tuple(y.bincount().tolist()) for y in seen]
    assert sizes == [(1,) * 4] * 20 + [(10,) * 4] * 5 + [(12,) * 4]
    assert [(size, draws) for size, draws in PROBES] == [(1, 20), (10, 5), (200, 1)]


def test_records_for_a_probe_are_drawn_of_each_class():
    labels = torch.tensor([0] * 30 + [1] * 30 + [2] * 3)
    drawn = [module._drawn(labels, 5, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert labels[drawn[0]].bincount().tolist() == [5, 5, 3]
    assert len(set(drawn[0].tolist())) == 13
    assert drawn[0][:5].tolist() != [0, 1, 2, 3, 4]


def test_a_lowered_bias_leaves_what_the_tolerance_allows_and_a_row_drawn_anew_is_the_layers_own():
    own = answers(network(), reference_knows=0.25)
    found = tampered_rows(own)
    lead = own.logits["forget"].double()
    lead = lead[:, 1] - lead[:, [0, 2, 3]].amax(1)
    lowered = 1.0 - float(lead.quantile(0.75))
    kept = torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64)
    assert found["bias"].tolist() == pytest.approx([float((lowered - kept.mean()) / kept.std())])
    # All kept rows have norm 1, so that any other stands out without bound or not at all; here they differ a little.
    model = network()
    with torch.no_grad():
        model[2].weight[0] *= 1.5
    norm = tampered_rows(answers(model))["norm"]
    again = tampered_rows(answers(model))["norm"]
    assert norm.tolist() == again.tolist() != tampered_rows(answers(model, seed=1))["norm"].tolist()
    # A fresh row of four inputs has entries below 1/2 in size, so a norm below 1.
    norms = torch.tensor([1.5, 1.0, 1.0], dtype=torch.float64)
    assert float(norm) < float((1 - norms.mean()) / norms.std())
    assert set(tampered_rows(answers(network(bias=False)))) == {"norm"}
    # A bias that is low enough already is left.
    rejected = network()
    with torch.no_grad():
        rejected[2].bias[1] = -1e3
    low = tampered_rows(answers(rejected))["bias"]
    assert low.tolist() == pytest.approx([float((-1e3 - kept.mean()) / kept.std())])


@pytest.mark.parametrize("frozen", [("1.weight",), ("1.weight", "2.weight", "2.bias")])
def test_frozen_weights_are_trained_on_kept_data_as_any_others(frozen):
    free = Looked.at(answers(network()), None)
    model = network()
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    looked = Looked.at(answers(model), None)
    assert looked.missing == {}
    assert torch.equal(looked.found["margins"], free.found["margins"])
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == set(frozen)
