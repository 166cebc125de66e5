"""Models as people have them: wrapped, of other precision, with objects or one logit as outputs."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.errors import InputError
from efface.models.adapt import adapted
from efface.models.checkpoints import diverged


def network(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


X = torch.randn(5, 4)


def test_a_plain_model_is_handed_on_as_it_is() -> None:
    model = network()
    assert adapted(model, (4,), 3) == (model, ())


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: torch.compile(nn.DataParallel(m))])
def test_wrappers_are_taken_off(wrap: Any) -> None:
    model = network()
    inner, notes = adapted(wrap(model), (4,), 3)
    assert inner is model
    assert "wrapper" in notes[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_are_cast_in_a_copy(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    cast, notes = adapted(model, (4,), 3)
    assert notes == (f"weights of type {dtype} were cast to float32",)
    assert next(model.parameters()).dtype == dtype
    torch.testing.assert_close(cast(X), copy.deepcopy(model).float()(X), rtol=0, atol=0)


class Output(nn.Module):
    """A model whose outputs are objects with logits, as Hugging Face's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(loss=None, logits=self.inner(x))


def test_logits_are_taken_from_objects_under_the_users_names() -> None:
    model = Output(network())
    taken, notes = adapted(model, (4,), 3)
    assert torch.equal(taken(X), model.inner(X))
    assert torch.equal(copy.deepcopy(taken)(X), model.inner(X))
    assert not isinstance(model(X), Tensor), "the user's model stays as it was"
    assert list(taken.state_dict()) == list(model.state_dict())
    assert "logits are taken" in notes[0]


@pytest.mark.parametrize("flat", [True, False])
def test_one_output_for_two_classes_is_binary_cross_entropy(flat: bool) -> None:
    model = nn.Sequential(network(1), nn.Flatten(0)) if flat else network(1)
    two, notes = adapted(model, (4,), 2)
    z = model(X).reshape(-1)
    y = torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(two(X).softmax(1)[:, 1], z.sigmoid())
    torch.testing.assert_close(F.cross_entropy(two(X), y), F.binary_cross_entropy_with_logits(z, y.float()))
    assert list(two.state_dict()) == list(model.state_dict())
    assert "(0, z)" in notes[0]
    both, _ = adapted(Output(network(1)), (4,), 2)
    torch.testing.assert_close(both(X)[:, 1], network(1)(X)[:, 0])


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, X), lambda m: nn.Sequential(torch.jit.script(m))]
)
def test_scripted_and_traced_models_are_refused(script: Any) -> None:
    with pytest.raises(InputError, match=r"scripted or traced.*Give the Python module"):
        adapted(script(network()), (4,), 3)


def test_lazy_layers_without_weights_are_refused_by_name() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 3))
    with pytest.raises(InputError, match=r"lazy layers that hold no weights yet: 0.weight, 0.bias.*Run one batch"):
        adapted(model, (4,), 3)
    model(X)
    assert adapted(model, (4,), 3)[0] is model


class Masked(nn.Module):
    """A layer with an attention mask of minus infinity in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x[:, None] * self.mask.softmax(-1)).sum(2))


def test_infinite_masks_are_no_divergence_and_infinite_weights_and_statistics_are() -> None:
    assert adapted(Masked(), (4,), 3)[1] == ()
    broken = Masked()
    broken.head.weight.data[0, 0] = float("inf")
    assert diverged(broken) == ["head.weight"]
    undefined = Masked()
    undefined.mask[0, 0] = float("nan")
    assert diverged(undefined) == ["mask"]
    norm = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    norm[1].running_var[0] = float("inf")
    assert diverged(norm) == ["1.running_var"]
    alone = nn.BatchNorm1d(3)
    alone.running_mean[0] = float("inf")
    assert diverged(alone) == ["running_mean"]


class Drawing(nn.Module):
    """A model that adds noise in every forward pass, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + torch.randn_like(x))


def test_checking_a_model_that_draws_leaves_the_callers_random_numbers() -> None:
    model = Drawing()
    state = torch.get_rng_state()
    adapted(model, (4,), 3)
    assert torch.equal(state, torch.get_rng_state())


class Padded(nn.Module):
    """A text model as Hugging Face's: a configuration with a padding token, and an attention mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(pad_token_id=0)
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mean = (self.embed(input_ids) * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return SimpleNamespace(logits=self.head(mean))


def test_padding_is_masked_once_and_again_after_a_copy() -> None:
    model = Padded()
    ids = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 8], [0, 0, 0, 0]])
    adapted_once, notes = adapted(model, (4,), 3, torch.int64)
    assert "the attention mask leaves out token 0, the padding" in notes
    out = adapted_once(ids)
    torch.testing.assert_close(out[:1], model(ids[:1, :2]).logits)
    torch.testing.assert_close(out[1:], model(ids[1:]).logits)
    assert torch.isfinite(out).all()
    again, more = adapted(copy.deepcopy(adapted_once), (4,), 3, torch.int64)
    assert more == ()
    assert torch.equal(again(ids), out)
