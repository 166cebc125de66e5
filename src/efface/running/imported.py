"""Code of the user's own, by import path: `my_package:thing`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from efface.errors import InputError, nearest

__all__ = ["imported", "imported_module", "nearest_few", "path_of"]


def imported(path: str, *, example: str) -> Any:
    """Import `package.module:name` or `package.module.name`; the current folder counts as importable.

    Importing runs the module: paths come from a caller, a command line or a plan, never from an artifact's record.

    Args:
        path: What to import.
        example: How to write such a path, for the error.

    Raises:
        InputError: There is no such module, or it has no such name.
    """
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not attribute:
        raise InputError(f"{path!r} is not an import path. {example}")
    found: Any = imported_module(module_name, path, example=example)
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")]
            raise InputError(f"{module_name} has no attribute {attribute!r}. {nearest_few(part, names)}")
        found = getattr(found, part)
    return found


def imported_module(name: str, path: str = "", *, example: str) -> ModuleType:
    """Import a module; the current folder counts as importable. As `imported`, it runs the module.

    Args:
        name: Such as `my_package` or `my_package.part`.
        path: What the user wrote, for the error, if it is more than the name.
        example: How to write it.

    Raises:
        InputError: There is no such module.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # at the end: it finds the user's own module and never hides an installed package
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # the user's module exists, and something that it imports does not
        raise InputError(
            f"{path or name!r}: there is no module {error.name!r} to import; looked on the Python path and in {here}. "
            f"{example}"
        ) from error


def path_of(thing: Any) -> str | None:
    """Return the import path of a class or function; None where another process could not import it.

    Args:
        thing: A class or function, e.g. one that is defined inside of a function, which has no path.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "<unnamed>")
    return None if module is None or "<" in name else f"{module}:{name}"


def nearest_few(name: str, allowed: Sequence[str]) -> str:
    """As `nearest`, for hundreds of names: those that resemble, or the first few."""
    start = re.match(r"[A-Za-z]*", name)
    alike = [other for other in allowed if start and other.lower().startswith(start[0].lower())]
    return nearest(name, (alike or list(allowed))[:12])
