"""The plugin holds a method from outside to the contract: the page's example keeps it, broken ones are found out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BROKEN = '''
from typing import ClassVar
import torch
from pydantic.dataclasses import dataclass
from efface.methods.method import Expense, Method, Needs

class Base(Method):
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(1)"
    memory: ClassVar[str] = "P"
    expense: ClassVar[Expense] = "instant"
    source: ClassVar[str] = "a test"

@dataclass(frozen=True)
class Changes(Base):
    """Changes the model that it was given. Source: a test."""
    name: ClassVar[str] = "changes"
    def forget(self, artifact, split, run):
        model = run.copied(artifact.model)
        with torch.no_grad():
            next(artifact.model.parameters()).mul_(0.5)
        return model

@dataclass(frozen=True)
class Peeks(Base):
    """Reads data that it does not declare. Source: a test."""
    name: ClassVar[str] = "peeks"
    def forget(self, artifact, split, run):
        split.retain.tensors()
        return run.copied(artifact.model)

@dataclass(frozen=True)
class Dices(Base):
    """Draws from the global generator. Source: a test."""
    name: ClassVar[str] = "dices"
    def forget(self, artifact, split, run):
        model = run.copied(artifact.model)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.tensor(__import__("time").perf_counter() % 1))
        return model

@dataclass(frozen=True)
class Idle(Base):
    """Does nothing, and does not say so"""
    name: ClassVar[str] = "idle"
    def forget(self, artifact, split, run):
        return run.copied(artifact.model)
'''


def held(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest there with the plugin, as a package with a method would."""
    command = [sys.executable, "-m", "pytest", "-p", "efface.testing.plugin", "-q", "-rf", "-p", "no:cacheprovider"]
    environment = {**os.environ, "EFFACE_METHODS": "", "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", folder)))}
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.seconds
def test_the_example_of_the_page_keeps_every_promise_beside_broken_methods_which_are_found_out(tmp_path: Path) -> None:
    """Those by the test that is there for it; `-k` chooses among the contract's tests as among any."""
    page = (ROOT / "docs" / "writing_a_method.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", page, flags=re.DOTALL))
    (tmp_path / "my_methods.py").write_text(files["my_methods.py"])
    (tmp_path / "broken_methods.py").write_text(BROKEN)
    chosen = "shrunk or only_what_it_declares or same_seed or documented"
    answer = held(tmp_path, "--efface-methods", "broken_methods,my_methods:ShrunkRow", "-k", chosen, "-rfEp")
    kept = re.findall(r"^PASSED \S+::test_(\w+)\[shrunk-row", answer.stdout, flags=re.MULTILINE)
    assert len(kept) > 15, answer.stdout + answer.stderr
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+::test_(\w+)\[(\w+)", answer.stdout, flags=re.MULTILINE))
    assert "shrunk" not in {method for _, method in failed}
    assert failed >= {
        ("forgets_reading_only_what_it_declares", "changes"),
        ("forgets_reading_only_what_it_declares", "peeks"),
        ("forgets_reading_only_what_it_declares", "idle"),
        ("same_seed_same_result_whatever_the_global_seed", "dices"),
        ("is_declared_documented_and_validated", "idle"),
    }
    assert ("forgets_reading_only_what_it_declares", "dices") not in failed
    assert ("is_declared_documented_and_validated", "peeks") not in failed


def test_a_path_that_leads_nowhere_is_a_usage_error(tmp_path: Path) -> None:
    answer = held(tmp_path, "--efface-methods", "nobody_has_this")
    assert answer.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--efface-methods: 'nobody_has_this': there is no module" in answer.stderr


def test_nothing_is_added_or_imported_without_the_option(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n\ndef test_one():\n    assert not {'torch', 'efface.errors'} & sys.modules.keys()\n"
    )
    answer = held(tmp_path)
    assert answer.returncode == 0, answer.stdout
    assert "1 passed" in answer.stdout
