"""What ablation costs: multiplications counted by hand, and told while it goes on."""

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.importance import ablation_importance, ablation_operations, seconds_of_ablation, unit_list
from tests.cases import NAMES, case


def test_multiplications_are_those_of_what_comes_after_each_layer():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Flatten(), nn.Linear(96, 10)
    ).eval()
    x = torch.randn(5, 3, 4, 4)
    depthwise, head = 6 * 9 * 16, 96 * 10
    counted = ablation_operations(model, x, unit_list(model))
    assert counted == {"0": 6 * (depthwise + head), "1": 6 * head, "3": 0.0}
    assert ablation_operations(model, x, unit_list(model)[:2]) == {"0": 2 * (depthwise + head)}
    assert seconds_of_ablation(model, x, unit_list(model), 1000) == 1000 * sum(counted.values()) / 2e10
    with pytest.raises(InputError, match="train mode"):
        ablation_operations(model.train(), x, unit_list(model))


@pytest.mark.parametrize("name", NAMES)
def test_all_work_is_told_and_no_more(name):
    c = case(name)
    told = []
    found = ablation_importance(c.model, c.x, c.y, chunk=3, done=told.append)
    assert sum(told) == pytest.approx(len(c.x))
    assert len(told) == -(-len(c.x) // 3) * len({unit.layer for unit in found.units})
    assert min(told) > 0
