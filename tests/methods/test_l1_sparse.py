"""l1-sparse unlearning: l1_sparse.md section 7, check by check."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.methods.l1_sparse import L1Sparse, prune_smallest
from efface.running.run import Run
from efface.training.loop import fit
from tests.methods.conftest import accuracy


def convolution_weights(model: nn.Module) -> Tensor:
    return torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, nn.Conv2d)])


def test_check_1_gamma_zero_is_fine_tuning_bit_for_bit(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(L1Sparse(gamma=0, epochs=2), Case(trained["cnn"], class_split, Run(seed=2, device="cpu"))).model
    run = Run(seed=2, device="cpu")
    recipe = trained["cnn"].record.recipe.but(lr=0.01, epochs=2)
    tuned = fit(run.copied(trained["cnn"].model), class_split.retain, recipe, run, stage="l1-sparse")
    assert all(torch.equal(v, made.state_dict()[k]) for k, v in tuned.state_dict().items())


def test_check_2_in_place_form_equals_autograd(trained: dict[str, Artifact], class_split: Split) -> None:
    """One epoch of the penalised loss, written out with a graph; sign(0) = 0 in both."""
    artifact = dataclasses.replace(trained["mlp"], model=Run(device="cpu").copied(trained["mlp"].model))
    with torch.no_grad():
        next(artifact.model.parameters())[0, :5] = 0
    made = apply(L1Sparse(gamma=1e-3, epochs=1), Case(artifact, class_split, Run(device="cpu"))).model
    run, recipe = Run(device="cpu"), artifact.record.recipe
    bare = run.copied(artifact.model).train()
    optimiser = torch.optim.SGD(bare.parameters(), lr=0.01, momentum=0.9, weight_decay=recipe.weight_decay)
    for x, y in class_split.retain.batches(Epoch(recipe.batch_size, generator=run.generator("l1-sparse/epoch 0"))):
        optimiser.zero_grad()
        (F.cross_entropy(bare(x), y) + 1e-3 * sum(p.abs().sum() for p in bare.parameters())).backward()
        optimiser.step()
    for a, b in zip(made.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_check_3_schedule() -> None:
    assert L1Sparse(gamma=1, epochs=10).penalties() == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    with_rest = L1Sparse(gamma=1, epochs=10, rest=2).penalties()
    assert with_rest == pytest.approx([1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0])


@pytest.mark.parametrize("proximal", [False, True])
def test_check_4_norm_falls_and_only_the_proximal_form_is_sparse(
    proximal: bool, trained: dict[str, Artifact], class_split: Split
) -> None:
    run = Run(device="cpu")
    artifact = trained["mlp"]
    apply(L1Sparse(gamma=2e-3, epochs=6, proximal=proximal), Case(artifact, class_split, run))
    norms = [float(sum(p.detach().abs().sum() for p in artifact.model.parameters()))]
    norms += [row["l1_norm"] for row in run.history.of("l1-sparse/norm")]
    assert all(a > b for a, b in itertools.pairwise(norms))
    zeros = run.history.of("l1-sparse/norm")[-1]["zero_share"]
    assert zeros > 0.01 if proximal else zeros == 0


def test_check_5_the_data_to_forget_is_never_read(
    trained: dict[str, Artifact], class_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with pruning, whatever the epoch: what is read is the retained data, all of it and nothing else."""
    read: set[int] = set()
    plain = ArraySamples.read

    def noted(self: ArraySamples, batches: Sequence[Tensor], **options: Any) -> Iterator[Tensor]:
        read.update(i for b in batches for i in b.flatten().tolist())
        return plain(self, batches, **options)

    monkeypatch.setattr(ArraySamples, "read", noted)
    apply(L1Sparse(epochs=2, prune=0.5), Case(trained["cnn"], class_split, Run(device="cpu")))
    assert read == set(class_split.retain.indices.tolist())


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("proximal", [False, True])
def test_check_6_pruned_weights_stay_zero(
    share: float, proximal: bool, trained: dict[str, Artifact], class_split: Split
) -> None:
    """The share of zeros is s to within half a weight (s n need not be whole), before and after forgetting."""
    given = trained["cnn"]
    only_pruned = apply(L1Sparse(epochs=0, prune=share), Case(given, class_split, Run(device="cpu"))).model
    before = convolution_weights(only_pruned)
    full = convolution_weights(given.model)
    zero = before == 0
    assert not (full == 0).any()
    assert abs(float(zero.double().mean()) - share) <= max(1e-6, 0.5 / len(zero))
    assert full[zero].abs().max() <= full[~zero].abs().min()
    assert torch.equal(before[~zero], full[~zero])

    settings = L1Sparse(gamma=5e-4, epochs=2, prune=share, proximal=proximal)
    after = convolution_weights(apply(settings, Case(given, class_split, Run(device="cpu"))).model)
    assert (after[zero] == 0).all()
    assert (after != before)[~zero].float().mean() > 0.9
    if not proximal:  # a soft threshold makes further zeros
        assert torch.equal(after == 0, zero)


