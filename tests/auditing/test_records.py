import dataclasses

import pytest
import torch
from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.measures.margins import margins
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.data.canaries import Canaries
from efface.data.planted import planted
from efface.errors import InputError
from efface.request import Request
from efface.running.run import Run


def test_draws_come_from_the_runs_seed_and_are_never_the_first_n(world):
    settings = AuditSettings(retain_samples=100, probe_per_class=20)
    one, again, other = (Records.drawn(world.split, settings, Run(seed=s)) for s in (0, 0, 1))
    for name in ("retain", "probe_train"):
        assert one.parts[name].indices.tolist() == again.parts[name].indices.tolist()
        assert one.parts[name].indices.tolist() != other.parts[name].indices.tolist()
    assert one.parts["retain"].indices.tolist() != world.split.retain.indices[:100].tolist()
    assert one.parts["probe_train"].labels.bincount().tolist() == [20] * 10
    assert any("100 of" in note for note in one.notes)


def test_nothing_of_the_retain_part_leaks_from_forget_or_test(world):
    records = Records.drawn(world.split, AuditSettings(), Run())
    assert not set(records.parts["retain"].indices) & set(records.parts["forget"].indices)
    assert records.parts["probe_test"].samples is world.split.data.test


def test_attacks_compare_equally_many_of_each_class(world):
    items = Split.of(world.split.data, Request(items=tuple(range(0, 900, 3))))
    for split in (world.split, items):
        records = Records.drawn(split, AuditSettings(attack_samples=60), Run())
        members = records.parts["forget"].labels[records.members]
        others = records.parts["held_out"].labels[records.others]
        assert torch.equal(members.bincount(minlength=10), others.bincount(minlength=10))
        assert len(members) <= 60


def test_the_probes_records_are_drawn_class_by_class(world):
    """As they were when each class was looked for in all labels."""
    settings, run = AuditSettings(probe_per_class=20), Run(seed=5)
    train, generator = world.split.train, run.generator("audit/probe")
    rows = []
    for c in range(10):
        own = (train.labels == c).nonzero().flatten()
        rows.append(own[torch.randperm(len(own), generator=generator)[:20]])
    drawn = Records.drawn(world.split, settings, run)
    assert drawn.parts["probe_train"].indices.tolist() == train.take(torch.cat(rows).sort().values).indices.tolist()
    assert (drawn.probed, drawn.among) == (tuple(range(10)), "")


@pytest.mark.parametrize(("forgotten", "gone", "kept"), [((3,), 1, 5), ((0, 1, 2, 3, 4), 3, 3), (range(8), 3, 2)])
def test_of_too_many_classes_probes_look_at_some_forgotten_and_some_kept_ones(world, forgotten, gone, kept):
    split = Split.of(world.split.data, Request(classes=tuple(forgotten)))
    drawn, again, other = (Records.drawn(split, AuditSettings(probe_classes=6), Run(seed=s)) for s in (0, 0, 7))
    assert drawn.probed == again.probed
    assert drawn.probed != other.probed
    assert list(drawn.probed) == sorted(set(drawn.probed))
    assert len(drawn.probed_forgotten) == gone
    assert len(drawn.probed) == gone + kept
    assert set(drawn.parts["probe_train"].labels.tolist()) == set(drawn.probed)
    assert set(drawn.parts["probe_test"].labels.tolist()) == set(drawn.probed_forgotten)
    assert drawn.among == f"among {gone + kept} of 10 classes"
    assert f"{gone} of the {len(forgotten)} forgotten ones, and {kept} others" in " ".join(drawn.notes)
    items = Records.drawn(Split.of(world.split.data, Request(items=(1, 2))), AuditSettings(probe_classes=6), Run())
    assert (items.probed, items.among) == ((), "")


def test_margins_are_those_of_the_formula_and_computed_once(world):
    records = Records.drawn(world.split, AuditSettings(), Run())
    answers = Answers.of(Row("original", "original", world.models["original"]), records)
    x, y = world.split.forget.tensors()
    torch.testing.assert_close(answers.margin("forget"), margins(world.models["original"](x).detach(), y))
    assert answers.margin("forget") is answers.margin("forget")


def test_layers_behind_the_originals_head_do_not_hide_its_features(world):
    records = Records.drawn(world.split, AuditSettings(), Run())
    network = world.models["original"]
    original = Answers.of(Row("original", "original", network), records)
    assert original.layer == "3"
    projected = Row("candidate", "candidate", nn.Sequential(*network, nn.Linear(10, 10)))
    assert Answers.of(projected, records, original=original).layer == "3"
    # By itself, or asked before the original, it is found where its own logits come from.
    assert Answers.of(projected, records).layer == "4"


def test_a_model_of_another_width_is_refused(world):
    records = Records.drawn(world.split, AuditSettings(), Run())
    with pytest.raises(InputError, match="12 outputs, but digits has 10"):
        Answers.of(Row("wide", "other", nn.Sequential(nn.Flatten(), nn.Linear(64, 12))), records)
    with pytest.raises(InputError, match="3 columns"):
        Answers.of(Row("narrow", "other", nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), records)


def test_a_split_without_request_is_refused(world):
    with pytest.raises(InputError, match="needs a request"):
        Records.drawn(Split.of(world.split.data), AuditSettings(), Run())


