"""Building models from specs: seeds, arguments, trust, and the check against the data."""

import socket
import sys

import pytest
import torch
from torch import nn

from efface.errors import InputError
from efface.models import BUILT_IN, ModelSpec, build, check_model, reset, resnet18, seeded


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def make(name, shape=(1, 16, 16), classes=4, **kwargs):
    arguments = kwargs.pop("arguments", {"width": 4} if name == "resnet18" else {})
    return build(ModelSpec(build=name, arguments=arguments), input_shape=shape, num_classes=classes, **kwargs)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_built_ins_take_shape_and_classes_from_the_data(name):
    assert make(name)(torch.zeros(2, 1, 16, 16)).shape == (2, 4)
    assert make(name, (3, 20, 20), 7)(torch.zeros(2, 3, 20, 20)).shape == (2, 7)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_weights_depend_on_the_seed_alone_and_the_callers_random_state_is_kept(name):
    torch.rand(3)
    before = torch.get_rng_state()
    first = state(make(name, seed=5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert equal(state(make(name, seed=5)), first)
    assert not equal(state(make(name, seed=6)), first)
    as_generator = [state(make(name, seed=torch.Generator().manual_seed(1))) for _ in range(2)]
    assert equal(*as_generator)


def test_seeded_restores_the_state_after_an_error_and_takes_a_generator_forward():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(1):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(2):
        with seeded(generator):
            draws.append(torch.rand(()).item())
    assert draws[0] != draws[1]


def test_specs_go_through_json_and_refuse_unknown_names_and_fields():
    spec = ModelSpec(build="resnet18", arguments={"width": 16}, weights="w.safetensors")
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(InputError, match="Did you mean 'resnet18'"):
        ModelSpec(build="resnet81")
    with pytest.raises(InputError, match="there is no 'width'"):
        ModelSpec(build="resnet18", width=16)


def test_unknown_and_missing_arguments_are_named():
    with pytest.raises(InputError, match=r"resnet18 has no argument 'widht'\. Did you mean 'width'"):
        make("resnet18", arguments={"widht": 4})
    with pytest.raises(InputError, match="needs the argument model_name"):
        make("timm.create_model", arguments={})


def test_torchvision_and_timm_get_the_number_of_classes_unless_it_is_given():
    assert make("torchvision.models.resnet18", (3, 32, 32), 4, arguments={}).fc.out_features == 4
    assert make("timm.create_model", (1, 32, 32), 4, arguments={"model_name": "resnet10t"}).num_classes == 4
    model = make("torchvision.models.resnet18", (3, 32, 32), 4, arguments={"num_classes": 4})
    assert model.fc.out_features == 4
    arguments = {"model_name": "resnet10t", "num_classes": 4, "in_chans": 1}
    assert make("timm.create_model", (1, 32, 32), 4, arguments=arguments).num_classes == 4
    with pytest.raises(InputError, match="the data has 4 classes"):
        make("torchvision.models.resnet18", (3, 32, 32), 4, arguments={"num_classes": 5})


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("torchvision.models.resnet81", {}, "Did you mean 'resnet18'"),
        ("torchvision.models.os.mkdir", {"path": "x"}, "has no model 'os.mkdir'"),
        ("timm.create_model", {"model_name": "resnet81"}, "timm has no model 'resnet81'"),
        ("timm.create_model", {"model_name": "hf-hub:someone/something"}, "outside its own registry"),
        ("timm.create_model", {"model_name": "resnet18", "checkpoint_path": "x.pt"}, "checkpoint_path"),
        ("torchvision.io.os.mkdir", {"path": "x"}, "trust=True"),
        ("os.mkdir", {"path": "x"}, "trust=True"),
        ("timm.models.create_model", {"model_name": "resnet18"}, "trust=True"),
    ],
)
def test_what_comes_from_a_file_cannot_reach_other_code(name, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        make(name, arguments=arguments)
    assert not (tmp_path / "x").exists()


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    """A user's module in the current folder, which leaves a mark when it is imported."""
    (tmp_path / "efface_test_zoo.py").write_text(
        "import pathlib\nfrom torch import nn\npathlib.Path('imported').touch()\nsize = 3\n"
        "def build(width):\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, width))\n"
        "def wrong():\n    return 3\n"
        "class Zoo:\n    net = staticmethod(lambda: build(4))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield tmp_path
    sys.modules.pop("efface_test_zoo", None)


def test_a_users_function_is_imported_only_when_trusted(my_package):
    with pytest.raises(InputError, match="trust=True"):
        make("efface_test_zoo:build", arguments={"width": 4})
    assert not (my_package / "imported").exists()
    for name, arguments in [("efface_test_zoo:build", {"width": 4}), ("efface_test_zoo.build", {"width": 4})]:
        assert make(name, arguments=arguments, trust=True)[1].out_features == 4
    assert make("efface_test_zoo:Zoo.net", trust=True)[1].out_features == 4


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("efface_test_zoo:biuld", {}, "Did you mean 'build'"),
        ("efface_test_zoo:size", {}, "not a function that builds a model"),
        ("efface_test_zoo:wrong", {}, "returned int"),
        ("efface_test_zoo:build", {}, "missing a required argument: 'width'"),
        ("efface_test_zoo:build", {"width": 5}, "the data has 4 classes"),
        ("efface_no_such_zoo:build", {}, "no module 'efface_no_such_zoo'"),
    ],
)
def test_mistakes_in_a_users_path_are_explained(my_package, name, arguments, words):
    with pytest.raises(InputError, match=words):
        make(name, arguments=arguments, trust=True)


