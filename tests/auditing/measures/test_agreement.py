import pytest
import torch

from efface.auditing.measures.agreement import agreement
from efface.errors import InputError


def test_agreement_counts_equal_answers():
    assert agreement(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist() == [1, 0]


def test_answers_are_compared_record_by_record():
    """Of three classes and four records: no answer of one record is taken for another's, or for all of them."""
    first = torch.tensor([[1.0, 0, 0], [0, 9, 0], [0, 0, 1], [1, 0, 0]])
    second = torch.tensor([[0.0, 0, 1], [0, 1, 0], [0, 1, 0], [5, 0, 0]])
    assert agreement(first, second).tolist() == agreement(second, first).tolist() == [False, True, False, True]
    assert agreement(first, first).all()
    for other in (second[:3], second[:, :2], second[0]):
        with pytest.raises(InputError, match=r"compared on the same examples and classes: got \(4, 3\) and \("):
            agreement(first, other)