# --- by hand --------------------------------------------------------------------------------------------------------


def small(train=12, test=6, canaries=None):
    """Three classes, as many of each; the position is the input."""

    def samples(n):
        return ArraySamples(torch.arange(float(n))[:, None], torch.arange(n) % 3)

    return Data("small", samples(train), samples(test), tuple("abc"), canaries=canaries)


def drawn(request, seed=0, data=None, **settings):
    split = Split.of(data or small(), request, 0.0)
    return Records.drawn(split, AuditSettings(**settings), Run(seed=seed, device="cpu"))


def test_parts_and_notes_of_a_class():
    records = drawn(Request(classes=(1,)), retain_samples=5, probe_per_class=2, probe_test=1, attack_samples=3)
    assert {name: len(part) for name, part in records.parts.items()} == {
        "forget": 4, "retain": 5, "test_retain": 4, "test_forget": 2, "held_out": 2, "probe_train": 6, "probe_test": 1,
    }  # fmt: skip
    assert records.parts["held_out"].indices.tolist() == records.parts["test_forget"].indices.tolist()
    assert records.parts["probe_train"].name == "probe"
    assert records.parts["probe_train"].labels.bincount().tolist() == [2, 2, 2]
    assert records.parts["probe_train"].indices.tolist() == sorted(records.parts["probe_train"].indices.tolist())
    assert records.notes == (
        "5 of 8 records of the retain part, drawn at random, for accuracy on kept training data.",
        "6 of 12 training records, drawn at random, equally by class, for the probes.",
        "1 of 2 records of the test (forgotten) part, drawn at random, for the probes' unseen records.",
        "Attacks compare 2 forget records with as many unseen ones, matched by class.",
    )
    assert len(records.watched) == 3
    assert records.watched.tolist() == sorted(records.watched.tolist())
    assert records.by_class


def test_nothing_is_drawn_where_all_fits():
    records = drawn(Request(classes=(1,)), retain_samples=8, probe_per_class=4, probe_test=2, attack_samples=4)
    assert records.parts["retain"].indices.tolist() == records.split.retain.indices.tolist()
    assert records.notes == ("Attacks compare 2 forget records with as many unseen ones, matched by class.",)
    assert records.watched.tolist() == [0, 1, 2, 3]
    assert len(records.parts["probe_train"]) == 12


def test_items_are_compared_with_unseen_records_of_every_class_and_have_no_probes():
    records = drawn(Request(items=(0, 1, 3)))
    assert not records.by_class
    assert set(records.parts) == {"forget", "retain", "test_retain", "test_forget", "held_out"}
    assert records.parts["held_out"].indices.tolist() == list(range(6))
    members = records.parts["forget"].labels[records.members]
    others = records.parts["held_out"].labels[records.others]
    assert members.bincount().tolist() == others.bincount().tolist() == [2, 1]


def test_without_unseen_records_of_the_class_nothing_is_attacked():
    data = small()
    data = dataclasses.replace(data, test=ArraySamples(torch.zeros(2, 1), torch.tensor([0, 2])))
    records = drawn(Request(classes=(1,)), data=data)
    assert (len(records.members), len(records.others)) == (0, 0)
    assert not any("Attacks" in note for note in records.notes)
    items = drawn(Request(items=(1, 4)), data=data)  # of class b, of which none is unseen
    assert (len(items.members), len(items.others)) == (0, 0)


def test_each_draw_has_a_purpose_of_its_own():
    one, again, two = (
        drawn(Request(classes=(1,)), seed, small(60, 60), attack_samples=5, retain_samples=9) for seed in (0, 0, 1)
    )
    for name in ("watched", "members", "others"):
        assert getattr(one, name).tolist() == getattr(again, name).tolist()
        assert getattr(one, name).tolist() != getattr(two, name).tolist()
    assert one.watched.tolist() != one.members.tolist()
    assert one.watched.tolist() != list(range(5))


@pytest.mark.parametrize(
    ("request_", "settings", "questions"),
    [
        (Request(classes=(1,)), {}, 12),
        (Request(items=(1,)), {}, 8),
        (Request(classes=(1,)), {"sealed": True}, 20),
        (Request(items=(1,)), {"sealed": True}, 13),
    ],
)
def test_each_question_gets_its_share_of_the_doubt(request_, settings, questions):
    records = drawn(request_, confidence=0.9, **settings)
    assert records.simultaneous_confidence == pytest.approx(1 - 0.1 / questions)


@pytest.mark.parametrize("left", [True, False])
def test_canaries_are_asked_about_where_the_request_names_them(left):
    data = planted(small(60), Canaries(count=4, epsilon=0.1, seed=0), 0.0, 0)
    item = next(i for i in range(60) if i not in data.canaries.sources)
    request_ = Request(items=(item,), canaries=not left)
    records = drawn(request_, data=data)
    assert records.with_canaries is (not left)
    assert not drawn(request_, data=data, canaries=False).with_canaries
    assert records.simultaneous_confidence == pytest.approx(1 - 0.05 / (8 if left else 12))
    assert records.notes[-1] == (
        "Training records 60 to 63 are canaries: 0 of them to be forgotten, 4 stay, as the request leaves them."
        if left
        else "Training records 60 to 63 are canaries: 4 of them to be forgotten, 0 stay."
    )
