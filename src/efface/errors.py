"""The errors that Efface raises on purpose: each says what was given, what is allowed, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "DataAccessError",
    "ForgettingWarning",
    "InputError",
    "InputWarning",
    "NotPreparedError",
    "UnsupportedRequestError",
    "explain",
    "nearest",
]


class InputError(ValueError):
    """Something the caller gave cannot be used; the command line answers it with exit status 2 and writes nothing.

    Example:
        >>> import efface
        >>> try:
        ...     efface.load_data("digit")
        ... except efface.InputError as error:
        ...     print(error)
        unknown data 'digit'. Did you mean 'digits'? Allowed: ...
    """


class UnsupportedRequestError(InputError):
    """A method was asked for something outside its target, e.g. single items of a class-only method."""


class NotPreparedError(InputError):
    """A method needs something that training had to leave behind, e.g. mnemonic codes, and the artifact lacks it."""


class DataAccessError(RuntimeError):
    """A method touched data that it did not declare in its `needs`: a defect of the method, not of the input."""


class ForgettingWarning(UserWarning):
    """A method ended without an error, but what it made has not forgotten, or records asked for are not among it.

    Example:
        >>> import efface, warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", efface.ForgettingWarning)  # from here on, an error
    """


class InputWarning(UserWarning):
    """Something given can be used, but is probably not what was meant; the record notes it, too."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return the closing words of an "unknown name" error: the nearest allowed name, then all of them.

    Args:
        name: What was given.
        allowed: Every name that would have been accepted.
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(names)}."


PLAIN = {
    "Value error, ": "",
    "Input should be a valid tuple": "must be a list",
    "Input should ": "must ",
    "String should ": "must ",
    "Value should ": "must ",
    "Tuple should ": "must ",
    "List should ": "must ",
    "Field required": "is missing",
}
"""How pydantic's messages begin, and how a sentence about a field would go on."""


SHOWN = 200
"""Most characters of a value that a message repeats."""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _plainly(message: str) -> str:
    begins = next((begins for begins in PLAIN if message.startswith(begins)), "")
    return PLAIN.get(begins, "") + message.removeprefix(begins)


UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
"""Pydantic's names of the error that a field does not exist."""


def explain(error: ValidationError, known: Iterable[str] = ()) -> str:
    """Say a pydantic validation error in one line, one clause per field, without pydantic's own links.

    Args:
        error: What pydantic raised.
        known: Names of the fields that exist, to say which one was probably meant.
    """
    clauses, names = [], list(known)
    for e in error.errors(include_url=False):
        where = ".".join(map(str, e["loc"]))
        if names and len(e["loc"]) == 1 and e["type"] in UNKNOWN:
            clauses.append(f"there is no {where!r}. {nearest(where, names)}")
            continue
        given = "" if e["type"] in {"missing", "value_error", "json_invalid"} else f" (given: {_short(e['input'])})"
        said = _plainly(e["msg"])
        joint = " " if said.startswith(("must ", "is ")) else ": "
        clauses.append((f"{where}{joint}" if where else "") + said + given)
    return "; ".join(clauses)
