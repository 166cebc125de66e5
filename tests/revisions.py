"""Compare what two revisions of Efface do on scikit-learn's digits; print nothing if it is the same.

    python tests/revisions.py OLD NEW [--only weights|audits|tables] [--methods decay,ssd] [--allow-new]

Both revisions (each may be `.`, the working tree) run `tests/revisions_driver.py`, side by side, in the environment of
this Python. Compared are the SHA-256 of the weights that every method makes from two small networks, audits and reports
at each level, what `verify` finds, and the tables of a small comparison, all without times. Run it before merging what
should change no result: a move, a renaming, a faster formula that is meant to be exact.

A line is `what: old -> new`. Exit status: 0 the same, 1 differences, 2 a revision could not be run. It takes a minute
on two cores.
"""

from __future__ import annotations

import argparse
import difflib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve()
DRIVER = HERE.with_name("revisions_driver.py")
PARTS = ("weights", "audits", "tables")
WORKING_TREE = "."
LONGEST = 160
CONTEXT = 40
IDENTITIES = ("name", "key", "subject", "id")
ABSENT = object()


class Difference(NamedTuple):
    """One thing that is not the same; `ABSENT` stands for what a revision does not have."""

    what: str
    old: Any
    new: Any

    def __str__(self) -> str:
        old, new = _text(self.old), _text(self.new)
        start = 0
        if max(len(old), len(new)) > LONGEST:  # of two long texts, show where they part
            alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
            start = max(0, alike - CONTEXT)
        return f"{self.what}: {_short(old, start)} -> {_short(new, start)}"


def main() -> int:
    """Run both revisions and print how they differ."""
    parser = argparse.ArgumentParser(description="What two revisions do on digits; nothing is printed if equal.")
    parser.add_argument("old", metavar="OLD", help="git revision, or . for the working tree")
    parser.add_argument("new", metavar="NEW", help="git revision, or . for the working tree")
    parser.add_argument("--only", choices=PARTS, help="only the weights, the audits, or the tables")
    parser.add_argument("--methods", default="", metavar="A,B", help="only the weights that these methods make")
    parser.add_argument("--allow-new", action="store_true", help="say nothing of what only NEW has")
    options = parser.parse_args()
    if options.methods and options.only not in {None, "weights"}:
        parser.error(f"--methods chooses among weights; leave out --only {options.only}")
    only = options.only or ("weights" if options.methods else ",".join(PARTS))
    with tempfile.TemporaryDirectory(prefix="efface-revisions-") as folder:
        try:
            old, new = facts_of((options.old, options.new), Path(folder), only, options.methods)
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    networks = [n for facts in (old, new) for n in facts.get("weights", {}).values()]
    served = {method for network in networks for made in network.values() for method in made}
    if unknown := {m for m in options.methods.split(",") if m} - served:
        print(f"error: neither revision has a method {', '.join(sorted(unknown))}; see efface methods", file=sys.stderr)
        return 2
    found = lines(differences(old, new), allow_new=options.allow_new)
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


