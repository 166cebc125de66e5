"""Downloads through torchvision: only when asked for, and explained when they fail."""

from pathlib import Path

import pytest

from efface.data import load
from efface.errors import InputError
from efface.running.extras import import_torchvision
from tests.data.sources.layouts import write_idx


def test_a_download_happens_only_when_asked_for_and_needed(tmp_path, digits, monkeypatch):
    datasets = import_torchvision().datasets
    calls = []

    def download(self):
        calls.append(self.root)
        write_idx(Path(self.root), digits)

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(InputError):
        load("mnist", tmp_path)
    assert calls == []
    monkeypatch.setattr(datasets.MNIST, "resources", [(f"{part}-images-idx3-ubyte.gz", "") for part in digits])
    assert len(load("mnist", tmp_path, download=True).train) == 20
    assert len(load("mnist", tmp_path, download=True).train) == 20
    assert len(calls) == 1


def test_a_failed_download_is_explained(tmp_path, monkeypatch):
    def download(self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(import_torchvision().datasets.MNIST, "download", download)
    with pytest.raises(InputError, match=r"could not be fetched into .*Check the network"):
        load("mnist", tmp_path, download=True)
