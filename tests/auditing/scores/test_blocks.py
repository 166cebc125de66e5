import pytest
import torch
from torch import nn

from efface.auditing.scores.blocks import block_features, block_names
from efface.data import load
from efface.data.part import Part
from efface.errors import InputError


class Wrapped(nn.Module):
    def __init__(self, inside, twice=False):
        super().__init__()
        self.inside, self.twice = inside, twice

    def forward(self, x):
        return self.inside(self.inside(x)) if self.twice else self.inside(x)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.idle = nn.Linear(64, 5), nn.Linear(5, 10), nn.Linear(3, 3)

    def forward(self, x):
        return self.b(self.a(x.flatten(1)).relu())


def _convolutional():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()


def _part(n=150):
    data = load("digits")
    return Part("some", data.train, torch.arange(n).numpy())


def test_containers_and_wrappers_are_opened_and_light_layers_are_no_blocks():
    assert block_names(_convolutional()) == ["0.0", "1.0", "3"]
    assert block_names(Wrapped(_convolutional())) == ["inside.0.0", "inside.1.0", "inside.3"]


def test_features_are_what_enters_every_block_but_the_first():
    model, part = _convolutional(), _part()
    found = block_features(model, part)
    x, _ = part.tensors()
    with torch.no_grad():
        first = model[0](x)
        pooled = first.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))  # 8 x 8 down to 4 x 4
        second = model[1](first).flatten(1)
    assert list(found) == ["1.0", "3"]
    torch.testing.assert_close(found["1.0"], pooled.flatten(1))
    torch.testing.assert_close(found["3"], second)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "found 1"),
        (Unused(), r"of this Unused cannot be probed: a, b, idle should each be called once for .*; called were a, b$"),
        (Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64)), twice=True), "called once"),
    ],
)
def test_a_model_whose_blocks_cannot_be_found_says_so(model, words):
    with pytest.raises(InputError, match=words):
        block_features(model, _part(4))


class Sequences(nn.Module):
    """Four tokens of sixteen numbers, embedded to three, and a head on their mean; what the head is handed can vary."""

    def __init__(self, handed=lambda z: z):
        super().__init__()
        self.embed, self.head, self.handed = nn.Linear(16, 3), nn.Linear(3, 10), handed

    def forward(self, x):
        return self.head(self.handed(self.embed(x.reshape(len(x), 4, 16)))).reshape(len(x), -1)


def test_sequences_are_averaged_over_their_length():
    model, part = Sequences(), _part(5)
    x, _ = part.tensors()
    with torch.no_grad():
        expected = model.embed(x.reshape(5, 4, 16)).mean(1)
    found = block_features(model, part)
    assert list(found) == ["head"]
    torch.testing.assert_close(found["head"], expected)


def test_maps_are_averaged_only_where_they_are_larger_than_four_by_four():
    for side, kept in ((4, 4), (5, 4)):
        model = nn.Sequential(nn.Conv2d(1, 1, 8 - side + 1), nn.Conv2d(1, 1, side), nn.Flatten())
        x, _ = _part(3).tensors()
        with torch.no_grad():
            entered = model[0](x)
        assert entered.shape[2:] == (side, side)
        expected = nn.functional.adaptive_avg_pool2d(entered, kept).flatten(1)
        torch.testing.assert_close(block_features(model, _part(3))["1"], expected)


def test_a_block_that_is_handed_no_tensor_of_the_records_says_so():
    model = Sequences(lambda z: z.reshape(-1, 3))
    with pytest.raises(InputError, match=r"a block was handed a tensor of shape \(20, 3\) for 5 records"):
        block_features(model, _part(5))
