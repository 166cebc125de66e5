"""An ensemble as one module: its members' answers put together, as log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Ensemble", "Vote"]

Vote = Literal["mean", "vote"]
"""The mean of the members' probabilities; or the share of members whose largest logit it is, ties by that mean."""

TIE = 1e-3
"""Weight of the mean beside the votes: less than one vote of a thousand members."""


class Ensemble(nn.Module):
    """Members trained apart on data of their own; logits are the logarithms of the ensemble's probabilities.

    log p(x) = log mean_k softmax(f_k(x)) over the members that are present; by `vote`, p = (v + ε p_mean) / (1 + ε)
    with v the shares of votes and ε = 1/1000, so that ties go to the larger mean.

    Args:
        members: From inputs to logits, one architecture; held, not copied.
        vote: How answers are put together.

    Attributes:
        members: The members.
        present: Which of them answer (S,), bool; a member whose data is all gone does not.
    """

    present: Tensor

    def __init__(self, members: Sequence[nn.Module], vote: Vote = "mean") -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.vote = vote
        self.register_buffer("present", torch.ones(len(members), dtype=torch.bool))

    def answering(self) -> list[nn.Module]:
        """Return the members that are present."""
        return [m for m, here in zip(self.members, self.present.tolist(), strict=True) if here]

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities (N, K)."""
        logits = [member(x) for member in self.answering()]
        mean = torch.stack([z.log_softmax(1) for z in logits]).logsumexp(0) - math.log(len(logits))
        if self.vote == "mean":
            return mean
        classes = mean.shape[1]
        votes = torch.stack([F.one_hot(z.argmax(1), classes) for z in logits]).to(mean.dtype).mean(0)
        return torch.logaddexp(votes.log(), mean + math.log(TIE)) - math.log1p(TIE)
