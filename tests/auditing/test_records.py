import pytest
import torch
from torch import nn

from efface.auditing.answers import Subject
from efface.auditing.measures.margins import margins
from efface.auditing.records import Scene
from efface.auditing.settings import AuditSettings
from efface.data import Split
from efface.errors import InputError
from efface.request import Request
from efface.running.run import Run


def test_draws_come_from_the_runs_seed_and_are_never_the_first_n(world):
    settings = AuditSettings(retain_samples=100, probe_per_class=20)
    one, again, other = (Scene.of(world.split, settings, Run(seed=s)) for s in (0, 0, 1))
    for name in ("retain", "probe_train"):
        assert one.parts[name].indices.tolist() == again.parts[name].indices.tolist()
        assert one.parts[name].indices.tolist() != other.parts[name].indices.tolist()
    assert one.parts["retain"].indices.tolist() != world.split.retain.indices[:100].tolist()
    assert one.parts["probe_train"].labels.bincount().tolist() == [20] * 10
    assert any("100 of" in note for note in one.notes)


def test_nothing_of_the_retain_part_leaks_from_forget_or_test(world):
    scene = Scene.of(world.split, AuditSettings(), Run())
    assert not set(scene.parts["retain"].indices) & set(scene.parts["forget"].indices)
    assert scene.parts["probe_test"].samples is world.split.data.test


def test_attacks_compare_equally_many_of_each_class(world):
    items = Split.of(world.split.data, Request(items=tuple(range(0, 900, 3))))
    for split in (world.split, items):
        scene = Scene.of(split, AuditSettings(attack_samples=60), Run())
        members = scene.parts["forget"].labels[scene.members]
        others = scene.parts["held_out"].labels[scene.others]
        assert torch.equal(members.bincount(minlength=10), others.bincount(minlength=10))
        assert len(members) <= 60


def test_margins_are_those_of_the_formula_and_computed_once(world):
    subject = Subject("original", world.models["original"], Scene.of(world.split, AuditSettings(), Run()))
    x, y = world.split.forget.tensors()
    torch.testing.assert_close(subject.margin("forget"), margins(world.models["original"](x).detach(), y))
    assert subject.margin("forget") is subject.margin("forget")


def test_layers_behind_the_originals_head_do_not_hide_its_features(world):
    scene = Scene.of(world.split, AuditSettings(), Run())
    original = world.models["original"]
    assert Subject("original", original, scene).layer == "3"
    projected = nn.Sequential(*original, nn.Linear(10, 10))
    assert Subject("candidate", projected, scene).layer == "3"


def test_a_model_of_another_width_is_refused(world):
    scene = Scene.of(world.split, AuditSettings(), Run())
    with pytest.raises(InputError, match="12 outputs, but digits has 10"):
        Subject("wide", nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), scene)
    with pytest.raises(InputError, match="3 columns"):
        Subject("narrow", nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), scene)


def test_a_split_without_request_is_refused(world):
    with pytest.raises(InputError, match="needs a request"):
        Scene.of(Split.of(world.split.data), AuditSettings(), Run())
