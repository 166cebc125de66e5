"""Class means: project_distil.md section 5 where nothing is repaired."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.data.epoch import Epoch
from efface.errors import DataAccessError, InputError, NotPreparedError
from efface.mechanisms.class_means import LayerMeans, class_means
from efface.methods.applying import apply, prepare
from efface.methods.class_means import ClassMeans
from efface.methods.fine_tune import FineTune
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from tests.methods.conftest import MLP_SPEC, RECIPE, accuracy, logits, small_cnn, small_mlp


@pytest.fixture(scope="module")
def kept(digits_data: Data) -> Artifact:
    """An MLP whose training kept its class means."""
    return prepare(
        None, small_mlp(), Split.of(digits_data), RECIPE, Run(device="cpu"), spec=MLP_SPEC, keep=["class-means"]
    )


def test_check_4_reads_no_data(kept: Artifact, class_split: Split) -> None:
    blind = class_split.only((), "the check")
    made = apply(ClassMeans(), Case(kept, blind, Run(device="cpu")))
    assert accuracy(made.model, class_split.test_forget) == 0
    assert accuracy(made.model, class_split.test_retain) > accuracy(kept.model, class_split.test_retain) - 0.02
    with pytest.raises(DataAccessError):
        apply(ClassMeans(means="data"), Case(kept, blind, Run(device="cpu")))


def test_kept_means_and_one_pass_over_the_same_data_give_the_same_network(kept: Artifact, class_split: Split) -> None:
    first = apply(ClassMeans(), Case(kept, class_split, Run(seed=2, device="cpu"))).model
    second = apply(ClassMeans(means="data", samples=10_000), Case(kept, class_split, Run(seed=2, device="cpu"))).model
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_check_1_retained_means_pass_the_first_layer_as_before(kept: Artifact, class_split: Split) -> None:
    made = apply(ClassMeans(strength=1.0), Case(kept, class_split, Run(device="cpu"))).model
    means = LayerMeans.recalled(kept.memory)
    assert means is not None
    before, after = kept.model.get_parameter("fc1.weight"), made.get_parameter("fc1.weight")
    for c in range(10):
        mean = means.of["fc1"][c, 0]
        change = (after @ mean - before @ mean).norm() / (before @ mean).norm()
        assert change < 1e-5 if c else change > 1e-2


def test_check_5_no_strength_changes_the_new_row_alone(kept: Artifact, class_split: Split) -> None:
    made = apply(ClassMeans(strength=0.0), Case(kept, class_split, Run(device="cpu"))).model
    after = made.state_dict()
    for name, before in kept.model.state_dict().items():
        if name.startswith("fc2"):
            assert torch.equal(after[name][1:], before[1:])
            assert not torch.equal(after[name][0], before[0])
        else:
            assert torch.equal(after[name], before)


def test_check_6_the_new_row_looks_like_the_others_and_is_never_chosen(kept: Artifact, class_split: Split) -> None:
    made = apply(ClassMeans(), Case(kept, class_split, Run(device="cpu"))).model
    weight, bias = made.get_parameter("fc2.weight"), made.get_parameter("fc2.bias")
    norms, others = weight.norm(dim=1), torch.arange(1, 10)
    assert norms[others].min() / 2 < norms[0] < norms[others].max() * 2
    assert abs(bias[0] - bias[others].mean()) < 3 * bias[others].std()
    z = logits(made, class_split.retain)
    assert (z[:, 0] < z[:, 1:].max(1).values).all()


def test_the_new_row_lies_where_a_never_trained_one_would(kept: Artifact, class_split: Split) -> None:
    """Top less 1.6 times the distance from top to off, from logits of the mean features one by one."""
    means = LayerMeans.recalled(kept.memory)
    assert means is not None
    layer = kept.model.get_submodule("fc2")
    z = layer(means.of["fc2"][1:, 0])[:, 1:].detach()
    top = [float(z[c, c]) for c in range(9)]
    off = [float(z[a, b]) for a in range(9) for b in range(9) if a != b]
    wanted = sum(top) / 9 - 1.6 * (sum(top) / 9 - sum(off) / 72)
    assert wanted < min(top)
    for method, logit in ((ClassMeans(), wanted), (ClassMeans(logit=-3.0), -3.0)):
        made = apply(method, Case(kept, class_split, Run(device="cpu"))).model
        new = made.get_submodule("fc2")(means.of["fc2"][1:, 0].mean(0))[0]
        assert new.item() == pytest.approx(logit, rel=1e-4)


def test_check_3_two_classes_in_either_order(kept: Artifact, digits_data: Data) -> None:
    made = [
        apply(ClassMeans(), Case(kept, Split.of(digits_data, Request.of(classes=c)), Run(device="cpu"))).model
        for c in ([3, 8], [8, 3])
    ]
    for p, q in zip(made[0].parameters(), made[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_memory_loses_the_forgotten_class_and_the_record_says_so(
    kept: Artifact, class_split: Split, tmp_path: Path
) -> None:
    assert any("kept for forgetting: class-means" in note for note in kept.record.notes)
    assert kept.record.kept == ("class-means",)
    for method in (ClassMeans(), FineTune(epochs=0.1)):  # whatever the method
        made = apply(method, Case(kept, class_split, Run(device="cpu")))
        back = Artifact.load(made.save(tmp_path / method.name))
        means = LayerMeans.recalled(back.memory)
        assert means is not None
        assert means.classes == tuple(range(1, 10))
        assert all(len(m) == 9 for m in means.of.values())
        assert any("those of class 0 were removed" in note for note in back.record.notes)


def test_a_request_of_items_removes_all_means(kept: Artifact, item_split: Split) -> None:
    made = apply(FineTune(epochs=0.1), Case(kept, item_split, Run(device="cpu")))
    assert LayerMeans.recalled(made.memory) is None
    assert made.record.kept == ()
    assert any("all were removed" in note for note in made.record.notes)


def test_a_second_request_says_that_the_means_are_older_than_the_weights(kept: Artifact, digits_data: Data) -> None:
    first, second = Request.of(classes=[0]), Request.of(classes=[5])
    once = apply(ClassMeans(), Case(kept, Split.of(digits_data, first), Run(device="cpu")))
    split = Split.of(digits_data, second, earlier=[first])
    twice = apply(ClassMeans(), Case(once, split.only((), "the check"), Run(device="cpu")))
    assert any("before an earlier request changed the weights" in note for note in twice.record.notes)
    assert accuracy(twice.model, split.test_forget) == 0
    assert accuracy(twice.model, split.test_retain) > 0.9


def test_without_kept_means_it_says_how_to_get_them(trained: dict[str, Artifact], class_split: Split) -> None:
    with pytest.raises(NotPreparedError, match=r"--keep class-means.*means=data"):
        apply(ClassMeans(), Case(trained["mlp"], class_split, Run(device="cpu")))


def test_check_2_means_in_the_retained_span_are_refused(kept: Artifact, class_split: Split) -> None:
    means = LayerMeans.recalled(kept.memory)
    assert means is not None
    for mean in means.of.values():
        mean[0] = 0.5 * mean[1] + 0.5 * mean[2]
    spanned = dataclasses.replace(kept, memory=means.memory())
    with pytest.raises(InputError, match="lie in the span of the retained ones"):
        apply(ClassMeans(), Case(spanned, class_split, Run(device="cpu")))


def test_fewer_features_than_classes_are_refused_before_work(digits_data: Data, class_split: Split) -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.inner, self.head = nn.AvgPool2d(4), nn.Linear(4, 8), nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.inner(self.pool(x).flatten(1)).relu())

    with seeded(0):
        model = Narrow()
    recipe = RECIPE.but(epochs=1)
    given = prepare(None, model, Split.of(digits_data), recipe, Run(device="cpu"), keep=["class-means"])
    with pytest.raises(InputError, match=r"no layer before the head has more inputs than the 9 retained.*use undo"):
        apply(ClassMeans(), Case(given, class_split.only((), "the check"), Run(device="cpu")))


def test_batch_norm_moves_only_where_data_is_read(trained: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=[3]))
    given = prepare(None, small_cnn(), Split.of(digits_data), RECIPE, Run(device="cpu"), keep=["class-means"])
    blind = apply(ClassMeans(), Case(given, split, Run(device="cpu"))).model
    seen = apply(ClassMeans(means="data"), Case(given, split, Run(device="cpu"))).model
    before = given.model.state_dict()["5.running_mean"]
    assert torch.equal(blind.state_dict()["5.running_mean"], before)
    assert not torch.equal(seen.state_dict()["5.running_mean"], before)
    means = class_means(seen, split.retain.batches(Epoch(256)), split.retain_classes)
    assert set(means.classes) == set(split.retain_classes)