def test_weights_are_loaded_and_can_be_left_to_the_caller(tmp_path):
    with seeded(9):
        source = resnet18(1, 4, 4)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    spec = ModelSpec(build="resnet18", arguments={"width": 4}, weights=tmp_path / "w.pt")
    assert equal(state(build(spec, input_shape=(1, 8, 8), num_classes=4)), state(source))
    (tmp_path / "w.pt").unlink()
    assert not equal(state(build(spec, input_shape=(1, 8, 8), num_classes=4, weights=False)), state(source))
    with pytest.raises(InputError, match="no such file"):
        build(spec, input_shape=(1, 8, 8), num_classes=4)


def test_pretrained_weights_are_not_downloaded_into_an_architecture_that_gets_its_own(monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    arguments = {"weights": "IMAGENET1K_V1", "num_classes": 1000}
    make("torchvision.models.squeezenet1_1", (3, 32, 32), 1000, arguments=arguments, weights=False)
    arguments = {"model_name": "resnet10t", "pretrained": True, "num_classes": 4}
    make("timm.create_model", (3, 32, 32), 4, arguments=arguments, weights=False)
    assert not asked


class Outputs(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.function = function

    def forward(self, x):
        return self.function(self.layer(x))


@pytest.mark.parametrize(
    ("function", "shape", "classes", "words"),
    [
        (lambda z: z, (4,), 5, r"shape \(2, 3\) for two inputs, but the data has 5 classes"),
        (lambda z: z, (6,), 3, r"cannot take inputs of shape \(2, 6\)"),
        (lambda z: z[None], (4,), 3, r"returned shape \(1, 2, 3\)"),
        (lambda z: {"logits": z}, (4,), 3, "returned dict instead of one tensor"),
    ],
)
def test_models_that_do_not_fit_the_data_are_refused(function, shape, classes, words):
    with pytest.raises(InputError, match=words):
        check_model(Outputs(function), shape, classes)


def test_check_model_names_nonfinite_weights_and_changes_nothing():
    model = resnet18(1, 4, 4)
    noisy = Outputs(lambda z: z + torch.rand(1))
    before, rng = state(model), torch.get_rng_state()
    check_model(noisy, (4,), 3)
    check_model(model, (1, 8, 8), 4)
    assert equal(state(model), before)
    assert model.training
    assert torch.equal(torch.get_rng_state(), rng)
    model.bn1.running_var[0] = float("inf")
    with pytest.raises(InputError, match=r"bn1\.running_var"):
        check_model(model, (1, 8, 8), 4)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_reset_equals_a_fresh_build_under_the_same_seed(name):
    used = make(name, seed=1)
    used.train()(torch.ones(4, 1, 16, 16))  # moves the running statistics, too
    before = state(used)
    fresh = reset(used, 7)
    assert equal(state(fresh), state(make(name, seed=7)))
    assert equal(state(used), before)


def test_reset_reaches_attention_and_keeps_frozen_parameters_frozen():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    model.linear1.weight.requires_grad_(False)
    fresh = reset(model, 0)
    assert not torch.equal(fresh.self_attn.in_proj_weight, model.self_attn.in_proj_weight)
    assert not fresh.linear1.weight.requires_grad
    assert equal(state(reset(model, 0)), state(fresh))


def test_reset_names_the_modules_that_it_cannot_reset():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

    with pytest.raises(InputError, match=r"held by 1 \(Scale\), without"):
        reset(nn.Sequential(nn.Linear(3, 3), Scale()), 0)
    weight_normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    with pytest.raises(InputError, match=r"parametrizations\.weight"):
        reset(weight_normed, 0)
