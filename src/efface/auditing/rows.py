"""The models that an audit compares: rows of its table, and further ones that give noise floors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from efface.artifact.record import Record
from efface.errors import InputError, nearest

__all__ = ["AS_LONG", "LEAST_REFERENCES", "Level", "Role", "Row", "Rows"]

LEAST_REFERENCES = 4
"""Retrained models from which level c begins: with fewer, the interval for a further one is too wide."""

AS_LONG = "retrained for as long"
"""Name of the row of a model retrained for the time that the candidate's forgetting took."""

Level = Literal["a", "b", "c"]

Role = Literal["original", "retrained", "baseline", "other", "candidate"]


@dataclass(frozen=True, eq=False)
class Row:
    """A named model.

    Attributes:
        name: What reports call it.
        role: What it is compared as.
        model: From inputs to logits; never changed.
        seconds: Wall time of making it, if known.
        record: How it came to be, if known.
    """

    name: str
    role: Role
    model: nn.Module
    seconds: float | None = None
    record: Record | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """The models of one audit.

    Attributes:
        table: In the table's order: one original, one candidate, at most one retrained model, baselines and others.
        further: More retrained models, same recipe, other seeds.
        repeats: More models trained with the forget data and then unlearned as the candidate was, other seeds.
        notes: Which rows could not be made, and why.

    Raises:
        InputError: A role is missing or taken twice, two rows share a name, or further retrained models come without
            one in the table.
    """

    table: tuple[Row, ...]
    further: tuple[Row, ...] = ()
    repeats: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check roles and names."""
        names = [row.name for row in self.table]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"Two rows are called {twice[0]!r}; give each model a name of its own.")
        for role, least, most in (("original", 1, 1), ("candidate", 1, 1), ("retrained", int(bool(self.further)), 1)):
            found = [row.name for row in self.table if row.role == role]
            if not least <= len(found) <= most:
                raise InputError(
                    f"{len(found)} rows of {', '.join(map(repr, names))} have the role {role!r}; give "
                    f"{'one' if least else 'at most one'}."
                )

    def __iter__(self) -> Iterator[Row]:
        """Yield the table's rows."""
        return iter(self.table)

    def __getitem__(self, name: str) -> Row:
        """Return the row of a name.

        Raises:
            InputError: There is none.
        """
        for row in self.table:
            if row.name == name:
                return row
        raise InputError(f"There is no row {name!r}. {nearest(name, [row.name for row in self.table])}")

    @property
    def original(self) -> Row:
        """The model before forgetting."""
        return next(row for row in self.table if row.role == "original")

    @property
    def candidate(self) -> Row:
        """The model that the verdict is about."""
        return next(row for row in self.table if row.role == "candidate")

    @property
    def retrained(self) -> Row | None:
        """The retrained model of the table."""
        return next((row for row in self.table if row.role == "retrained"), None)

    @property
    def references(self) -> int:
        """How many retrained models there are."""
        return len(self.further) + (self.retrained is not None)

    @property
    def level(self) -> Level:
        """Of evidence: a without retrained models, c from `LEAST_REFERENCES` on, b between."""
        return "a" if not self.references else "c" if self.references >= LEAST_REFERENCES else "b"
