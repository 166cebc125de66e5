"""The documents: current where they are generated, and without dead links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from efface.comparing.plan import read_plan

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").glob("*.md"))]


GENERATED = {
    "architecture.py": "the picture of the rooms and their table",
    "catalogue.py": "the page of methods",
    "reliability.py": "the table of what stopped runs leave",
    "research.py": "the tables of what passes",
    "results.py": "the published figures",
    "which_method.py": "the tables of methods to choose from",
}


@pytest.mark.seconds
@pytest.mark.parametrize("script", sorted(GENERATED))
def test_what_a_script_writes_is_current(script):
    run = subprocess.run([sys.executable, ROOT / "docs" / script, "--check"], capture_output=True, text=True)
    assert run.returncode == 0, f"{GENERATED[script]}: {run.stderr}"


def test_the_site_shows_every_page():
    def pages(entry):
        return [entry] if isinstance(entry, str) else [p for e in entry for p in pages(next(iter(e.values())))]

    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    shown = [page for entry in settings["nav"] for page in pages(next(iter(entry.values())))]
    docs = ROOT / "docs"
    there = [*docs.glob("*.md"), *(docs / "api").glob("*.md")]
    assert sorted(shown) == sorted(p.relative_to(docs).as_posix() for p in there)


def test_published_figures_of_plans_are_those_of_the_page():
    known = yaml.safe_load((ROOT / "experiments" / "published.yaml").read_text(encoding="utf-8"))
    plans = {plan: read_plan(ROOT / "experiments" / f"{plan}.yaml") for plan in {t["plan"] for t in known["tables"]}}
    for table in known["tables"]:
        assert plans[table["plan"]].published == table["rows"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_files_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#:\s]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


NO_PLANS = ("defaults", "sequence_")
"""How files begin that other scripts read."""

PLANS = [p for p in sorted((ROOT / "experiments").glob("*_*.yaml")) if not p.stem.startswith(NO_PLANS)]


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.stem)
def test_every_committed_plan_is_valid_and_named_after_its_file(plan):
    read = read_plan(plan)
    assert read.name == plan.stem
    assert read.cells()


def test_the_architecture_page_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {p.stem for p in (ROOT / "src" / "efface").iterdir()} - {"__init__", "__pycache__", "py"}
    assert {room for room in rooms if f"| `{room}` |" not in page} == set()


def test_tests_that_documents_name_exist():
    named = re.compile(r"`(?:(test_\w+\.py))?(?:::(test_\w+))?`")
    missing = []
    for document in DOCUMENTS:
        file = ""
        for name, test in named.findall(document.read_text(encoding="utf-8")):
            file = name or file
            found = list((ROOT / "tests").rglob(file)) if file else []
            if (
                (name or test)
                and not any(f"def {test}(" in p.read_text() for p in found if test)
                and (test or not found)
            ):
                missing.append(f"{document.name}: {file}::{test}")
    assert missing == []
