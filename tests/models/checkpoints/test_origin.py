"""Weights go back as they came: format, entry of the checkpoint, names, and what a library needs beside them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from efface.errors import InputError
from efface.models.checkpoints import as_it_came, load_checkpoint, write_back


def network(seed: int = 0, outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, outputs))


BESIDE: dict[str, Any] = {"epoch": 7, "arch": "mine", "hyper_parameters": {"lr": 0.1, "layers": [1, 2]}}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "net.", "model._orig_mod."])
@pytest.mark.parametrize("nest", ["", "state_dict", "net"])
def test_new_weights_have_the_names_the_old_ones_came_with(suffix: str, prefix: str, nest: str, tmp_path: Path) -> None:
    old, new = network(0), network(1)
    state = {prefix + k: v for k, v in old.state_dict().items()}
    file = tmp_path / f"old{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, file)
        nest = ""
    else:
        optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}}
        torch.save({**BESIDE, "optimizer": optimiser, nest: state} if nest else state, file)
    model = network(2)
    origin, _ = load_checkpoint(model, file)
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in model.state_dict().items())
    assert (origin.name, origin.nest, origin.prefix) == (file.name, nest, prefix)
    written = write_back(new.state_dict(), tmp_path / f"new{suffix}", origin)
    if suffix == ".safetensors":
        found = safetensors.torch.load_file(written)
    else:
        found = torch.load(written, weights_only=True)
        if nest:
            assert found.keys() == {*BESIDE, nest}  # no optimiser's state: it holds what the data taught
            assert {k: found[k] for k in BESIDE} == BESIDE
            found = found[nest]
    assert found.keys() == state.keys()
    assert all(torch.equal(v, new.state_dict()[k.removeprefix(prefix)]) for k, v in found.items())


def test_what_stands_beside_a_network_in_a_module_of_lightnings_is_left_out_and_said(tmp_path: Path) -> None:
    state = {f"model.{k}": v for k, v in network().state_dict().items()} | {"loss.weight": torch.ones(3)}
    torch.save({"state_dict": state, "callbacks": {"a": 1}}, tmp_path / "last.ckpt")
    _, notes = load_checkpoint(network(1), tmp_path / "last.ckpt")
    assert any("left out: loss.weight" in n for n in notes)
    assert any("callbacks" in n and "not written back" in n for n in notes)
    del state["model.0.bias"]
    torch.save(state, tmp_path / "broken.ckpt")
    with pytest.raises(InputError, match=r"missing: 0\.bias; unexpected: loss\.weight\."):
        load_checkpoint(network(1), tmp_path / "broken.ckpt")


@pytest.mark.parametrize("stored", ["float32", "float64", "bfloat16", "float16"])
def test_the_type_comes_back_where_nothing_is_lost_or_rounding_is_asked_for(stored: str, tmp_path: Path) -> None:
    kind = getattr(torch, stored)
    old = {k: v.to(kind) if v.is_floating_point() else v for k, v in network().state_dict().items()}
    torch.save(old, tmp_path / "w.pth")
    model = network(1)
    origin, _ = load_checkpoint(model, tmp_path / "w.pth")
    came, state = origin.dtype, model.state_dict()
    assert came == ("" if stored == "float32" else stored)
    exact, rounded = as_it_came(state, came), as_it_came(state, came, rounded=True)
    assert all(torch.equal(v.double(), state[k].double()) for k, v in exact.items())
    assert exact["0.weight"].dtype == (kind if stored == "float64" else torch.float32)
    assert {k: v.dtype for k, v in rounded.items()} == {k: v.dtype for k, v in old.items()}  # counters are integers
    assert all(torch.equal(v, old[k]) for k, v in rounded.items())


def test_of_several_types_none_comes_back(tmp_path: Path) -> None:
    torch.save(network().state_dict() | {"0.bias": torch.zeros(8).bfloat16()}, tmp_path / "w.pth")
    assert load_checkpoint(network(1), tmp_path / "w.pth")[0].dtype == ""
    state = network().state_dict()
    assert as_it_came(state, "bfloat16, float32", rounded=True).keys() == state.keys()
    assert as_it_came(state, "bfloat16, float32", rounded=True)["0.weight"].dtype == torch.float32


def test_arguments_kept_as_a_namespace_are_no_obstacle(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": network().state_dict()}, tmp_path / "w.pth")
    origin, notes = load_checkpoint(network(1), tmp_path / "w.pth")
    assert origin.beside == {}
    assert any("args" in n for n in notes)


def test_a_head_of_another_width_is_told_from_another_network(tmp_path: Path) -> None:
    torch.save(network(outputs=10).state_dict(), tmp_path / "ten.pth")
    with pytest.raises(InputError, match="trained for 10 outputs, the network is built for 3"):
        load_checkpoint(network(), tmp_path / "ten.pth")
    torch.save({**network().state_dict(), "0.weight": torch.zeros(9, 4)}, tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"of another shape: 0\.weight \(9, 4\)") as caught:
        load_checkpoint(network(), tmp_path / "wide.pth")
    assert "last layer" not in str(caught.value)


def test_values_of_another_kind_are_named(tmp_path: Path) -> None:
    torch.save(network().state_dict() | {"0.bias": torch.zeros(8, dtype=torch.int64)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"of another type: 0\.bias torch\.int64 instead of torch\.float32"):
        load_checkpoint(network(), tmp_path / "w.pth")


def test_existing_files_stay_and_suffixes_say_the_format(tmp_path: Path) -> None:
    state = network().state_dict()
    (tmp_path / "w.pt").write_text("mine")
    with pytest.raises(InputError, match="overwrit"):
        write_back(state, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_text() == "mine"
    write_back(state, tmp_path / "w.pt", overwrite=True)
    with pytest.raises(InputError, match=r"'\.h5' says no format; allowed: \.safetensors"):
        write_back(state, tmp_path / "w.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pt"]
