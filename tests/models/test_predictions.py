import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models.predictions import accuracy_of, features_of, logits_of


def test_logits_equal_one_forward_pass_in_eval_mode(world):
    part = world.split.test_forget
    x, _ = part.tensors()
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.Linear(64, 10))
    model[1].train()
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = logits_of(model, part, batch_size=7), logits_of(model, part)
    # An attack in train mode would draw other dropout masks each time and move the running statistics.
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, model.eval()(x).detach())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_each_modules_own_mode_is_put_back(world):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    model.train()
    model[1].eval()
    logits_of(model, world.split.test_forget)
    assert [m.training for m in model] == [True, False, True]


def test_half_precision_answers_come_out_in_float32(world):
    class Half(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10].bfloat16()

    assert logits_of(Half(), world.split.test_forget).dtype == torch.float32


def test_features_are_what_enters_the_layer(world):
    model, part = world.models["original"], world.split.test_forget
    x, _ = part.tensors()
    torch.testing.assert_close(features_of(model, part, "3", batch_size=9), model[:3](x).detach())
    assert not model[3]._forward_pre_hooks
    with pytest.raises(InputError, match="no layer 'head'"):
        features_of(model, part, "head")


def test_a_model_that_returns_a_pair_is_refused(world):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(InputError, match="returned tuple"):
        logits_of(Pair(), world.split.test_forget)


def test_accuracy_is_the_share_of_records_whose_largest_logit_is_the_labels(world):
    model, part = world.models["original"], world.split.test_forget
    x, y = part.tensors()
    right = sum(int(model(x[i : i + 1]).argmax()) == int(y[i]) for i in range(len(y)))
    assert accuracy_of(model, part, batch_size=7) == right / len(y)
    with pytest.raises(InputError, match="part is empty; it has no accuracy"):
        accuracy_of(model, part.take([]))
