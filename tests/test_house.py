"""The house's rules that no linter holds: short docstrings and functions, tests where their modules stand."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from efface.methods.catalogue import methods

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "efface"

DOCSTRING_LINES = 25
FUNCTION_LINES = 60
LONG = {"methods/scrub.py:SCRUB.forget"}  # a method's own algorithm reads from top to bottom, like its paper

NO_MODULE = {
    "auditing/test_scores.py": "scores of one real audit, made in several modules of that folder",
    "cli/test_train_from.py": "one option of train, with much to say about it",
    "curvature/test_backpack.py": "skipped as a whole without BackPACK",
    "methods/test_contract.py": "every method, found by introspection",
    "methods/test_foreign_models.py": "every method on models that others made",
    "references/test_folder.py": "a folder of references by hand, without the trainings of test_references.py",
    "report/test_browser.py": "skipped as a whole without a browser",
    "test_docs.py": "the documents",
    "verbs/test_ensembles.py": "one kind of model on its way through all verbs",
    "test_error_rates.py": "the scripts that measure how often an audit is wrong",
    "test_examples.py": "the scripts of examples/",
    "test_faults.py": "real kills of real runs",
    "test_fuzz.py": "malformed input of every kind",
    "test_ray.py": "one cluster for all that the plain suite runs over Ray",
    "test_reproduce.py": "the script that reproduces both talks",
    "test_guide.py": "the code that documents show",
    "test_house.py": "this file",
    "test_public.py": "the names of the package",
    "test_readme.py": "the README",
    "test_revisions.py": "tests/revisions.py",
    "test_wheel.py": "what is built and installed",
    "test_times.py": "tests/times.py",
    "test_trials.py": "new users' trials, from data to a forgotten model",
}


def test_a_test_stands_where_its_module_stands() -> None:
    """tests/ROOM/test_NAME.py is about efface/ROOM/NAME.py, or about the room itself if that is its name."""
    homeless = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        place = path.relative_to(ROOT / "tests")
        room, name = SOURCE / place.parent, place.stem.removeprefix("test_")
        own = name == room.name and (room / "__init__.py").is_file()
        if not own and not (room / f"{name}.py").is_file():
            homeless.add(place.as_posix())
    assert homeless - set(NO_MODULE) == set(), "move these to their module's place, or say above why there is none"


@pytest.mark.parametrize("name", sorted(methods()))
def test_a_methods_docstring_fits_on_a_screen(name: str) -> None:
    """Formula, shapes, errors, source; lists of differences from the source stand in docs/methods/NAME.md."""
    assert len((inspect.getdoc(methods()[name]) or "").splitlines()) <= DOCSTRING_LINES


def test_every_page_of_differences_belongs_to_a_method() -> None:
    assert {p.stem for p in (ROOT / "docs" / "methods").glob("*.md")} <= set(methods())


def every_test() -> dict[str, ast.FunctionDef]:
    """Every test by file and name: those of tests/, and the contract of methods, which is for others, too."""
    paths = [*(ROOT / "tests").rglob("*.py"), SOURCE / "testing" / "contract.py"]
    return {
        f"{path.relative_to(ROOT).as_posix()}::{node.name}": node
        for path in sorted(paths)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def asserts(test: ast.FunctionDef) -> bool:
    """Say whether a test can fail by what it finds: an assertion, or `assert_*`, `raises`, `warns`, `fail`."""
    called = [ast.unparse(n.func).rpartition(".")[2] for n in ast.walk(test) if isinstance(n, ast.Call)]
    return any(isinstance(n, ast.Assert) for n in ast.walk(test)) or any(
        name.startswith("assert_") or name in {"raises", "warns", "fail"} for name in called
    )


def test_every_test_asserts_something() -> None:
    """To run without an error says little; what checks in a test's place is called `assert_*`."""
    assert [name for name, test in every_test().items() if not asserts(test)] == []


def functions(folder: Path) -> dict[str, int]:
    """Lines of every function below a folder without its docstring, by file and qualified name."""
    found = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    first = child.body[0]
                    said = ast.get_docstring(child, clean=False) is not None
                    assert child.end_lineno is not None
                    assert first.end_lineno is not None
                    words = first.end_lineno - first.lineno + 1 if said else 0
                    # A subcommand's signature is its list of options, one a line.
                    top = child.body[0].lineno if name.startswith("cli/") else child.lineno
                    found[name] = child.end_lineno - top + 1 - words
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    for path in sorted(folder.rglob("*.py")):
        visit(ast.parse(path.read_text(encoding="utf-8")), f"{path.relative_to(folder).as_posix()}:")
    return found


@pytest.mark.parametrize("folder", ["src/efface", "experiments", "benchmarks", "docs", "examples"])
def test_no_function_is_longer_than_a_screen(folder: str) -> None:
    lines = functions(ROOT / folder)
    assert lines, "no function found"
    long = {name for name, count in lines.items() if count > FUNCTION_LINES}
    assert long == (LONG if folder == "src/efface" else set()), "cut these in two, or list a method's own algorithm"
