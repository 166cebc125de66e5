"""Calling a module with other tensors: wherever they are used, and nothing is left changed."""

import copy

import torch
from torch import nn

from efface.models.functional import call_with


def test_values_reach_every_place_and_the_model_stays_as_it_was():
    layer = nn.Linear(3, 3)
    tied = nn.Linear(3, 3, bias=False)
    tied.weight = layer.weight
    model = nn.Sequential(layer, nn.BatchNorm1d(3), layer, tied).eval()
    before = {name: (id(t), t.clone()) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for t in [*moved.parameters(), *(b for b in moved.buffers() if b.is_floating_point())]:
            t.mul_(2).add_(0.5)
    values = {name: t.detach() for name, t in [*moved.named_parameters(), *moved.named_buffers()]}
    x = torch.randn(4, 3)
    torch.testing.assert_close(call_with(model, values, x), moved(x))
    torch.testing.assert_close(call_with(model, {}, x), model(x))
    after = [*model.named_parameters(), *model.named_buffers()]
    assert {name: id(t) for name, t in after} == {name: i for name, (i, _) in before.items()}
    assert all(torch.equal(t, before[name][1]) for name, t in after)
    assert model[0].weight is model[2].weight is model[3].weight
