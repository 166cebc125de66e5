"""Methods from elsewhere: by import path, registered, from the environment and from entry points."""

from __future__ import annotations

import warnings
from importlib.metadata import EntryPoint

import pytest

from efface.errors import InputError, InputWarning
from efface.methods import catalogue
from efface.methods.catalogue import VARIABLE, make, method_of, methods, name_of, named, register
from efface.methods.logit_mask import LogitMask
from efface.methods.method import Method

SOURCE = '''
from typing import ClassVar
from pydantic.dataclasses import dataclass
from efface.methods.method import Expense, Method, Needs


@dataclass(frozen=True)
class Mine(Method):
    """Give back a copy."""

    strength: float = 1.0
    name: ClassVar[str] = "NAME"
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(1)"
    memory: ClassVar[str] = "P"
    expense: ClassVar[Expense] = "instant"
    source: ClassVar[str] = "a test"

    def forget(self, artifact, split, run):
        return run.copied(artifact.model)


class Unfinished(Mine):
    name = "unfinished"


class Thawed(Method):
    """Says nothing of itself."""

    def forget(self, artifact, split, run):
        raise NotImplementedError
'''


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """A module of the user's with the class Mine, importable; what it registers is gone afterwards."""
    monkeypatch.setattr(catalogue, "_registered", {})
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path)
    name = f"mine_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE.replace("NAME", "my-own"))
    catalogue._from_elsewhere.cache_clear()
    yield name
    catalogue._from_elsewhere.cache_clear()


def test_a_path_gives_the_method_and_makes_its_name_known(module):
    method = method_of(f"{module}:Mine", {"strength": "0.5"})
    assert method.settings() == {"strength": 0.5}
    assert methods()["my-own"] is type(method)
    assert make("my-own") == type(method)()
    assert name_of(method) == f"{module}:Mine"


def test_a_built_in_by_its_path_keeps_its_name():
    assert named("efface.methods.logit_mask:LogitMask") == "logit-mask"
    assert name_of(LogitMask()) == "logit-mask"


def test_a_record_cannot_have_code_imported(module):
    with pytest.raises(InputError, match="unknown method"):
        make(f"{module}:Mine")
    assert "my-own" not in methods()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("nowhere_at_all:Mine", "no module"),
        ("MODULE:Nothing", "no attribute"),
        ("MODULE:Expense", "no method"),
        ("MODULE:Method", "does not say how it forgets"),
        ("MODULE:Thawed", "does not say its name, needs"),
        (":Mine", "not an import path"),
    ],
)
def test_what_is_no_method_is_refused_by_name(module, what, why):
    with pytest.raises(InputError, match=why):
        named(what.replace("MODULE", module))


def test_names_are_unique(module):
    first = method_of(f"{module}:Mine", None)
    register(type(first))  # again is no error
    other = type("Other", (type(first),), {"__module__": module, "__qualname__": "Other"})
    with pytest.raises(InputError, match="registered as 'my-own' already"):
        register(other)
    for name in ("ssd", "auto", "My_Own"):
        with pytest.raises(InputError, match="calls itself"):
            register(type("Mine", (type(first),), {"name": name}))


def test_other_processes_learn_of_it_from_the_environment(module, monkeypatch):
    named(f"{module}:Mine")
    monkeypatch.setattr(catalogue, "_registered", {})
    assert "my-own" in methods()


def test_packages_offer_methods_by_entry_points(module, monkeypatch):
    entry = EntryPoint("my-own", f"{module}:Mine", catalogue.GROUP)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [entry] if group == catalogue.GROUP else [])
    catalogue._from_elsewhere.cache_clear()
    assert methods()["my-own"].__module__ == module
    assert list(methods()) == sorted(methods())


def test_what_cannot_be_loaded_is_left_out_with_a_warning(module, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"{module}:Nothing,nowhere_at_all:Mine,{module}:Mine")
    with pytest.warns(InputWarning, match="left out") as caught:
        found = methods()
    assert len(caught) == 2
    assert "my-own" in found
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        methods()  # said once


def test_an_instance_that_nothing_can_import_is_refused(module):
    kind = type(method_of(f"{module}:Mine", None))

    class Local(kind):
        """Inside of a function."""

    assert issubclass(Local, Method)
    with pytest.raises(InputError, match="top level"):
        name_of(Local())
