"""Loading weights: what is accepted, and how everything else is refused without a change to the model."""

import os
import pickle
import random

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from efface.errors import InputError
from efface.models import load_weights, mlp, resnet18, seeded


def model_of(seed):
    with seeded(seed):
        return resnet18(in_channels=1, width=2)


def same(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.fixture
def source():
    return model_of(1)


@pytest.fixture
def target():
    return model_of(2)


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.folder,)

    def __init__(self, folder):
        self.folder = str(folder)


def test_safetensors_and_state_dicts_are_read(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "w.pt")
    torch.save(source.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pt", "old.pt", "w.safetensors"):
        target = model_of(2)
        assert not same(source, target)
        assert load_weights(target, tmp_path / name) == ()
        assert same(source, target)


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_nesting_and_prefixes_are_handled_and_stated(source, target, tmp_path, nest, prefix):
    state = {prefix + name: value for name, value in source.state_dict().items()}
    torch.save({"epoch": 3, nest: state}, tmp_path / "w.pt")
    notes = load_weights(target, tmp_path / "w.pt")
    assert same(source, target)
    assert repr(nest) in notes[0]
    assert len(notes) == 1 + prefix.count(".")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_another_type_is_cast_and_stated(source, target, tmp_path, dtype):
    """The file that `export` writes later has the model's type, and another size."""
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    assert load_weights(target, tmp_path / "w.pt") == (f"weights of type {dtype} were cast to torch.float32.",)
    assert all(torch.equal(v, state[k].to(v.dtype)) for k, v in target.state_dict().items())


def test_a_prefix_that_is_the_models_own_stays(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    source = Wrapped()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    target = Wrapped()
    assert load_weights(target, tmp_path / "w.pt") == ()
    assert same(source, target)


def test_absent_batch_counters_are_stated_and_other_absences_are_errors(source, target, tmp_path):
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "w.pt")
    assert "20 counters" in load_weights(target, tmp_path / "w.pt")[0]
    assert same(source, target)
    del state["bn1.running_mean"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"missing: bn1\.running_mean\."):
        load_weights(target, tmp_path / "w.pt")


def test_a_tied_weight_may_be_stored_once(tmp_path):
    def tied():
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    source, target = tied(), tied()
    safetensors.torch.save_model(source, str(tmp_path / "w.safetensors"))
    load_weights(target, tmp_path / "w.safetensors")
    assert same(source, target)


def assert_refused(target, path, match):
    """The file is refused with these words, and the model stays as it was."""
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(InputError, match=match):
        load_weights(target, path)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_misfits_are_named_all_at_once(source, target, tmp_path):
    state = source.state_dict()
    del state["fc.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(2, 3, 3, 3)
    torch.save(state, tmp_path / "w.pt")
    shapes = r"conv1\.weight \(2, 3, 3, 3\) instead of \(2, 1, 3, 3\)"
    assert_refused(
        target, tmp_path / "w.pt", rf"missing: fc\.bias; unexpected: extra\.weight; of another shape: {shapes}"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_weights_are_named(source, target, tmp_path, value):
    state = source.state_dict()
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    assert_refused(target, tmp_path / "w.safetensors", r"layer2\.0\.conv1\.weight hold NaN or infinite")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(target, tmp_path, protocol):
    path = tmp_path / "w.pt"
    path.write_bytes(pickle.dumps({"fc.bias": Evil(tmp_path / "ran")}, protocol))
    assert_refused(target, path, "refused, because this file is a pickle")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_by_the_name_of_what_it_calls(target, tmp_path, zipped):
    path = tmp_path / "w.pt"
    torch.save({"fc.bias": Evil(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    assert_refused(target, path, rf"wants to call {os.mkdir.__module__}\.mkdir")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused_with_what_to_save_instead(source, target, tmp_path):
    torch.save(source, tmp_path / "w.pt")
    assert_refused(
        target, tmp_path / "w.pt", r"Whole models .* Save the weights with torch\.save\(model\.state_dict\(\)"
    )


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_traced_model_is_refused_as_one(target, tmp_path):
    torch.jit.save(torch.jit.trace_module(nn.Linear(2, 2), {"forward": torch.zeros(1, 2)}), tmp_path / "w.pt")
    assert_refused(target, tmp_path / "w.pt", r"a scripted or traced model .* Save the weights with torch\.save")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(source, target, tmp_path, name, fraction):
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(source.state_dict(), path)
    else:
        safetensors.torch.save_file(source.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    assert_refused(target, path, "truncated, or no")


def test_altered_files_never_raise_anything_but_input_errors(source, tmp_path):
    draw = random.Random(0)
    torch.save(source.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "w.pt").read_bytes()
    refused = 0
    for _ in range(100):
        altered = bytearray(whole)
        for _ in range(3):
            altered[draw.randrange(3000)] = draw.randrange(256)
        (tmp_path / "w.pt").write_bytes(altered)
        try:
            load_weights(model_of(2), tmp_path / "w.pt")
        except InputError:
            refused += 1
    assert refused > 50


def test_foreign_files_are_refused(target, tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    (tmp_path / "text.pt").write_text("hello\n" * 50)
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    torch.save({}, tmp_path / "empty.pt")
    torch.save({"fc.bias": torch.zeros(10), "epoch": 3}, tmp_path / "mixed.pt")
    assert_refused(target, tmp_path / "w.npz", "no PyTorch checkpoint")
    assert_refused(target, tmp_path / "text.pt", "no PyTorch checkpoint")
    assert_refused(target, tmp_path / "list.pt", "holds a list, not a state dict")
    assert_refused(target, tmp_path / "empty.pt", "no entries")
    assert_refused(target, tmp_path / "mixed.pt", "epoch are something else")
    assert_refused(target, tmp_path / "absent.pt", "no such file")


def test_many_misfits_are_counted_rather_than_listed(target, tmp_path):
    torch.save(mlp().state_dict(), tmp_path / "w.pt")
    assert_refused(
        target,
        tmp_path / "w.pt",
        r"missing: .* and \d+ more; unexpected: fc1\.weight, fc1\.bias, fc2\.weight, fc2\.bias",
    )
