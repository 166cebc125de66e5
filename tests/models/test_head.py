"""Finding the head, and the features that enter it."""

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models import all_cnn, features, head, lenet5, mlp, penultimate, resnet18
from efface.models.head import head_of, zero_inputs
from efface.running.extras import import_timm, import_torchvision


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Sequence(nn.Module):
    """Calls layers in an order that is not the order of registration, with something after the head."""

    def __init__(self, after):
        super().__init__()
        self.last = nn.Linear(5, 3)
        self.first = nn.Linear(4, 5)
        self.unused = nn.Linear(5, 3)
        self.after = after

    def forward(self, x):
        return self.after(self.last(torch.relu(self.first(x))))


@pytest.mark.parametrize(
    ("model", "shape", "name"),
    [
        (mlp(), (1, 28, 28), "fc2"),
        (lenet5(), (1, 28, 28), "fc3"),
        (resnet18(width=4), (3, 16, 16), "fc"),
        (all_cnn(), (3, 16, 16), "fc"),
    ],
)
def test_built_in_models_end_in_their_last_linear_layer(model, shape, name):
    found, layer = head(model, numbers(2, *shape))
    assert found == name
    assert layer is model.get_submodule(name)


def test_heads_of_other_peoples_models():
    models = import_torchvision().models
    x = numbers(2, 3, 32, 32)
    assert head(models.mobilenet_v3_small(num_classes=4), x)[0] == "classifier.3"
    assert head(models.vgg11(num_classes=4), x)[0] == "classifier.6"
    vit = models.VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=4)
    assert head(vit, x)[0] == "heads.head"
    assert head(import_timm().create_model("resnet10t", num_classes=4), x)[0] == "fc"


@pytest.mark.parametrize(
    "after",
    [lambda z: z, lambda z: z.unsqueeze(1).squeeze(1), lambda z: z[:, :, None].flatten(1), lambda z: z.bfloat16()],
    ids=["nothing", "squeeze", "flatten", "bfloat16"],
)
def test_what_does_not_change_the_numbers_may_follow(after):
    assert head(Sequence(after), numbers(6, 4))[0] == "last"


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda z: z.log_softmax(1), "log-softmax follows the last one, 'last'"),
        (lambda z: z.softmax(1), "a softmax follows the last one, 'last'"),
        (lambda z: z.relu_().mul_(2), "not the output of any"),
        (lambda z: z.T.contiguous(), "not the output of any"),
        (lambda z: (z, z), "one tensor of logits"),
    ],
)
def test_anything_else_after_it_is_an_error_that_says_what(after, words):
    with pytest.raises(InputError, match=words):
        head(Sequence(after), numbers(6, 4))


def test_a_convolutional_head_is_an_error():
    with pytest.raises(InputError, match="do not come from a linear layer"):
        head(nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), numbers(2, 1, 4, 4))


def test_features_times_the_head_are_the_logits():
    model = resnet18(width=4).eval()
    x = numbers(5, 3, 16, 16)
    entered = features(model, x)
    assert entered.shape == (5, 32)
    torch.testing.assert_close(model.fc(entered), model(x), rtol=0, atol=0)
    torch.testing.assert_close(features(model, x, "fc"), entered, rtol=0, atol=0)


def test_features_are_differentiable():
    model = mlp((4,), 3, hidden=(5,))
    features(model, numbers(2, 4)).sum().backward()
    assert model.fc1.weight.grad.abs().sum() > 0
    assert model.fc2.weight.grad is None


def test_an_unknown_layer_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'fc2'"):
        features(mlp((4,), 3), numbers(2, 4), "fc3")


def test_finding_the_head_leaves_modes_hooks_and_statistics_alone():
    model = resnet18(width=4)
    model.bn1.eval()  # frozen by the user
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    head(model, numbers(2, 3, 8, 8))
    penultimate(model, [(numbers(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_modes_and_hooks_are_restored_after_an_error():
    model = mlp((4,), 3)
    with pytest.raises(RuntimeError):
        head(model, numbers(2, 5))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_penultimate_concatenates_eval_mode_batches_in_order():
    model = resnet18(width=4)
    x, y = numbers(7, 3, 8, 8), torch.arange(7)
    result = penultimate(model, [(x[:3], y[:3]), (x[3:], y[3:])])
    assert torch.equal(result.labels, y)
    assert not result.features.requires_grad
    model.eval()
    # Batches of other sizes may be summed in another order: rounding only.
    torch.testing.assert_close(result.logits, model(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.fc(result.features), result.logits, rtol=1e-5, atol=1e-5)


def test_penultimate_of_nothing_is_an_error():
    with pytest.raises(InputError, match="at least one batch"):
        penultimate(mlp(), [])


def test_the_head_of_a_model_for_token_ids_is_found_with_token_ids():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 3))
    assert head_of(model, (3,)) == ("2", model[2])
    assert zero_inputs(model, (3,)).dtype == torch.int64
    assert zero_inputs(nn.Linear(3, 2), (3,)).dtype == torch.float32
    with pytest.raises(InputError, match=r"takes no inputs of shape \(4,\)"):
        head_of(model, (4,))
