import pytest
import torch
from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.measures.margins import margins
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.settings import AuditSettings
from efface.data import Split
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
