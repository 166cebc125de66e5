"""`efface doctor`: what is here, and how to get what is not."""

from __future__ import annotations

import importlib.metadata as metadata
import json

import pytest
import torch

from efface import __version__
from efface.running import installed
from tests.conftest import efface_command


@pytest.fixture
def few(monkeypatch):
    """Three requirements: one that is here, one that is too old, one that is not installed."""
    wanted = ["numpy>=1.0", "torch>=1.0", "numpy>=999; extra == 'new'", "no-such-package>=2; extra == 'none'"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)


def test_it_says_what_is_here_and_how_to_get_the_rest(few):
    answer = efface_command("doctor")
    assert answer.status == 0, answer.stderr
    for said in (__version__, torch.__version__, "cpu", "not installed", "too old, needed >=999"):
        assert said in answer.stdout
    assert "get it: pip install -U 'efface[none]'" in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert answer.stdout.rstrip().endswith("all that efface needs is here")


def test_what_efface_cannot_do_without_decides_the_status(few, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _: ["no-such-package>=2"])
    answer = efface_command("doctor", "--json")
    assert answer.status == 1
    (package,) = json.loads(answer.stdout)["packages"]
    assert (package["problem"], package["advice"]) == ("not installed", "pip install -U 'efface'")


def test_a_package_that_does_not_import_is_named(few, monkeypatch):
    def broken():
        raise ImportError("undefined symbol\nand a page more")

    monkeypatch.setitem(installed.IMPORTS, "numpy", broken)
    found = {(p.name, p.extra): p for p in installed.packages()}
    assert found["numpy", ""].problem == "installed, but cannot be imported: undefined symbol"


def test_a_package_with_an_extra_of_its_own_belongs_to_ours(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _: ["no-such-package[all]>=2; extra == 'docs'"])
    (found,) = installed.packages()
    assert (found.name, found.extra, found.wanted) == ("no-such-package", "docs", ">=2")


def test_without_metadata_it_says_why(monkeypatch):
    def lost(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", lost)
    answer = efface_command("doctor")
    assert answer.status == 2
    assert "not installed as a package" in answer.stderr
