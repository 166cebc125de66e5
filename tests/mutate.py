"""Mutation testing: which single changes to source files do their tests not notice? `make mutate PATH=src/efface/...`.

mutmut writes every small change (another operator, a constant plus one, an argument left out, ...) of the functions in
a file beside the original, runs once the tests that are related to the file to see which of them reach which function,
and then tries one change after another in a forked process. Several files, or a folder of them, share that first run.
A change whose tests do not end in time is not counted as noticed: on a busy machine it may only have been slow. Text of
errors counts as well, so that a rate of 100 % is not the aim; constants and tables outside of functions are not
changed. What survives and why: tests/mutation.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mutmut.__main__ import create_mutants_for_file
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"

EVERYWHERE = {"OMP_NUM_THREADS": "1", "EFFACE_KEEP_FIXTURES": "1"}
"""One thread, and models that fixtures trained are not trained again for every change; see `tests/kept_fixtures.py`."""

SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {only}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {options}
timeout_multiplier = 5
timeout_constant = 30
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
    mirrors = [p for p in files if p == room / f"test_{name}.py"]
    near = [p for p in files if p in mirrors or (p in importing and p.parent == room)]
    return [str(p) for p in near or importing or [p for p in files if p.is_relative_to(room)]]


def mutmut(folder: Path, *arguments: str, shown: bool = False) -> str:
    """Run mutmut in a folder, on the copy of the sources that it makes there; return what it said if not `shown`."""
    # Compiled tests are kept: every change collects them anew.
    left = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}}
    command = [sys.executable, "-m", "mutmut", *arguments]
    output = None if shown else subprocess.PIPE
    done = subprocess.run(
        command, cwd=folder, env=left | EVERYWHERE, stdout=output, stderr=output, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout or ''}{done.stderr or ''}mutmut {arguments[0]} failed")
    return done.stdout or ""


def prepare(sources: list[Path], tests: list[str], quick: bool, keep: bool) -> Path:
    """Make the folder in which mutmut works: the project's sources, tests and settings, and which files to change."""
    first = ".".join(sources[0].with_suffix("").parts[1:])
    folder = WORK / (f"{first} and {len(sources) - 1} more" if len(sources) > 1 else first)
    if folder.exists() and not keep:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("src", "tests"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "mutants").mkdir(exist_ok=True)  # where the tests run
    for name in ("docs", "experiments"):  # what tests read
        if not (folder / "mutants" / name).exists():
            (folder / "mutants" / name).symlink_to(ROOT / name)
    options = ["-m", "not slow and not seconds"] if quick else []
    settings = SETTINGS.format(
        only=json.dumps([str(s) for s in sources]), tests=json.dumps(tests), options=json.dumps(options)
    )
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)
    return folder


def drawn(folder: Path, sources: list[Path], share: float, least: int, seed: int) -> list[str]:
    """Write all changes, and return the names of a random share of those to each file, at least so many of them."""
    names = []
    with contextlib.chdir(folder):  # where mutmut looks for its settings
        for source in sources:
            changed = Path("mutants", source)
            changed.parent.mkdir(parents=True, exist_ok=True)
            create_mutants_for_file(source, changed)  # mutmut finds them there and writes none of its own
            made = list(known(source).exit_code_by_key)
            names += random.Random(seed).sample(made, min(len(made), max(least, round(share * len(made)))))
    return names


def known(source: Path) -> SourceFileMutationData:
    """Return what mutmut has written about a file in this folder."""
    found = SourceFileMutationData(path=source)
    found.load()
    return found


