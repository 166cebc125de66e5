"""Every method by name, found by looking into the files of this folder: a new file is listed the day it is added."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from efface import methods as room
from efface.errors import InputError, explain, nearest
from efface.methods.method import Method

__all__ = ["describe", "make", "method_of", "methods"]


@cache
def methods() -> Mapping[str, type[Method]]:
    """Return every concrete method class under its command-line name, sorted by name."""
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(room.__path__):
        content = importlib.import_module(f"{room.__name__}.{module.name}")
        for _, kind in inspect.getmembers(content, inspect.isclass):
            if (
                issubclass(kind, Method)
                and not inspect.isabstract(kind)
                and kind.__module__.startswith(content.__name__)
            ):
                found[kind.name] = kind
    return dict(sorted(found.items()))


def make(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """Return a method with the given hyper-parameters; strings are converted to the field's type.

    Raises:
        InputError: The method or a hyper-parameter is unknown (the nearest right name is given), or a value does not
            fit.
    """
    if name not in methods():
        raise InputError(f"unknown method {name!r}. {nearest(name, methods())}")
    kind = methods()[name]
    fields = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for given in settings or {}:
        if given not in fields:
            known = nearest(given, fields) if fields else "It has none."
            raise InputError(f"{name} has no hyper-parameter {given!r}. {known}")
    try:
        made: Method = TypeAdapter(kind).validate_python(dict(settings or {}))
    except ValidationError as error:
        raise InputError(f"{name}: {explain(error)}") from None
    return made


def method_of(method: str | Method, settings: Mapping[str, Any] | None) -> Method:
    """Return a method given by name (with hyper-parameters) or as an instance.

    Raises:
        InputError: See `make`; or settings were given beside an instance.
    """
    if isinstance(method, Method):
        if settings:
            raise InputError("settings go with a method's name; an instance already has its own")
        return method
    return make(method, settings)


def describe() -> list[dict[str, Any]]:
    """Return one row per method: name, targets, reads, prepared, cost, memory, expense, source, and a sentence."""
    return [
        {
            "name": name,
            "targets": list(kind.needs.targets),
            "reads": list(kind.needs.reads),
            "prepared": kind.needs.prepared,
            "cost": kind.cost,
            "memory": kind.memory,
            "expense": kind.expense,
            "source": kind.source,
            "summary": (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " "),
        }
        for name, kind in methods().items()
    ]
