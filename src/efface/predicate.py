"""Conditions on metadata columns, as text: parsed by Python's grammar, never evaluated as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from efface.errors import InputError, nearest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Predicate"]

LONGEST = 10_000
"""Characters of a condition; Python's parser needs a deep stack for deeply nested ones."""

_ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

_ALLOWED = (
    "allowed: columns compared with values by ==, !=, <, <=, >, >=, in, not in, joined by and, or, not and brackets, "
    "e.g. subject == 'p17' and year < 2020"
)


class Predicate:
    """A condition such as `subject == "p17" and year < 2020`.

    Args:
        text: Comparisons of a column with a number, a text or a list of these by ==,
            !=, <, <=, >, >=, in, not in; joined by `and`, `or`, `not` and brackets. A chain `1 <= year < 5` is allowed.

    Raises:
        InputError: The text is anything else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise InputError(f"the condition has {len(text)} characters; allowed: {LONGEST}")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
            self._check(self._tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            said = getattr(error, "msg", None) or type(error).__name__
            raise InputError(f"the condition {_short(text)!r} cannot be read: {said}; {_ALLOWED}") from None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it compares, sorted."""
        return tuple(sorted({node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}))

    def holds(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return for which rows the condition holds, (N,) bool.

        Args:
            columns: Column name -> N values.

        Raises:
            InputError: A column does not exist, or its values cannot be compared with those given.
        """
        return self._of(self._tree, columns)

    def _check(self, node: ast.AST) -> None:
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self._check(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._check(node.operand)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for a, op, b in zip(sides, node.ops, sides[1:], strict=False):
                several = isinstance(op, ast.In | ast.NotIn)
                if isinstance(a, ast.Name) == isinstance(b, ast.Name) or (several and not isinstance(a, ast.Name)):
                    raise self._refusal(node)
                if not several and type(op) not in _ORDERS:
                    raise self._refusal(node)
                value = self._value(b if isinstance(a, ast.Name) else a)
                if several != isinstance(value, list):
                    raise self._refusal(node)
        else:
            raise self._refusal(node)

    def _value(self, node: ast.AST) -> Any:
        """Return the number, text or list that a node is."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            values = [self._value(e) for e in node.elts]
            if any(isinstance(v, list) for v in values):
                raise self._refusal(node)
            return values
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            if sign == -1 and isinstance(node.value, str | bool):
                raise self._refusal(node)
            return node.value if sign == 1 else -node.value  # type: ignore[operator]
        raise self._refusal(node)

    def _refusal(self, node: ast.AST) -> InputError:
        try:
            part = ast.unparse(node)
        except (ValueError, RecursionError):
            part = type(node).__name__
        return InputError(f"the condition {_short(self.text)!r} holds {_short(part)!r}; {_ALLOWED}")

    def _of(self, node: ast.AST, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            joined: np.ndarray = join.reduce([self._of(value, columns) for value in node.values])
            return joined
        if isinstance(node, ast.UnaryOp):
            return ~self._of(node.operand, columns)
        assert isinstance(node, ast.Compare)
        sides = [node.left, *node.comparators]
        parts = [self._compared(*trio, columns) for trio in zip(sides, node.ops, sides[1:], strict=False)]
        found: np.ndarray = np.logical_and.reduce(parts)
        return found

    def _compared(self, a: ast.AST, op: ast.cmpop, b: ast.AST, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        name = a if isinstance(a, ast.Name) else b
        assert isinstance(name, ast.Name)
        column = _column(name.id, columns)
        value = self._value(b if name is a else a)
        for v in value if isinstance(value, list) else [value]:
            if isinstance(v, str) != (column.dtype.kind in "OUS"):
                kind = "text" if column.dtype.kind in "OUS" else "numbers"
                raise InputError(f"column {name.id!r} holds {kind}, but is compared with {v!r}; {_ALLOWED}")
        if isinstance(op, ast.In | ast.NotIn):
            return np.isin(column, value, invert=isinstance(op, ast.NotIn))
        left, right = (column, value) if name is a else (value, column)
        return np.asarray(_ORDERS[type(op)](left, right))


def _column(name: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    if not columns:
        raise InputError(f"the data has no metadata, so not {name!r} either; ask for items or classes")
    if name not in columns:
        raise InputError(f"unknown metadata column {name!r}. {nearest(name, columns)}")
    return columns[name]


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