def facts_of(revisions: tuple[str, str], folder: Path, only: str, methods: str) -> list[dict[str, Any]]:
    """Run the driver under both revisions at the same time, and return what each did.

    Raises:
        RuntimeError: A revision does not exist, or the driver failed under it.
    """
    running = []
    sources = [exported(revision, folder / side) for side, revision in zip(("old", "new"), revisions, strict=True)]
    for revision, src in zip(revisions, sources, strict=True):
        here = src.parent
        # The same relative paths on both sides, and one thread: more would add sums in another order.
        environment = os.environ | {"PYTHONPATH": str(src), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-P", str(DRIVER), str(src), "facts.json", "scratch", "--only", only]
        with (here / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--methods", methods], cwd=here, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        running.append((revision, here, process))
    codes = [process.wait() for _, _, process in running]
    for code, (revision, here, _) in zip(codes, running, strict=True):
        if code:
            raise RuntimeError(f"the driver failed under {revision}:\n{(here / 'log').read_text()[-4000:]}")
    return [json.loads((here / "facts.json").read_bytes()) for _, here, _ in running]


def exported(revision: str, folder: Path) -> Path:
    """Copy a revision's src into a folder, and return it there.

    Raises:
        RuntimeError: Git knows no such revision.
    """
    root = HERE.parents[1]
    if revision == WORKING_TREE:
        shutil.copytree(root / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        archive = subprocess.run(["git", "archive", "--format=tar", revision, "src"], cwd=root, capture_output=True)
        if archive.returncode:
            raise RuntimeError(f"git archive {revision}: {archive.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")  # makes the folder
    return folder / "src"


def differences(old: Any, new: Any, what: str = "") -> Iterator[Difference]:
    """Yield what differs between two JSON values, deepest first, and what only one has, at its highest point.

    Lists of objects with a name, key, subject or id are compared by it, lists of text like files, other lists by place;
    a list of numbers is one difference, its first.
    """
    if isinstance(old, list) and isinstance(new, list):
        named = [_by_identity(old), _by_identity(new)]
        if all(n is not None for n in named):
            yield from _of_order(list(named[0] or ()), list(named[1] or ()), what)
            old, new = named
        elif all(isinstance(v, str) for v in old + new):
            yield from _of_text(old, new, what)
            return
        elif len(old) == len(new) and not any(isinstance(v, list | dict) for v in old + new):
            yield from _of_numbers(old, new, what)
            return
        elif len(old) == len(new):
            old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            inner = f"{what}/{key}" if what else str(key)
            one, other = old.get(key, ABSENT), new.get(key, ABSENT)
            if one is ABSENT or other is ABSENT:
                yield Difference(inner, one, other)
            else:
                yield from differences(one, other, inner)
    elif _unlike(old, new):
        yield Difference(what, old, new)


def lines(found: Iterator[Difference], *, allow_new: bool) -> list[str]:
    """Return one line per difference; what only one revision has is told once per name, however often it is missing."""
    told: list[str] = []
    lacking: dict[tuple[str, str], list[str]] = {}
    for difference in found:
        if difference.old is ABSENT:
            lacking.setdefault(("NEW", difference.what.rsplit("/", 1)[-1]), []).append(difference.what)
        elif difference.new is ABSENT:
            lacking.setdefault(("OLD", difference.what.rsplit("/", 1)[-1]), []).append(difference.what)
        else:
            told.append(str(difference))
    for (side, name), places in lacking.items():
        if side == "OLD" or not allow_new:
            told.append(f"{name}: only in {side}, at {places[0]}" + _and_more(len(places) - 1))
    return told


def _and_more(count: int) -> str:
    return f" and {count} more places" if count > 1 else " and one more place" if count else ""


def _by_identity(values: list[Any]) -> dict[str, Any] | None:
    """Return a list's objects by what names them, or None if they have no names or share them."""
    for identity in IDENTITIES:
        if values and all(isinstance(v, dict) and identity in v for v in values):
            named = {str(v[identity]): v for v in values}
            return named if len(named) == len(values) else None
    return None


def _of_order(old: list[str], new: list[str], what: str) -> Iterator[Difference]:
    """Yield a difference if what both lists have stands in another order."""
    both = [[k for k in old if k in new], [k for k in new if k in old]]
    if both[0] != both[1]:
        yield Difference(f"order of {what}", *both)


def _of_text(old: list[str], new: list[str], what: str) -> Iterator[Difference]:
    """Yield the lines that differ; a line that only one side has carries its text in its name."""
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        shared = min(b - a, d - c)
        for i in range(shared):
            yield Difference(f"{what}, line {a + i + 1}", old[a + i], new[c + i])
        for i in range(a + shared, b):
            yield Difference(f"{what}, line {i + 1}, {_short(old[i])}", old[i], ABSENT)
        for i in range(c + shared, d):
            yield Difference(f"{what}, line {i + 1}, {_short(new[i])}", ABSENT, new[i])


def _of_numbers(old: list[Any], new: list[Any], what: str) -> Iterator[Difference]:
    """Yield the first of the values that differ, and how many do."""
    unlike = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if _unlike(a, b)]
    if unlike:
        first = unlike[0]
        yield Difference(f"{what}, {len(unlike)} of {len(old)} values, first at {first}", old[first], new[first])


def _unlike(old: Any, new: Any) -> bool:
    return type(old) is not type(new) or old != new


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, start: int = 0) -> str:
    end = start + LONGEST
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")


if __name__ == "__main__":
    sys.exit(main())
