"""Fresh weights for networks of libraries, whose modules own parameters without a way to draw them."""

from __future__ import annotations

import copy

import pytest
import torch

from efface.errors import InputError
from efface.models.reset import reset
from efface.models.spec import ModelSpec, build


def test_a_network_built_from_a_spec_is_built_again_where_its_parts_cannot_be_reset() -> None:
    spec = ModelSpec(build="timm.create_model", arguments={"model_name": "test_vit", "img_size": 32})
    model = copy.deepcopy(build(spec, input_shape=(3, 32, 32), num_classes=3, seed=0))
    model.train()
    model.patch_embed.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fresh, again, other = reset(model, 5), reset(model, 5), reset(model, 6)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not torch.equal(fresh.pos_embed, model.pos_embed)
    assert torch.equal(fresh.pos_embed, again.pos_embed)
    assert not torch.equal(fresh.head.weight, other.head.weight)
    assert fresh.training
    assert [p.requires_grad for p in fresh.parameters()] == [p.requires_grad for p in model.parameters()]
    model.head = torch.nn.Sequential(model.head)  # a method left other parts
    with pytest.raises(InputError, match="cannot be given fresh weights"):
        reset(model, 5)
