"""What is installed here."""

from __future__ import annotations

import importlib.metadata as metadata

import pytest

from efface.running import installed
from efface.running.installed import devices, packages


@pytest.mark.parametrize(
    ("installed", "wanted", "fits"),
    [("2.6.0", "2.6", True), ("2.13.0+cpu", "2.6", True), ("2.5.9", "2.6", False), ("10", "9.9", True)],
)
def test_versions_are_compared_as_numbers(installed, wanted, fits, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _: installed)
    monkeypatch.setattr(metadata, "requires", lambda _: [f"some-thing>={wanted}"])
    (package,) = packages()
    assert bool(package.problem) != fits


def test_extras_are_read_from_the_metadata_and_developers_own_left_out(monkeypatch):
    named = ["a>=1", "b>=2; extra == 'x'", 'c; extra == "y"', "d; extra == 'dev'", "efface[x]; extra == 'y'"]
    monkeypatch.setattr(metadata, "requires", lambda _: named)
    assert [(p.name, p.extra, p.wanted) for p in packages()] == [("a", "", ">=1"), ("b", "x", ">=2"), ("c", "y", "")]
    assert all(p.problem == "not installed" for p in packages())


def test_every_device_has_the_name_that_commands_take():
    assert next(iter(devices())) == "cpu"
    assert set(installed.versions()) == {"efface", "python", "torch", "system"}
