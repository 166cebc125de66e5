"""Whether a model fits the data, and what is said where it cannot be known."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models.check import check_model


def test_outputs_that_sum_to_one_are_doubted_and_logits_are_not():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.warns(UserWarning, match="returned probabilities: rows of numbers from 0 to 1 that sum to one"):
        check_model(nn.Sequential(network, nn.Softmax(1)), (4,), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_model(network, (4,), 3)
        check_model(nn.Sequential(network, nn.LogSoftmax(1)), (4,), 3)
        check_model(nn.Sequential(network, nn.Sigmoid()), (4,), 3)


class Text(nn.Module):
    """Mean of embeddings, then a linear layer."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.embed(ids).mean(1))


def test_token_ids_are_asked_with_integers():
    check_model(Text(), (5,), 3, torch.int64)
    check_model(Text(), (5,), 3)  # the type of the data is not known here
    with pytest.raises(InputError, match=r"cannot take inputs of shape \(2, 5\)"):
        check_model(Text(), (5,), 3, torch.float32)
    with pytest.raises(InputError, match=r"cannot take token ids \(int64\) of shape \(2, 5\)"):
        check_model(nn.Linear(5, 3), (5,), 3, torch.int64)
