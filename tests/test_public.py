"""The public names: used in the documents, and each with an example that runs."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import efface

ROOT = Path(__file__).parents[1]
NAMES = [name for name in efface.__all__ if name != "__version__"]


def test_the_package_lists_its_public_names_alone() -> None:
    assert dir(efface) == sorted(efface.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_used_where_a_user_looks(name: str) -> None:
    places = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages = "".join(page.read_text(encoding="utf-8") for page in places)
    assert re.search(rf"\befface\.{name}\b", pages)


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_is_on_a_page_of_the_interface(name: str) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    assert re.search(rf"^::: efface\.\S*\b{getattr(efface, name).__name__}$", pages, flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_its_example_runs(name: str) -> None:
    thing = getattr(efface, name)
    found = [t for t in doctest.DocTestFinder(recurse=False).find(thing, name, globs={}) if t.examples]
    assert found, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in found:
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