def test_pruning_again_by_the_same_share_changes_nothing() -> None:
    weights = [torch.nn.Parameter(torch.tensor([[3.0, -1.0], [1.0, 2.0]])), torch.nn.Parameter(torch.tensor([-1.0]))]
    first = prune_smallest(weights, 0.4)  # three of magnitude 1: the first two in order go
    assert [m.tolist() for m in first] == [[[False, True], [True, False]], [False]]
    assert all(torch.equal(a, b) for a, b in zip(first, prune_smallest(weights, 0.4), strict=True))
    assert [w.tolist() for w in weights] == [[[3.0, 0.0], [0.0, 2.0]], [-1.0]]


def test_pruning_is_refused_without_convolutions_and_for_all_weights(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    with pytest.raises(InputError, match="no convolution weight"):
        apply(L1Sparse(prune=0.5), Case(trained["mlp"], class_split, Run(device="cpu")))
    for share in (-0.1, 1.0):
        with pytest.raises(InputError, match="prune"):
            make("l1-sparse", {"prune": share})


def test_check_7_the_parser_default_of_the_official_code_collapses_the_network(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    made = apply(L1Sparse(gamma=0.2), Case(trained["mlp"], class_split, Run(device="cpu"))).model
    assert accuracy(made, class_split.test_retain) < 0.2


def test_check_8_forget_accuracy_falls_with_gamma(trained: dict[str, Artifact], item_split: Split) -> None:
    """A loss of memorisation in general: items that only memory gets right go with the weights."""
    scores = []
    for gamma in (0.0, 1e-4, 5e-4, 5e-2):
        made = apply(L1Sparse(gamma=gamma, epochs=3), Case(trained["cnn"], item_split, Run(seed=1, device="cpu"))).model
        scores.append((accuracy(made, item_split.forget), accuracy(made, item_split.retain)))
    forget = [f for f, _ in scores]
    assert forget[-1] < forget[0]
    assert forget == sorted(forget, reverse=True)
    assert all(retain > 0.95 for _, retain in scores[:3])


def test_trap_3_scope_chooses_what_is_shrunk(trained: dict[str, Artifact], class_split: Split) -> None:
    model = trained["cnn"].model
    sizes = {scope: len(L1Sparse(scope=scope).shrunk(model, class_split)) for scope in ("all", "conv", "conv+head")}
    assert sizes == {"all": 8, "conv": 2, "conv+head": 3}
    with pytest.raises(InputError, match="fine-tune"):
        apply(L1Sparse(scope="conv"), Case(trained["mlp"], class_split, Run(device="cpu")))


def test_rest_must_leave_an_epoch_with_a_penalty(trained: dict[str, Artifact], class_split: Split) -> None:
    with pytest.raises(InputError, match="no epoch with a penalty"):
        apply(L1Sparse(epochs=3, rest=3), Case(trained["mlp"], class_split, Run(device="cpu")))