def main() -> None:
    """Mutate files, say how many changes to each were noticed, and keep the others with their difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="files or folders below src/efface")
    parser.add_argument("--tests", nargs="+", help="test files, or tests of them, to use instead of the related ones")
    parser.add_argument("--share", type=float, help="try a random share of each file's changes, between 0 and 1")
    parser.add_argument("--least", type=int, default=1, help="with --share: at least so many changes to every file")
    parser.add_argument("--seed", type=int, default=0, help="which share; 0 unless told")
    parser.add_argument("--quick", action="store_true", help="leave out the tests marked `seconds` or `slow`")
    parser.add_argument("--without", nargs="+", default=[], help="leave out the tests of these fixtures, which train")
    parser.add_argument("--again", action="store_true", help="try only what survived the last time, on today's tests")
    parser.add_argument("--so-far", action="store_true", help="try nothing; say what a run that was stopped has found")
    chosen = parser.parse_args()
    os.environ["EFFACE_WITHOUT_FIXTURES"] = ",".join(chosen.without)
    sources: list[Path] = []
    for given in chosen.sources:
        source = Path(given).resolve().relative_to(ROOT)
        if source.parts[:2] != ("src", "efface") or not (ROOT / source).exists():
            parser.error(f"{given} is no file or folder below src/efface")
        found = sorted((ROOT / source).rglob("*.py")) if (ROOT / source).is_dir() else [ROOT / source]
        sources += [p.relative_to(ROOT) for p in found if p.name != "__init__.py"]
    if chosen.share is not None and not 0 < chosen.share <= 1:
        parser.error(f"--share {chosen.share} is not above 0 and at most 1")
    if chosen.share is not None and (chosen.again or chosen.so_far):
        parser.error("--again and --so-far are about the share of last time; leave --share out")
    tests = chosen.tests or sorted({test for source in sources for test in related(source)})
    print(f"{' '.join(map(str, sources))} against {' '.join(tests)}", flush=True)
    folder = prepare(sources, tests, chosen.quick, chosen.again or chosen.so_far)
    names = drawn(folder, sources, chosen.share, chosen.least, chosen.seed) if chosen.share else []
    if chosen.again:
        names = [
            n
            for n, outcome in outcomes(folder, sources).items()
            if outcome not in {"killed", "segfault", "not checked"}
        ]
    if not chosen.so_far and (names or not chosen.again):
        mutmut(folder, "run", "--max-children", "1", *names, shown=sys.stdout.isatty())
    found = outcomes(folder, sources)
    for source in sources:
        print(summary(source, found), flush=True)
    if len(sources) > 1:
        print(overall(sources, found), flush=True)
    left = {n: outcome for n, outcome in found.items() if outcome not in {"killed", "segfault", "not checked"}}
    with contextlib.chdir(folder):  # where mutmut looks for its files
        shown = [f"# {n}: {o}\n{'' if o == 'no tests' else get_diff_for_mutant(n)}" for n, o in left.items()]
    (folder / "survivors.diff").write_text("\n".join(shown))
    print(f"those not noticed: {folder.relative_to(ROOT) / 'survivors.diff'}")


def counted(source: Path, found: dict[str, str]) -> tuple[list[str], int, int]:
    """Return what became of the changes to a file that were tried, how many were noticed, and how many it has."""
    module = ".".join(source.with_suffix("").parts[1:])
    made = [outcome for name, outcome in found.items() if name.rpartition(".")[0] == module]
    tried = [outcome for outcome in made if outcome != "not checked"]
    return tried, sum(outcome in {"killed", "segfault"} for outcome in tried), len(made)


def summary(source: Path, found: dict[str, str]) -> str:
    """Return one line on a file: how many of the changes tried were noticed, and what became of the others."""
    tried, noticed, made = counted(source, found)
    rest = [f"{tried.count(o)} {o}" for o in ("survived", "timeout", "no tests") if o in tried]
    share = f" tried, of {made}" if len(tried) < made else ""
    words = f" ({', '.join(rest)})" if rest else ""
    return f"{source}: {noticed} of {len(tried)}{share} noticed, {noticed / max(1, len(tried)):.0%}{words}"


def overall(sources: list[Path], found: dict[str, str]) -> str:
    """Return one line on all files, and their share if each counts by the changes it has, not by those tried."""
    files = [f for f in (counted(source, found) for source in sources) if f[0]]
    tried, noticed = sum(len(f[0]) for f in files), sum(f[1] for f in files)
    weighted = sum(f[2] * f[1] / len(f[0]) for f in files) / max(1, sum(f[2] for f in files))
    return f"in all: {noticed} of {tried} noticed, {noticed / max(1, tried):.0%}; files by their size: {weighted:.0%}"


def outcomes(folder: Path, sources: list[Path]) -> dict[str, str]:
    """Return what became of every change, by its name: `killed`, `survived`, `timeout`, `no tests`, `not checked`."""
    with contextlib.chdir(folder):
        files = [known(source).exit_code_by_key for source in sources]
    return {name: status_by_exit_code[code] for codes in files for name, code in codes.items()}


if __name__ == "__main__":
    main()
