"""What to forget, as data: classes, items, groups, or a condition on metadata."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from efface.errors import InputError, explain, nearest
from efface.fields import Fields
from efface.notebook import card
from efface.predicate import Predicate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

__all__ = ["ABOUT", "Request", "Resolved"]

Kind = Literal["classes", "items", "ids", "groups", "where"]

_KINDS: tuple[Kind, ...] = ("classes", "items", "ids", "groups", "where")

ABOUT = frozenset({"reason", "requested_at", "requested_by", "ticket"})
"""Fields that are kept in the record and say nothing about what to forget."""


SHOWN = 8
"""Most values that a request's words name."""


class _Few(tuple[Any, ...]):
    """Values of which three are shown."""

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self[:3]))}, ... {len(self):,} of them)"


class _Planted(Protocol):
    """Where canaries stand in a training set, and which records they are copies of; see `efface.data.canaries`."""

    @property
    def positions(self) -> np.ndarray: ...
    @property
    def sources(self) -> np.ndarray: ...


class _Described(Protocol):
    """The facts about a data set that a request is resolved against; `efface.data.Data` has them."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def train_labels(self) -> np.ndarray: ...
    @property
    def ids(self) -> np.ndarray | None: ...
    @property
    def groups(self) -> np.ndarray | None: ...
    @property
    def test_groups(self) -> np.ndarray | None: ...
    @property
    def metadata(self) -> Mapping[str, np.ndarray]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def canaries(self) -> _Planted | None: ...


class Resolved(NamedTuple):
    """A request seen against one data set.

    Attributes:
        indices: Sorted positions in the training set that are asked for, int64.
        classes: The forgotten classes as sorted class numbers; empty for a request of items.
        fingerprint: SHA-256 of the data set's fingerprint and the indices: equal requests on equal data agree.
    """

    indices: np.ndarray
    classes: tuple[int, ...]
    fingerprint: str


class Request(Fields):
    """A deletion request: exactly one of classes, items, ids, groups or where, plus why, when and by whom.

    Classes, items, ids and groups are lists, arrays or columns of a table; a single value stands for itself.

    Attributes:
        classes: Class numbers or class names; every training sample of them is forgotten.
        items: Positions in the training set; one that is named again is counted (`repeated`) and forgotten once.
        ids: Ids of training samples, for data that has them: an image's path below the root, a row's id. Named again
            they are counted, too.
        groups: Group ids, for data with one group id per item (one person's records).
        where: Metadata column -> value; an item is meant if every column has the value. Or a condition as text, such as
            `subject == "p17" and year < 2020`: see `Predicate`.
        canaries: Forget the canaries of training, too (`train(..., canaries=N)`), so that an audit knows what memorised
            looks like. Without it they stay, but for copies of records that are asked for. Not for classes.
        reason: Free text, kept in the record.
        requested_at: When the request arrived, kept in the record; a report counts the deadline from it.
        requested_by: Who asked, or who passed it on; kept in the record, left out of reports to share.
        ticket: What it is filed under; the same.

    Example:
        >>> import efface
        >>> request = efface.Request(classes=[3], reason="licence withdrawn")
        >>> request.target, efface.Request.model_validate_json(request.model_dump_json()) == request
        ('classes', True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[int | str, ...] = ()
    items: tuple[int, ...] = ()
    ids: tuple[str, ...] = ()
    groups: tuple[int | str, ...] = ()
    where: dict[str, str | int | float | bool] | str = Field(default_factory=dict)
    canaries: bool = False
    reason: str = ""
    requested_at: datetime | None = None
    requested_by: str = ""
    ticket: str = ""

    @field_validator("classes", "items", "ids", "groups", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        """Take one value for a list of one, and arrays, columns of tables and tensors for what they hold."""
        held = given.tolist() if hasattr(given, "tolist") else given
        values = [held] if isinstance(held, str | int) else held
        if isinstance(values, list | tuple) and any(isinstance(value, bool) for value in values):
            raise ValueError("these are truth values; name the records that are meant, e.g. np.flatnonzero(mask)")
        return values

    @model_validator(mode="after")
    def _exactly_one_kind(self) -> Request:
        given = [k for k in _KINDS if getattr(self, k)]
        if len(given) != 1:
            said = "nothing" if not given else " and ".join(given)
            raise ValueError(f"a request names exactly one of classes, items, ids, groups or where; given: {said}")
        if self.canaries and self.classes:
            raise ValueError(
                "canaries go with items, ids, groups or where: they show whether single records were memorised, and a "
                "class has questions of its own"
            )
        for kind, values in (("classes", self.classes), ("groups", self.groups)):
            repeated = sorted(str(v) for v, times in Counter(values).items() if times > 1)
            if repeated:
                raise ValueError(f"{kind} are named more than once: {', '.join(repeated[:5])}; name each once")
        if isinstance(self.where, str) and self.where:
            Predicate(self.where)  # an InputError is a ValueError, which pydantic reports with the field's name
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Yield what was given; of many values the first few."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value:
                yield name, _Few(value) if isinstance(value, tuple) and len(value) > SHOWN else value

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        when = "" if self.requested_at is None else self.requested_at.isoformat(sep=" ", timespec="minutes")
        facts = {"reason": self.reason, "requested by": self.requested_by, "at": when, "ticket": self.ticket}
        return card(f"forget {self.describe()}", facts)

    @property
    def kind(self) -> Kind:
        """Which of the five fields is given."""
        return next(k for k in _KINDS if getattr(self, k))

    @property
    def target(self) -> Literal["classes", "items"]:
        """What a method has to be able to forget: whole classes, or single items (also for groups and conditions)."""
        return "classes" if self.classes else "items"

    @property
    def repeated(self) -> int:
        """How many items or ids are named again after the first time."""
        named = self.items or self.ids
        return len(named) - len(set(named))

    def in_test(self, data: _Described) -> int:
        """Return how many test records the groups asked for have, where the data knows; they were never trained on."""
        return 0 if not self.groups or data.test_groups is None else int(self._in_groups(data.test_groups).sum())

    def describe(self) -> str:
        """Return the request in a few words, e.g. `classes 0, 5` or `1200 items`."""
        return self._named() + (" and the canaries" if self.canaries else "")

    def _named(self) -> str:
        if isinstance(self.where, str) and self.where:
            return f"items where {self.where}"
        if isinstance(self.where, dict) and self.where:
            return "items where " + " and ".join(f"{k} = {v}" for k, v in sorted(self.where.items()))
        values = getattr(self, self.kind)
        if len(values) > SHOWN:
            return f"{len(values)} {self.kind}"
        noun = (
            {"classes": "class", "items": "item", "ids": "id", "groups": "group"}[self.kind]
            if len(values) == 1
            else self.kind
        )
        return f"{noun} {', '.join(map(str, values))}"

    @classmethod
    def of(cls, **fields: object) -> Request:
        """Build a request, turning a validation failure into an `InputError`.

        Raises:
            InputError: Not exactly one kind is given, or an entry is repeated.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InputError(explain(error)) from None

    @classmethod
    def read(cls, path: str | Path) -> Request:
        """Read a request from a JSON file.

        Raises:
            InputError: The file is missing, is not JSON, or does not describe a request.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except FileNotFoundError:
            raise InputError(f"no request file at {path}") from None
        except ValidationError as error:
            raise InputError(f"{path}: {explain(error)}") from None

    def resolve(self, data: _Described) -> Resolved:
        """Turn the request into training-set positions.

        Args:
            data: The data set; its training labels, groups and metadata are looked at, never its inputs.

        Raises:
            InputError: A class, item, group or column does not exist, no training sample is meant, or every class
                (or every sample) is.
        """
        import numpy as np

        labels = data.train_labels
        n = len(labels)
        classes: tuple[int, ...] = ()
        if self.classes:
            classes = tuple(sorted(self._class_number(c, data.classes) for c in self.classes))
            if len(set(classes)) < len(classes):
                raise InputError(f"{self.describe()}: a class is named twice, once by number and once by name")
            absent = [c for c in classes if not (labels == c).any()]
            if absent:
                names = ", ".join(f"{c} ({data.classes[c]})" for c in absent)
                raise InputError(f"the training data holds no sample of class {names}; there is nothing to forget")
            if not set(np.unique(labels).tolist()) - set(classes):
                raise InputError("the request covers every class of the training data; delete the model instead")
            chosen = np.isin(labels, classes)
        elif self.items:
            outside = [i for i in self.items if not 0 <= i < n]
            if outside:
                raise InputError(f"item ids out of range: {outside[:5]}; allowed: 0 to {n - 1}")
            chosen = np.zeros(n, dtype=bool)
            chosen[list(self.items)] = True
        elif self.ids:
            chosen = self._of_ids(data)
        elif self.groups:
            chosen = self._of_groups(data)
        else:
            chosen = self._where(data, n)
        self._with_copies(chosen, data)
        indices = np.flatnonzero(chosen).astype(np.int64)
        if len(indices) == 0:
            raise InputError(f"{self.describe()}: no training sample is meant{self._held(data)}")
        if len(indices) == n:
            raise InputError(f"{self.describe()}: every training sample is meant; delete the model instead")
        digest = hashlib.sha256()
        digest.update(json.dumps([data.fingerprint, self.target, classes]).encode())
        digest.update(indices.astype("<i8").tobytes())
        return Resolved(indices, classes, digest.hexdigest())

    def _held(self, data: _Described) -> str:
        """Say what the columns hold that a condition is about."""
        asked = Predicate(self.where).columns if isinstance(self.where, str) and self.where else sorted(self.where)
        said = []
        for name in asked:
            column = data.metadata[name]
            if column.dtype.kind in "iuf":
                said.append(f"{name} holds {column.min()} to {column.max()}")
                continue
            values = sorted({str(v) for v in column.tolist()})
            more = f" and {len(values) - SHOWN:,} more" if len(values) > SHOWN else ""
            said.append(f"{name} holds {', '.join(values[:SHOWN])}{more}")
        return f"; {'; '.join(said)}" if said else ""

    def _with_copies(self, chosen: np.ndarray, data: _Described) -> None:
        """Add the canaries to what is asked for: all, or those that are copies of a record that is."""
        if data.canaries is not None:
            copied = chosen[data.canaries.sources]
            chosen[data.canaries.positions] |= copied | self.canaries
        elif self.canaries:
            raise InputError(
                "the request names canaries, but the model was trained without any; leave them out, or train with "
                "canaries (--canaries N) so that audits of later requests can use them"
            )

    @staticmethod
    def _class_number(given: int | str, names: tuple[str, ...]) -> int:
        if isinstance(given, int):
            if not 0 <= given < len(names):
                raise InputError(
                    f"unknown class {given}; allowed: 0 to {len(names) - 1}, or a name: {', '.join(names)}"
                )
            return given
        if given in names:
            return names.index(given)
        if given.isdecimal() and int(given) < len(names):
            return int(given)
        raise InputError(f"unknown class {given!r}. {nearest(given, names)}")

    def _of_ids(self, data: _Described) -> np.ndarray:
        import numpy as np

        if data.ids is None:
            raise InputError("the data has no ids of its samples; give `ids` when making the Data, or ask for items")
        known = data.ids.astype(str)
        missing = sorted(set(self.ids) - set(known.tolist()))
        if missing:
            near = difflib.get_close_matches(missing[0], known.tolist()[:10_000], n=1)
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise InputError(
                f"no such id: {', '.join(missing[:5])}{more}; the data has {len(known)} ids such as "
                f"{near[0] if near else known[0]}"
            )
        return np.isin(known, self.ids)

    def _of_groups(self, data: _Described) -> np.ndarray:
        import numpy as np

        if data.groups is None:
            raise InputError(
                "the data has no group ids; give `groups` when making the Data (of a manifest or a table: --data-set "
                "groups=COLUMN), or ask for items"
            )
        known = {str(g) for g in np.unique(data.groups).tolist()}
        missing = [str(g) for g in self.groups if str(g) not in known]
        if missing and data.test_groups is not None and np.isin(data.test_groups.astype(str), missing).any():
            raise InputError(f"group {', '.join(missing[:5])} has no training records, so none to forget")
        if missing:
            raise InputError(f"no such group: {', '.join(missing[:5])}; the data has {len(known)} groups")
        return self._in_groups(data.groups)

    def _in_groups(self, of: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.isin(of.astype(str), [str(g) for g in self.groups])

    def _where(self, data: _Described, n: int) -> np.ndarray:
        import numpy as np

        if isinstance(self.where, str):
            return Predicate(self.where).holds(data.metadata)
        chosen = np.ones(n, dtype=bool)
        for column, value in self.where.items():
            if column not in data.metadata:
                if not data.metadata:
                    raise InputError(f"the data has no metadata, so not {column!r} either; ask for items or classes")
                raise InputError(f"unknown metadata column {column!r}. {nearest(column, data.metadata)}")
            chosen &= np.asarray(data.metadata[column] == value)
        return chosen
