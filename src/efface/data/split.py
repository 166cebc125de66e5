"""A data set seen under a request: forget, retain, validation and test, as indices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from efface.data.counts import Counts
from efface.data.data import Data
from efface.data.labels import sorted_by_class
from efface.data.part import Part
from efface.errors import DataAccessError, InputError
from efface.request import Request, Resolved

__all__ = ["Split", "held_out_of"]

_KINDS = frozenset({"forget", "retain", "validation", "test"})


NAMED = 3
"""Ids that a request's words list: they stand in titles."""


class _Positions(NamedTuple):
    """Sorted positions in the training set, int64: found once, in one pass, however often a part is asked for."""

    forget: np.ndarray
    retain: np.ndarray
    train: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True, eq=False)
class Split:
    """The parts of a data set under a request; without a request everything is retained.

    Make one with `Split.of`. The parts of training data are disjoint: forget, retain and validation. Validation data is
    held out of training, stratified by class, and depends on the seed only, never on the request: it can choose
    hyper-parameters and stop a method. Items that were asked for but lie in the validation part were never trained
    on; they are left out of every part, and counted in `counts`.

    Attributes:
        data: The whole data set.
        request: What is to be forgotten, or None.
        validation_fraction: Share of each class's training samples held out.
        seed: Seed of that choice.
        resolved: The request's indices, classes and fingerprint.
        held_out: Positions of the validation part in the training set.
        gone: Positions that other requests named, and this one did not first; they are in no part.
        gone_classes: Classes that other requests named; neither forgotten now nor retained.
        counts: What became of the records asked for; None without a request.
        allowed: Kinds of parts that may be touched; see `only`.
        user: Who may touch them; for the error.
    """

    data: Data
    request: Request | None
    validation_fraction: float
    seed: int
    resolved: Resolved | None
    held_out: np.ndarray
    gone: np.ndarray
    gone_classes: tuple[int, ...] = ()
    counts: Counts | None = None
    _positions: _Positions = _Positions(*[np.empty(0, np.int64)] * 4)
    allowed: frozenset[str] = _KINDS
    user: str = "this code"

    @classmethod
    def of(
        cls,
        data: Data,
        request: Request | None = None,
        validation: float = 0.1,
        seed: int = 0,
        earlier: Sequence[Request] = (),
        later: Sequence[Request] = (),
    ) -> Split:
        """Split a data set under a request.

        Args:
            data: The data set.
            request: What to forget; None keeps everything.
            validation: Fraction of each class's training samples to hold out, in [0, 1).
            seed: Seed of the held-out choice.
            earlier: Requests already served; what they name is neither forgotten again nor retained.
            later: Requests served since this one was, to look at it again: what they name is not retained either.

        Raises:
            InputError: The request does not fit the data (see `Request.resolve`), the fraction is out of range, or
                nothing that was trained on is meant.
        """
        if not 0 <= validation < 1:
            raise InputError(f"validation fraction {validation}; allowed: from 0 up to, not including, 1")
        held_out = held_out_of(data, validation, seed)
        resolved = None if request is None else request.resolve(data)
        before, since = ([r.resolve(data) for r in requests] for requests in (earlier, later))
        if resolved is not None:
            _check_new(resolved, before, data)
        own = np.empty(0, np.int64) if resolved is None else resolved.indices
        gone = np.flatnonzero(
            _mask(len(data.train), *(r.indices for r in before), *(np.setdiff1d(r.indices, own) for r in since))
        )
        gone_classes = tuple(sorted({c for r in (*before, *since) for c in r.classes}))
        positions, counts = _positions_of(data, request, resolved, held_out, gone)
        if resolved is not None and len(positions.forget) == 0:
            raise InputError(
                "everything asked for lies in the validation part and was never trained on; nothing to do. If the "
                "model was trained on all data, say so with validation=0"
            )
        if len(positions.retain) == 0:
            raise InputError("nothing would be left to retain after this request; delete the model instead")
        return cls(data, request, validation, seed, resolved, held_out, gone, gone_classes, counts, positions)

    def only(self, kinds: Iterable[str], user: str) -> Split:
        """Return the same split in which every other kind of part raises `DataAccessError` when touched.

        Args:
            kinds: Some of `forget`, `retain`, `validation`, `test`.
            user: Name of the method, for the error.
        """
        return dataclasses.replace(self, allowed=frozenset(kinds) & self.allowed, user=user)

    @property
    def forget_classes(self) -> tuple[int, ...]:
        """Class numbers to forget; empty for a request of items."""
        return () if self.resolved is None else self.resolved.classes

    @property
    def retain_classes(self) -> tuple[int, ...]:
        """All other class numbers, less those that other requests named."""
        dropped = {*self.forget_classes, *self.gone_classes}
        return tuple(c for c in range(len(self.data.classes)) if c not in dropped)

    @property
    def canaries_left(self) -> np.ndarray:
        """Positions of the canaries that neither this request nor earlier ones named."""
        planted = self.data.canaries
        if planted is None:
            return np.empty(0, np.int64)
        return np.setdiff1d(planted.positions, np.concatenate([self._positions.forget, self.gone]))

    @property
    def forget_ids(self) -> tuple[str, ...]:
        """What the data calls the records to forget, as text; empty for whole classes, and for data without ids."""
        if self.data.ids is None or self.request is None or self.forget_classes:
            return ()
        return tuple(self.data.ids[self._positions.forget].tolist())

    @property
    def request_text(self) -> str:
        """The request in a few words; items by what the data calls them, too, where it does."""
        if self.request is None:
            return ""
        text, items, ids = self.request.describe(), self.request.items, self.data.ids
        if not items or ids is None:
            return text
        named = list(dict.fromkeys(ids[list(items)].tolist()))
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        return f"{text} ({', '.join(named[:NAMED])}{more})"

    @property
    def forget(self) -> Part:
        """Training samples to forget."""
        self._touch("forget")
        return Part("forget", self.data.train, self._positions.forget)

    @property
    def retain(self) -> Part:
        """Training samples to keep."""
        self._touch("retain")
        return Part("retain", self.data.train, self._positions.retain)

    @property
    def train(self) -> Part:
        """Everything the original model is trained on: forget and retain together."""
        self._touch("forget", "retain")
        return Part("train", self.data.train, self._positions.train)

    @property
    def validation(self) -> Part:
        """Held-out training samples, less those a request of items names."""
        self._touch("validation")
        return Part("validation", self.data.train, self._positions.validation)

    @property
    def validation_retain(self) -> Part:
        """Held-out training samples of kept classes."""
        return dataclasses.replace(self.validation.of_class(*self.retain_classes), name="validation (kept classes)")

    @property
    def validation_forget(self) -> Part:
        """Held-out training samples of forgotten classes; empty for a request of items."""
        return dataclasses.replace(self.validation.of_class(*self.forget_classes), name="validation (forgotten)")

    @property
    def test(self) -> Part:
        """The test set."""
        self._touch("test")
        return Part("test", self.data.test, np.arange(len(self.data.test)))

    @property
    def test_retain(self) -> Part:
        """Test samples of kept classes."""
        return dataclasses.replace(self.test.of_class(*self.retain_classes), name="test (kept classes)")

    @property
    def test_forget(self) -> Part:
        """Test samples of forgotten classes; empty for a request of items."""
        return dataclasses.replace(self.test.of_class(*self.forget_classes), name="test (forgotten)")

    @property
    def positions(self) -> dict[str, np.ndarray]:
        """Positions in the training set of the forget, retain and validation parts; knowing them touches no sample."""
        return {kind: getattr(self._positions, kind) for kind in ("forget", "retain", "validation")}

    def _touch(self, *kinds: str) -> None:
        undeclared = [k for k in kinds if k not in self.allowed]
        if undeclared:
            declared = ", ".join(sorted(self.allowed)) or "no data"
            raise DataAccessError(f"{self.user} touched {' and '.join(undeclared)} data; it declared {declared}")


