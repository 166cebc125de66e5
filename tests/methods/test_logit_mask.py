"""The logit mask: baselines.md section 7, checks 3 to 5."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.methods.delete import masked_softmax
from efface.methods.logit_mask import LogitMask
from efface.models.head import penultimate
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import accuracy, logits


@pytest.fixture(params=[(0,), (3, 8)], ids=str)
def split(request: pytest.FixtureRequest, digits_data: Data) -> Split:
    return Split.of(digits_data, Request.of(classes=request.param))


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_check_3_nothing_but_the_forgotten_logit(network: str, trained: dict[str, Artifact], split: Split) -> None:
    original = trained[network].model
    masked = apply(LogitMask(), Case(trained[network], split, Run(device="cpu"))).model
    forgotten = list(split.forget_classes)
    assert accuracy(masked, split.test_forget) == 0
    assert accuracy(masked, split.test_retain) >= accuracy(original, split.test_retain)
    old, new = logits(original, split.test), logits(masked, split.test)
    changed = old.argmax(1) != new.argmax(1)
    assert torch.equal(changed, torch.isin(old.argmax(1), torch.tensor(forgotten)))
    pairs = [penultimate(m, split.test.batches(Epoch(500))).features for m in (original, masked)]
    assert torch.equal(*pairs)
    kept = F.softmax(old, 1)
    kept[:, forgotten] = 0
    torch.testing.assert_close(F.softmax(new, 1), kept / kept.sum(1, keepdim=True), atol=1e-6, rtol=0)


def test_check_4_is_the_optimum_of_delete(trained: dict[str, Artifact], split: Split) -> None:
    """KL(DELETE's target || masked model) vanishes on any batch, also of kept classes."""
    masked = apply(LogitMask(), Case(trained["mlp"], split, Run(device="cpu"))).model
    for part in (split.forget, split.retain):
        mask = torch.zeros(len(part), 10, dtype=torch.bool)
        mask[:, list(split.forget_classes)] = True
        q = masked_softmax(logits(trained["mlp"].model, part), mask)
        kl = F.kl_div(F.log_softmax(logits(masked, part), 1), q, reduction="none").sum(1)
        assert kl.abs().max() < 1e-6


def test_check_5_a_head_learned_anew_finds_everything(trained: dict[str, Artifact], class_split: Split) -> None:
    """Nearest class mean in feature space: equal for original and masked to the digit."""
    masked = apply(LogitMask(), Case(trained["cnn"], class_split, Run(device="cpu"))).model

    def recall(model: nn.Module) -> float:
        known = penultimate(model, class_split.train.batches(Epoch(500)))
        means = torch.stack([known.features[known.labels == c].mean(0) for c in range(10)])
        asked = penultimate(model, class_split.test_forget.batches(Epoch(500)))
        return float((torch.cdist(asked.features, means).argmin(1) == asked.labels).float().mean())

    assert recall(masked) == recall(trained["cnn"].model) > 0.9


def test_a_head_without_bias_is_refused_before_work(trained: dict[str, Artifact], class_split: Split) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with pytest.raises(InputError, match="bias"):
        apply(LogitMask(), Case(dataclasses.replace(trained["mlp"], model=model), class_split, Run(device="cpu")))


def test_a_network_without_a_linear_head_is_refused(trained: dict[str, Artifact], class_split: Split) -> None:
    model = nn.Sequential(copy.deepcopy(trained["mlp"].model), nn.LogSoftmax(1))
    with pytest.raises(InputError, match="log-softmax"):
        apply(LogitMask(), Case(dataclasses.replace(trained["mlp"], model=model), class_split, Run(device="cpu")))


def test_the_value_is_negative_and_finite() -> None:
    for value in (0.0, float("-inf")):
        with pytest.raises(InputError, match="value"):
            make("logit-mask", {"value": value})
