"""Which methods the contract is checked on: what `--efface-methods` names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from efface.errors import InputError
from efface.methods.catalogue import method_of, register
from efface.methods.method import Method
from efface.running.imported import imported, imported_module

__all__ = ["subjects_of"]

EXAMPLE = "Write my_package for every method in it, my_package:MyMethod for one, my_package:QUICK for an instance."


def subjects_of(paths: Sequence[str]) -> list[Method]:
    """Return the methods that import paths name, with their default settings; an instance has its own.

    Args:
        paths: `my_package` (every method class that it defines or hands on), `my_package:MyMethod`, or
            `my_package:INSTANCE`; several may stand in one, separated by commas. They are imported, and registered by
            their names.

    Raises:
        InputError: A path leads nowhere, or to no complete method.
    """
    found = [m for path in paths for one in path.split(",") if one.strip() for m in _named(one.strip())]
    names = [m.name for m in found]
    return [m for n, m in enumerate(found) if m.name not in names[:n]]


def _named(path: str) -> list[Method]:
    if ":" in path:
        return [_made(imported(path, example=EXAMPLE))]
    package = path.partition(".")[0]
    kinds = [
        kind
        for _, kind in inspect.getmembers(imported_module(path, example=EXAMPLE), inspect.isclass)
        if issubclass(kind, Method) and not inspect.isabstract(kind) and kind.__module__.partition(".")[0] == package
    ]
    if not kinds:
        raise InputError(
            f"{path} holds no method: no class of its own that derives from efface.methods.method.Method and defines "
            f"`forget`. {EXAMPLE}"
        )
    return [_made(kind) for kind in kinds]


def _made(thing: Any) -> Method:
    if isinstance(thing, Method):
        register(type(thing))
        return thing
    return method_of(register(thing).name, None)
