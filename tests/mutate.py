"""Mutation testing: which single changes to a source file do its tests not notice? `make mutate PATH=src/efface/...`.

mutmut writes every small change (another operator, a constant plus one, an argument left out, ...) of the functions in
a file beside the original, runs once the tests that are related to the file to see which of them reach which function,
and then tries one change after another in a forked process. Text of errors counts as well, so that a rate of 100 % is
not the aim; constants and tables outside of functions are not changed. What survives and why: tests/mutation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"

SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {only}
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 5
timeout_constant = 5
use_git_change_detection = false
"""


def related(source: Path) -> list[str]:
    """Return the test files of a source file: its mirror and those of its room that import it; else who imports it."""
    module = ".".join(source.with_suffix("").parts[1:])
    package, _, name = module.rpartition(".")
    imports = re.compile(
        rf"^\s*(from {re.escape(module)} import|import {re.escape(module)}\b|"
        rf"from {re.escape(package)} import [^\n]*\b{name}\b)",
        re.MULTILINE,
    )
    room = Path("tests", *source.parts[2:-1])
    files = sorted(p.relative_to(ROOT) for p in (ROOT / "tests").rglob("test_*.py"))
    importing = [p for p in files if imports.search((ROOT / p).read_text())]
    mirrors = [p for p in files if p.stem == f"test_{name}"]
    near = [p for p in files if p in mirrors or (p in importing and p.parent == room)]
    return [str(p) for p in near or importing or [p for p in files if p.is_relative_to(room)]]


def mutmut(folder: Path, *arguments: str, shown: bool = False) -> str:
    """Run mutmut in a folder, on the copy of the sources that it makes there; return what it said if not `shown`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mutmut", *arguments]
    output = None if shown else subprocess.PIPE
    done = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout or ''}{done.stderr or ''}mutmut {arguments[0]} failed")
    return done.stdout or ""


def prepare(source: Path, tests: list[str], keep: bool) -> Path:
    """Make the folder in which mutmut works: the project's sources, tests and settings, and which file to change."""
    folder = WORK / ".".join(source.with_suffix("").parts[1:])
    if folder.exists() and not keep:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("src", "tests"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    settings = SETTINGS.format(only=json.dumps([str(source)]), tests=json.dumps(tests))
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)
    return folder


def main() -> None:
    """Mutate one file, say how many changes were noticed, and keep the others with their difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file below src/efface")
    parser.add_argument("--tests", nargs="+", help="test files to use instead of the related ones")
    parser.add_argument("--again", action="store_true", help="try only what survived the last time, on today's tests")
    chosen = parser.parse_args()
    source = Path(chosen.source).resolve().relative_to(ROOT)
    if source.parts[:2] != ("src", "efface") or not (ROOT / source).is_file():
        parser.error(f"{chosen.source} is no file below src/efface")
    tests = chosen.tests or related(source)
    print(f"{source} against {' '.join(tests)}", flush=True)
    folder = prepare(source, tests, chosen.again)
    names = [*outcomes(folder, "survived"), *outcomes(folder, "no tests")] if chosen.again else []
    if names or not chosen.again:
        mutmut(folder, "run", "--max-children", "1", *names, shown=sys.stdout.isatty())
    mutmut(folder, "export-cicd-stats")
    counts = json.loads((folder / "mutants" / "mutmut-cicd-stats.json").read_text())
    noticed = counts["killed"] + counts["timeout"] + counts["segfault"]
    print(f"{source}: {noticed} of {counts['total']} noticed ({noticed / max(1, counts['total']):.0%})", flush=True)
    survived, unreached = outcomes(folder, "survived"), outcomes(folder, "no tests")
    differences = [mutmut(folder, "show", name) for name in survived]
    (folder / "survivors.diff").write_text("\n".join([*differences, *(f"# {n}: no tests" for n in unreached)]))
    words = f"{len(survived)} survived, {len(unreached)} in functions that these tests do not reach"
    print(f"{words}: {folder.relative_to(ROOT) / 'survivors.diff'}")


def outcomes(folder: Path, wanted: str) -> list[str]:
    """Return the names of the changes with an outcome: `survived`, or `no tests` where none reaches the function."""
    lines = (line.strip().partition(": ") for line in mutmut(folder, "results").splitlines())
    return [name for name, _, outcome in lines if outcome == wanted]


if __name__ == "__main__":
    main()
