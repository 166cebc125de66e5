from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.ensemble import Ensemble
from efface.models.head import head


class Says(nn.Module):
    """The same logits whatever it is asked."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


X = torch.zeros(2, 1)


def test_the_mean_of_probabilities_by_hand() -> None:
    a, b = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([3.0, 0.0, 0.0]).double()
    model = Ensemble([Says(0, 1, 2), Says(3, 0, 0)])
    expected = ((a.softmax(0) + b.softmax(0)) / 2).log()
    torch.testing.assert_close(model(X), expected.expand(2, 3))
    torch.testing.assert_close(model(X).exp().sum(1), torch.ones(2).double())


@pytest.mark.parametrize("vote", ["mean", "vote"])
def test_the_order_of_members_does_not_matter(vote: str) -> None:
    members = [Says(0, 1, 2), Says(3, 0, 0), Says(0, 4, 0)]
    torch.testing.assert_close(Ensemble(members, vote)(X), Ensemble(members[::-1], vote)(X))  # type: ignore[arg-type]


def test_votes_win_over_a_confident_minority_and_ties_go_to_the_mean() -> None:
    timid, sure = Says(0.1, 0, 0), Says(0, 20, 0)
    assert Ensemble([timid, timid, sure])(X).argmax(1).tolist() == [1, 1]
    assert Ensemble([timid, timid, sure], "vote")(X).argmax(1).tolist() == [0, 0]
    assert Ensemble([timid, sure], "vote")(X).argmax(1).tolist() == [1, 1]
    p = Ensemble([timid, timid, sure], "vote")(X).exp().detach()
    torch.testing.assert_close(p.sum(1), torch.ones(2).double())
    assert float(p[0, 0]) == pytest.approx(2 / 3, abs=1e-3)


def test_mean_and_vote_agree_where_all_members_do() -> None:
    members = [Says(0, 1, 2), Says(0, 0, 5)]
    assert torch.equal(Ensemble(members)(X).argmax(1), Ensemble(members, "vote")(X).argmax(1))


def test_an_absent_member_does_not_answer() -> None:
    model = Ensemble([Says(0, 1, 2), Says(9, 0, 0)])
    model.present[1] = False
    torch.testing.assert_close(model(X), Says(0, 1, 2)(X).log_softmax(1))
    again = Ensemble([Says(0, 0, 0), Says(0, 0, 0)])
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(X), model(X))


def test_an_ensemble_has_no_single_head() -> None:
    members = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2)]
    with pytest.raises(InputError, match=r"ensemble of 2 members.*not assessed"):
        head(Ensemble(members), torch.zeros(2, 4))
