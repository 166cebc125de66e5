"""Every block of code in the documents runs: Python as it stands, shell lines with commands and options that exist."""

from __future__ import annotations

import re
import shlex
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.main import get_command

import efface
from efface.cli import app
from efface.comparing.plan import read_plan
from efface.methods import catalogue
from efface.running.seeding import seeded

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {p.name: p.read_text(encoding="utf-8") for p in sorted(DOCS.glob("*.md"))}
FILE = re.compile(r"<!-- (\S+\.\w+) -->\n```\w+\n(.*?)```", flags=re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
SHELL = re.compile(r"```(?:sh)?\n(.*?)```", flags=re.DOTALL)


def blocks(page: str) -> list[str]:
    """The Python of a page that is no file of its own."""
    return PYTHON.findall(FILE.sub("", PAGES[page]))


def network_and_samples() -> dict[str, Any]:
    """What the page on curvature takes as given."""
    with seeded(0):
        layers = {"flat": nn.Flatten(), "hidden": nn.Linear(6, 8), "relu": nn.ReLU(), "fc": nn.Linear(8, 4)}
        x, y = torch.randn(40, 6), torch.arange(40) % 4
        return {"model": nn.Sequential(OrderedDict(layers)).eval(), "x": x, "y": y}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"curvature.md": network_and_samples}


@pytest.mark.seconds
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """From top to bottom, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names = {"efface": efface, **GIVEN.get(page, dict)()}
    for block in blocks(page):
        exec(block, names)  # noqa: S102 - our own pages
    if page == "first_steps.md":
        assert "unknown method 'decoy'" in str(names["refused"])
        assert {"audit.json", "report.html", "report.md"} <= {p.name for p in (tmp_path / "forgotten").iterdir()}


def test_pages_that_show_python_are_run():
    shown = {page for page, text in PAGES.items() if "```python" in text}
    assert shown == {page for page in PAGES if blocks(page)} | {"writing_a_measure.md", "writing_a_method.md"}


def commands(text: str) -> list[list[str]]:
    """The lines of a text's blocks that call `efface`, continued ones joined."""
    lines = [line for block in SHELL.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("efface ")]


@pytest.mark.parametrize("page", [*PAGES, "README.md"])
def test_shell_lines_name_commands_and_options_that_exist(page):
    known = get_command(app).commands
    for words in commands(PAGES.get(page) or (ROOT / page).read_text(encoding="utf-8")):
        options = {name for p in known[words[1]].params for name in (*p.opts, *p.secondary_opts)}
        used = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert used <= options, " ".join(words)


def test_plans_that_pages_show_are_valid(tmp_path):
    """Those that name code of the page itself are run below."""
    shown = [
        block for page in PAGES.values() for block in re.findall(r"```yaml\n(name: .*?)```", page, flags=re.DOTALL)
    ]
    for number, block in enumerate(shown):
        (tmp_path / f"{number}.yaml").write_text(block)
    assert [len(read_plan(tmp_path / f"{n}.yaml").cells()) for n, b in enumerate(shown) if "my_" not in b] == [16]


def written(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Write the files that a page shows into a folder from which modules can be imported."""
    files = dict(FILE.findall(PAGES[page]))
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(catalogue, "_registered", {})
    monkeypatch.setenv(catalogue.VARIABLE, "")
    monkeypatch.syspath_prepend(folder)
    return set(files)


@pytest.mark.seconds
def test_the_page_on_writing_a_method_runs(tmp_path, monkeypatch):
    """The module and the plan of the page, as files; the method's row and the measure's column are in the table."""
    assert written("writing_a_method.md", tmp_path, monkeypatch) == {"my_methods.py", "plan.yaml"}
    found = efface.compare(tmp_path / "plan.yaml", device="cpu")
    cells = found.frame.set_index("entry")
    assert list(cells.index) == ["logit-mask", "shrunk"]
    assert not any(cells.refused)
    assert (cells.forgotten_confidence < 0.5).all()
    assert "**forgotten_confidence**: Mean probability that test samples" in found.markdown()
    again = efface.compare(tmp_path / "plan.yaml", device="cpu")
    assert again.reused == 2


def test_the_page_on_writing_a_measure_runs(tmp_path, monkeypatch):
    """A mask changes no answer that was right about a kept class, and leaves less to be unsure between."""
    assert written("writing_a_measure.md", tmp_path, monkeypatch) == {"my_measures.py", "plan.yaml"}
    cells = efface.compare(tmp_path / "plan.yaml", device="cpu").frame.set_index("entry")
    assert list(cells.index) == ["logit-mask", "fine-tune"]
    assert cells.entropy_of_forgotten.between(0, torch.log(torch.tensor(10.0)).item()).all()
    assert 0 <= cells.answers_changed["logit-mask"] < 0.1
