"""Labels as class numbers; other kinds of targets are refused by their names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.errors import InputError
from efface.words import counted

__all__ = ["class_names", "class_numbers", "sorted_by_class"]

MANY = 20
"""So many class numbers without names are looked at: amounts (ages, years, ratings) are integers, too."""

MOST = 1_000_000
"""Classes without names."""

FEW = 5
"""Samples per class, in the median, below which many classes are doubted."""


def class_numbers(labels: Any, size: int, name: str = "") -> Tensor:
    """Return labels as class numbers.

    Args:
        labels: Integers or whole floats, shape (size,) or (size, 1): an array, a tensor, or a sequence of either.
        size: Number of samples.
        name: What they are labels of, for errors.

    Returns:
        (size,) int64 on the CPU.

    Raises:
        InputError: What was given is not one whole number from 0 for each sample; multi-label, one-hot and soft labels,
            masks, names and amounts are told apart.
    """
    where = f"{name}: " if name else ""
    y = _array(labels, where)
    if y.ndim == 2 and y.shape == (size, 1):
        y = y[:, 0]
    if y.ndim > 1 and len(y) == size and y.size:
        raise InputError(where + _several(y))
    if y.ndim != 1 or len(y) != size:
        raise InputError(f"{where}labels have shape {y.shape}; needed: ({size},), one per sample")
    if y.dtype == np.bool_:
        raise InputError(f"{where}labels are truth values; needed: whole class numbers from 0, e.g. labels.astype(int)")
    if y.dtype.kind == "f" and size:
        _check_whole(y, where)
    if size and y.min() < 0:
        raise InputError(f"{where}labels reach down to {int(y.min())}; needed: class numbers from 0")
    if size and y.max() > 2**31:
        raise InputError(f"{where}labels reach up to {int(y.max())}; needed: class numbers, one for each class from 0")
    return torch.from_numpy(y.astype(np.int64))


def sorted_by_class(labels: np.ndarray) -> np.ndarray:
    """Return the positions of class 0 in order, then those of class 1, and so on.

    Args:
        labels: Class numbers, shape (samples,); of up to 65,536 classes their time is linear in the samples.
    """
    narrow = labels.astype(np.min_scalar_type(labels.max(initial=0)))  # of 8 and 16 bits, stable is a radix sort
    return np.argsort(narrow, kind="stable")


def class_names(given: Sequence[Any] | None, *labels: Tensor) -> tuple[str, ...]:
    """Return the class names given, or the numbers up to the largest label.

    Args:
        given: Class names, or None.
        labels: Class numbers of the training set, then of the test set.

    Raises:
        InputError: No names are given, and the labels look like amounts: more than 20 values, with numbers between
            them that no sample has.

    Warns:
        UserWarning: No names are given, and there are more than 20 values with fewer than 5 samples each.
    """
    if given is not None:
        return tuple(map(str, given))
    both = torch.cat(labels)
    values, counts = both.unique(return_counts=True)
    classes = int(values[-1]) + 1
    if classes > MOST:
        raise InputError(
            f"labels reach up to {classes - 1}; needed: class numbers from 0. Number them: names, numbers = "
            "numpy.unique(labels, return_inverse=True), and give the names as classes"
        )
    if len(values) > MANY:
        seen = (
            f"labels take {len(values)} values from {int(values[0])} to {classes - 1}, with {int(counts.median())} "
            "samples each in the median"
        )
        act = (
            "Are they amounts, such as ages? Group them first, e.g. numpy.digitize(labels, edges). "
            "Are they classes? Say so by giving their names: classes=[...]"
        )
        if len(values) < classes:
            raise InputError(f"{seen}; {classes - len(values)} of the numbers from 0 are no sample's. {act}")
        if int(counts.median()) < FEW:
            warnings.warn(f"{seen}. {act}", stacklevel=3)
    return tuple(map(str, range(classes)))


def _array(labels: Any, where: str) -> np.ndarray:
    """Return labels as an array of numbers."""
    if isinstance(labels, Tensor):
        y = labels.detach().cpu().numpy() if labels.dtype != torch.bfloat16 else labels.detach().cpu().float().numpy()
    else:
        if not isinstance(labels, np.ndarray):
            labels = [v.detach().cpu().numpy() if isinstance(v, Tensor) else v for v in labels]
        try:
            y = np.asarray(labels)
        except ValueError:
            raise InputError(
                f"{where}labels have different shapes from sample to sample; needed: one class number for each"
            ) from None
    if y.dtype == object:
        kinds = sorted({type(v).__name__ for v in y.ravel()})
        if all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in y.ravel()):
            return y.astype(np.int64)
        if kinds != ["str"]:
            raise InputError(
                f"{where}labels are of kind {', '.join(kinds)}; needed: one class number from 0 for each sample"
            )
    if y.dtype.kind in "OUS":
        names = ", ".join(repr(str(v)) for v in np.unique(y.astype(str))[:3])
        raise InputError(
            f"{where}labels are names such as {names}; needed: class numbers. Number them: names, numbers = "
            "numpy.unique(labels, return_inverse=True), and give the names as classes"
        )
    if y.dtype.kind not in "iufb":
        raise InputError(f"{where}labels are {y.dtype}; needed: whole class numbers from 0")
    return y


def _check_whole(y: np.ndarray, where: str) -> None:
    finite = np.isfinite(y)
    if not finite.all():
        raise InputError(
            f"{where}{counted(int((~finite).sum()), 'label is', 'labels are')} NaN or infinite, the first at position "
            f"{int(np.flatnonzero(~finite)[0])}; leave these samples out, or label them"
        )
    broken = y != np.round(y)
    if broken.any():
        raise InputError(
            f"{where}labels such as {y[broken][0]:g} are not whole numbers: this looks like regression, and Efface "
            "works on classifiers. Group the amounts into classes, e.g. numpy.digitize(labels, edges)"
        )


def _several(y: np.ndarray) -> str:
    """Say what labels of several numbers per sample are, and what to do."""
    shape = tuple(y.shape[1:])
    if y.ndim > 2:
        return (
            f"labels are masks of shape {shape}, as for segmentation; Efface works on classifiers, with one class "
            "number for each sample"
        )
    sums = y.sum(axis=1)
    binary = bool(np.isin(y, (0, 1)).all())
    if binary and (sums == 1).all():
        return f"labels are one-hot, {shape[0]} numbers for each sample; give their positions: labels.argmax(1)"
    if binary:
        return (
            f"labels are multi-label: {shape[0]} numbers of 0 or 1 a sample, up to {int(sums.max())} of them 1; "
            "Efface works on classifiers with one class for each sample; take one label at a time: labels[:, 0]"
        )
    if y.dtype.kind == "f" and (y >= 0).all() and np.allclose(sums, 1, atol=1e-3):
        return f"labels are soft, {shape[0]} probabilities for each sample; give the likeliest class: labels.argmax(1)"
    return f"labels are {shape[0]} numbers for each sample; needed: one class number"
