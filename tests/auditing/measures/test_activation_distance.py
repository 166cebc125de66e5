import math

import pytest
import torch

from efface.auditing.measures.activation_distance import activation_distance


def test_activation_distance_reaches_from_zero_to_root_two():
    p, q = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0]])
    assert float(activation_distance(p, p)) == 0
    assert float(activation_distance(p, q)) == pytest.approx(math.sqrt(2))
