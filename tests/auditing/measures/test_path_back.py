import pytest
import torch

from efface.auditing.measures.path_back import loss_barrier, weight_distance
from efface.errors import InputError


def test_distance_by_hand():
    first = [torch.tensor([0.0, 3.0]), torch.tensor([[1.0]])]
    second = [torch.tensor([2.0, 3.0]), torch.tensor([[2.5]])]
    assert weight_distance(first, second) == pytest.approx(2.5)
    assert weight_distance(first, first) == weight_distance([], []) == 0


def test_barrier_is_above_the_straight_line_between_the_ends():
    # Ends 1 and 3: the line passes 1.5, 2 and 2.5; the hill of 4 at a quarter stands 2.5 above it.
    assert loss_barrier(torch.tensor([1.0, 4.0, 2.0, 2.5, 3.0])) == pytest.approx(2.5)


def test_no_barrier_where_the_way_sags_or_is_straight():
    assert loss_barrier(torch.tensor([1.0, 0.5, 3.0])) == 0
    assert loss_barrier(torch.linspace(5, 1, 7)) == pytest.approx(0, abs=1e-6)


def test_refusals():
    with pytest.raises(InputError, match="differ in number or shape"):
        weight_distance([torch.zeros(2)], [torch.zeros(3)])
    with pytest.raises(InputError, match="three points"):
        loss_barrier(torch.zeros(2))
