"""Every method by name: the files of this folder, looked into, and what other packages or this process add."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any

from pydantic import TypeAdapter, ValidationError

from efface import methods as room
from efface.errors import InputError, InputWarning, explain, nearest
from efface.methods.method import Method
from efface.running.imported import imported, path_of

__all__ = ["GROUP", "VARIABLE", "describe", "make", "method_of", "methods", "name_of", "named", "register"]

GROUP = "efface.methods"
"""Entry points under which installed packages offer methods."""

VARIABLE = "EFFACE_METHODS"
"""Environment variable with import paths of further methods, separated by commas; other processes inherit it."""

EXAMPLE = "Write my_package:MyMethod for the class `MyMethod` in my_package.py."

SAID = ("name", "needs", "cost", "memory", "expense", "source")
"""What every method says of itself."""

RESERVED = ("auto", "none", "original", "plain")
"""What commands, records and plans say in place of a method's name."""

_registered: dict[str, type[Method]] = {}


def methods() -> Mapping[str, type[Method]]:
    """Return every concrete method class under its command-line name, sorted by name.

    Built-in ones, those of the entry points `efface.methods` and of `EFFACE_METHODS`, and those registered here.

    Warns:
        InputWarning: A method from elsewhere cannot be used; it is left out.
    """
    found = {**_from_elsewhere(os.environ.get(VARIABLE, "")), **_registered}
    return dict(sorted({**found, **_built_in()}.items()))


@cache
def _built_in() -> Mapping[str, type[Method]]:
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
    return found


@cache
def _from_elsewhere(paths: str) -> Mapping[str, type[Method]]:
    """Return the methods of entry points and of `EFFACE_METHODS`; what cannot be used is warned of once."""
    loaders: list[tuple[str, Callable[[], Any]]] = [
        (f"the entry point {e.name} = {e.value}", e.load) for e in entry_points(group=GROUP)
    ]
    loaders += [
        (f"{VARIABLE} ({path})", partial(imported, path, example=EXAMPLE))
        for path in map(str.strip, paths.split(","))
        if path
    ]
    found: dict[str, type[Method]] = {}
    for where, load in loaders:
        try:
            kind = _checked(load())
        except (ImportError, AttributeError, InputError) as error:
            warnings.warn(f"the method of {where} is left out: {error}", InputWarning, stacklevel=3)
        else:
            found[kind.name] = kind
    return found


def register(kind: type[Method]) -> type[Method]:
    """Make a method of your own known by its name, in this process and in those that it starts.

    Args:
        kind: The class; also as a decorator, `@efface.register` above `@dataclass(frozen=True)`.

    Returns:
        The class itself.

    Raises:
        InputError: It is no complete method, or its name is taken.

    Example:
        >>> import efface
        >>> from efface.methods.logit_mask import LogitMask
        >>> try:
        ...     efface.register(type("Mine", (LogitMask,), {}))
        ... except efface.InputError as error:
        ...     print(error)
        Mine calls itself 'logit-mask', which is a built-in method; give it a name of its own
    """
    kind = _checked(kind)
    other, path = _registered.get(kind.name), path_of(kind)
    if other is not None and other is not kind and path_of(other) != path:  # a notebook's cell may run again
        raise InputError(f"{path_of(other)} is registered as {kind.name!r} already; give {path} a name of its own")
    _registered[kind.name] = kind
    known = [p for p in os.environ.get(VARIABLE, "").split(",") if p]
    if path is not None and kind.__module__ != "__main__" and path not in known:
        os.environ[VARIABLE] = ",".join([*known, path])
    return kind


def _checked(kind: Any) -> type[Method]:
    """Return a class from elsewhere, or refuse it where it is no complete method.

    Raises:
        InputError: What is missing is named.
    """
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        raise InputError(f"{kind!r} is no method: needed is a subclass of efface.methods.method.Method")
    name = kind.__name__
    if inspect.isabstract(kind):
        raise InputError(f"{name} does not say how it forgets: define `forget(self, artifact, split, run)`")
    if missing := [word for word in SAID if not hasattr(kind, word)]:
        raise InputError(f"{name} does not say its {', '.join(missing)}; see `Method` for what each means")
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:
        raise InputError(f"{name} is no frozen dataclass: put @pydantic.dataclasses.dataclass(frozen=True) above it")
    if kind.name in _built_in():
        raise InputError(f"{name} calls itself {kind.name!r}, which is a built-in method; give it a name of its own")
    if kind.name in RESERVED or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind.name):
        raise InputError(f"{name} calls itself {kind.name!r}; a name has small letters, digits and single hyphens")
    return kind


def named(name: str) -> str:
    """Return a method's name; of an import path, after importing and registering the class.

    Args:
        name: A name, which is returned as it is, or `my_package:MyMethod`. Importing runs the user's code: names from
            an artifact's record go to `make`, which imports nothing.

    Raises:
        InputError: There is no such class, or it is no complete method.
    """
    if ":" not in name:
        return name
    kind = imported(name, example=EXAMPLE)
    if kind in _built_in().values():
        return str(kind.name)
    return register(kind).name


def name_of(method: Method) -> str:
    """Return by what other processes find the class of a method: a built-in's name, or an import path.

    Raises:
        InputError: It is defined where nothing can import it.
    """
    kind = type(method)
    if _built_in().get(kind.name) is kind:
        return kind.name
    path = path_of(kind)
    if path is None:
        raise InputError(f"other processes cannot import {kind.__qualname__}: define it at a module's top level")
    return path


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
    """Return a method given by name or import path (with hyper-parameters), or as an instance.

    Raises:
        InputError: See `make` and `named`; or settings were given beside an instance.
    """
    if isinstance(method, Method):
        if settings:
            raise InputError("settings go with a method's name; an instance already has its own")
        return method
    return make(named(method), settings)


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