def _check_new(resolved: Resolved, before: Sequence[Resolved], data: Data) -> None:
    way_out = "; leave it out. Whether it is still forgotten is asked by: efface audit --all-requests"
    again = [data.classes[c] for c in resolved.classes if any(c in r.classes for r in before)]
    if again:
        raise InputError(
            f"class {', '.join(again)} was already forgotten by an earlier request of this artifact{way_out}"
        )
    gone = _mask(len(data.train), *(r.indices for r in before))
    if gone[resolved.indices].all():
        raise InputError(f"everything asked for was already forgotten by earlier requests of this artifact{way_out}")


def held_out_of(data: Data, validation: float, seed: int) -> np.ndarray:
    """Return the sorted positions held out: of each class in turn, a rounded share drawn without replacement."""
    labels = data.train_labels[: data.own_size]  # canaries are for training
    rng = np.random.default_rng([seed, 0x5EED])
    sizes = np.bincount(labels, minlength=len(data.classes))
    by_class = np.split(sorted_by_class(labels), np.cumsum(sizes)[:-1])
    chosen = [rng.permutation(rows)[: round(validation * len(rows))] for rows in by_class]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _mask(size: int, *positions: np.ndarray) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    for chosen in positions:
        mask[chosen] = True
    return mask


def _positions_of(
    data: Data, request: Request | None, resolved: Resolved | None, held_out: np.ndarray, gone: np.ndarray
) -> tuple[_Positions, Counts | None]:
    size = len(data.train)
    wanted = _mask(size, *(() if resolved is None else (resolved.indices,)))
    unseen, served = _mask(size, held_out), _mask(size, gone)
    trained = ~(unseen | served)
    kept = unseen & ~served if resolved is None or resolved.classes else unseen & ~served & ~wanted
    positions = _Positions(*map(np.flatnonzero, (trained & wanted, trained & ~wanted, trained, kept)))
    if request is None:
        return positions, None
    found, forgotten, already = (int(m.sum()) for m in (wanted, trained & wanted, served & wanted))
    in_test, repeated = request.in_test(data), request.repeated
    canaries = 0 if data.canaries is None else int((trained & wanted)[data.own_size :].sum())
    counts = Counts(
        asked=found + in_test + repeated,
        found=found,
        forgotten=forgotten,
        untrained=found - forgotten - already,
        already=already,
        in_test=in_test,
        repeated=repeated,
        canaries=canaries,
    )
    return positions, counts
