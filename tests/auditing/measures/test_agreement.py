import torch

from efface.auditing.measures.agreement import agreement


def test_agreement_counts_equal_answers():
    assert agreement(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist() == [1, 0]
