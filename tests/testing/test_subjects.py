"""Which methods an import path names."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.errors import InputError
from efface.methods import catalogue
from efface.testing.subjects import subjects_of

MINE = """
from typing import ClassVar
from pydantic.dataclasses import dataclass
from efface.methods.logit_mask import LogitMask
from efface.methods.method import Expense, Method, Needs

@dataclass(frozen=True)
class First(Method):
    strength: float = 1.0
    name: ClassVar[str] = "first"
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(1)"
    memory: ClassVar[str] = "P"
    expense: ClassVar[Expense] = "instant"
    source: ClassVar[str] = "a test"

    def forget(self, artifact, split, run):
        return run.copied(artifact.model)

@dataclass(frozen=True)
class Second(First):
    name: ClassVar[str] = "second"

STRONG = First(strength=3.0)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine_of_subjects.py").write_text(MINE)
    (tmp_path / "empty_of_subjects.py").write_text("from efface.methods.logit_mask import LogitMask\n")
    monkeypatch.setattr(catalogue, "_registered", {})
    monkeypatch.setenv(catalogue.VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path)
    return "mine_of_subjects"


def test_a_module_names_all_that_it_defines_and_nothing_that_it_imports(module: str) -> None:
    assert [m.name for m in subjects_of([module])] == ["first", "second"]


def test_a_class_has_its_defaults_and_an_instance_its_own_settings(module: str) -> None:
    assert [m.settings() for m in subjects_of([f"{module}:First"])] == [{"strength": 1.0}]
    assert [m.settings() for m in subjects_of([f"{module}:STRONG"])] == [{"strength": 3.0}]


def test_several_paths_name_each_method_once(module: str) -> None:
    found = subjects_of([f"{module}:STRONG,{module}:Second", module])
    assert [(m.name, m.settings()["strength"]) for m in found] == [("first", 3.0), ("second", 1.0)]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("empty_of_subjects", "holds no method"),
        ("nobody_has_this", "there is no module 'nobody_has_this'"),
        ("mine_of_subjects:Third", "no attribute 'Third'"),
        ("mine_of_subjects:MINE", "no attribute"),
        ("pathlib:Path", "is no method"),
    ],
)
def test_what_is_no_method_is_refused_with_what_to_write(path: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        subjects_of([path])
