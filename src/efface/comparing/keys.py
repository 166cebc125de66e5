"""What a finished cell depends on, as a digest: a cell whose digest is the same need not be computed again."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from efface.comparing.plan import ORIGINAL, Cell, Plan
from efface.data import Data
from efface.errors import InputError
from efface.methods.catalogue import methods, named
from efface.methods.method import Method
from efface.methods.retrain import Retrain
from efface.request import ABOUT, Request

__all__ = ["RESULTS", "Keys", "content_of", "method_source"]

RESULTS = 2
"""Raised with every change by which Efface computes other numbers, outside of methods and what only they stand on."""

FOLLOWED = ("methods", "mechanisms", "importance", "curvature")
"""Rooms whose files are part of the source of the methods that import them; the others change with `RESULTS`."""


@dataclass(frozen=True)
class Keys:
    """The digests of a plan's cells on given data.

    Attributes:
        plan: What is compared.
        data: `content_of` the data that was loaded, not where it lies.
    """

    plan: Plan
    data: str

    def original(self, cell: Cell) -> str:
        """Return the digest of everything that a cell's original depends on."""
        content = self.plan.model_dump(mode="json", include={"model", "recipe"})
        content |= cell.model_dump(mode="json", include={"train", "seed"})
        if cell.plain is None:
            del content["train"]["fine_tune"]  # plans of earlier versions have no such field
        content |= {"data": self.data, "validation": self.plan.data.validation, "results": RESULTS}
        if self.plan.model.weights is not None:
            content["weights"] = _file(self.plan.model.weights)
        if ":" in self.plan.model.build or "." in self.plan.model.build:
            content["builder"] = _module(self.plan.model.build)
        if cell.train.method is not None:
            content["preparation"] = method_source(cell.train.method)
        return _digest(content)

    def references(self, cell: Cell) -> str:
        """Return the digest of what the references of a cell's original and request depend on."""
        content = {"original": self.original(cell), "request": _asked(cell.request)}
        return _digest(content | {"source": method_source(Retrain.name)})

    def cell(self, cell: Cell) -> str:
        """Return the digest of everything that a cell's result depends on."""
        content = self.plan.model_dump(mode="json", include={"measures", "sampled", "references", "audit"})
        content |= cell.model_dump(mode="json", include={"method", "settings"})
        content |= {"original": self.original(cell), "request": _asked(cell.request)}
        if own := {name: _module(name) for name in self.plan.measures if ":" in name}:
            content["own measures"] = own
        if cell.method != ORIGINAL:
            content["source"] = method_source(cell.method)
        if self.plan.references or cell.method != ORIGINAL:  # for references, and for retraining for as long
            content["retraining"] = method_source(Retrain.name)
        return _digest(content)


def content_of(data: Data) -> str:
    """Return a digest of all data that a cell may read: the fingerprint, where it says all; else further columns, too.

    Groups, ids and metadata say which records a request means. Images that are read when they are asked for count with
    their files' bytes, of which the fingerprint knows the number only.
    """
    own = (("groups", data.groups), ("ids", data.ids), ("test groups", data.test_groups))
    columns = [*own, *((f"metadata {name}", column) for name, column in sorted(data.metadata.items()))]
    known = [(name, column) for name, column in columns if column is not None]
    files = [file for samples in (data.train, data.test) for file in getattr(samples, "files", ())]
    if not known and not files:
        return data.fingerprint
    digest = hashlib.sha256(data.fingerprint.encode())
    for name, column in known:
        digest.update(json.dumps([name, [str(value) for value in column.tolist()]]).encode())
    for file in files:
        digest.update(_file(file).encode())
    return digest.hexdigest()


def method_source(name: str) -> str:
    """Return the SHA-256 of a method's file and of the files that it imports from the rooms that serve methods.

    Args:
        name: Of the method, or its import path; one from another package counts with the files of that package that it
            imports.

    Raises:
        InputError: A method was typed in, so that there is no file.
    """
    return _source(methods()[named(name)])


@cache
def _source(kind: type[Method]) -> str:
    """Return the source of a class; of one that a notebook's cell defines anew, anew."""
    digest = hashlib.sha256()
    if kind.__module__ == "__main__":  # a script or a notebook: there is nothing to follow imports by
        try:
            return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
        except (OSError, TypeError):
            raise InputError(
                f"the source of {kind.__name__} is not to be found, so that its finished cells could not be told from "
                "those of a changed one; define it in a file"
            ) from None
    for file in sorted(_with_imports(kind.__module__, {})):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _with_imports(module: str, seen: dict[str, Path]) -> list[Path]:
    """Return a module's file and those that it imports, directly or not, of `FOLLOWED` or of its own package."""
    spec = _spec(module)
    if module in seen or spec is None or spec.origin is None:
        return []
    seen[module] = Path(spec.origin)
    package = module.partition(".")[0]
    for imported in _imports(seen[module], spec.parent or ""):
        first, second = (*imported.split("."), "")[:2]
        if (first == "efface" and second in FOLLOWED) or first == package != "efface":
            _with_imports(imported, seen)
    return list(seen.values())


def _spec(module: str) -> ModuleSpec | None:
    """Find a module by its name; None if there is none, as for a function's name behind that of its module."""
    package = module.rpartition(".")[0]
    if package and ((found := _spec(package)) is None or found.submodule_search_locations is None):
        return None
    return importlib.util.find_spec(module)


def _imports(file: Path, package: str) -> Iterator[str]:
    """Yield what a file imports; of `from a import b` both `a` and `a.b`, of which either may be the module."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield name
            if name != "efface":  # whose rooms hand names on and define nothing
                yield from (f"{name}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _asked(request: Request) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude=set(ABOUT))


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else f"no file at {path}"


def _module(build: str) -> str:
    """Return the content of the file that holds a user's builder; empty for a package's, whose version is enough."""
    name = build.partition(":")[0]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    return "" if spec is None or spec.origin is None else _file(Path(spec.origin))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
