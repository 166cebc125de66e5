"""A model of which only its answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models.head import head
from efface.models.recorded import Recorded, need_weights
from efface.models.reset import reset


def test_it_answers_what_was_recorded_in_any_order() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert torch.equal(Recorded(logits)(torch.tensor([[2], [0]])), logits[[2, 0]])


def test_what_looks_into_it_says_that_it_cannot() -> None:
    model = Recorded(torch.zeros(2, 2))
    with pytest.raises(InputError, match="only its answers are known, and looking at its features needs the model"):
        head(model, torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(InputError, match="only its answers are known"):
        reset(model, 0)
    need_weights(nn.Linear(2, 2), "nothing")
