"""Data sets by the names that the command line and plans use."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from efface.data.data import Data
from efface.data.sources.arrays import arrays
from efface.data.sources.digits import digits
from efface.errors import InputError, nearest

__all__ = ["IMAGES", "SOURCES", "load"]


def _later(name: str, module: str) -> Callable[..., Data]:
    def source(**options: Any) -> Data:
        found: Data = getattr(importlib.import_module(module), name)(**options)
        return found

    source.__name__ = name
    source.__doc__ = f"See `{module}.{name}`; torchvision is imported only then."
    return source


SOURCES: dict[str, Callable[..., Data]] = {
    "digits": digits,
    "arrays": arrays,
    "table": _later("table", "efface.data.sources.table"),
    "mnist": _later("mnist", "efface.data.sources.mnist"),
    "cifar10": _later("cifar10", "efface.data.sources.cifar"),
    "cifar100": _later("cifar100", "efface.data.sources.cifar"),
    "image_folder": _later("image_folder", "efface.data.sources.image_folder"),
    "manifest": _later("manifest", "efface.data.sources.manifest"),
    "huggingface": _later("huggingface", "efface.data.sources.huggingface"),
}
"""Every source by the name that the command line and plans use."""

IMAGES = ("image_folder", "manifest", "huggingface")
"""Sources of images in files: they take what `efface.preprocessing` returns, and `skip_bad`."""

_WITHOUT_ROOT = {"digits"}


def load(name: str, root: str | Path | None = None, download: bool = False, **options: Any) -> Data:
    """Load a data set by name.

    Args:
        name: One of `SOURCES`.
        root: Folder of the data (a file for `arrays`); digits needs none.
        download: Allow torchvision to fetch what is missing.
        options: Passed to the source, e.g. `normalise=False`.

    Raises:
        InputError: The name or an option is unknown, or the source cannot be read.

    Example:
        >>> import efface
        >>> data = efface.load_data("digits")
        >>> len(data.train), len(data.test), len(data.classes)
        (1347, 450, 10)
    """
    if name not in SOURCES:
        raise InputError(f"unknown data {name!r}. {nearest(name, SOURCES)}")
    if name in _WITHOUT_ROOT:
        arguments = dict(options)
    elif root is None:
        raise InputError(f"data {name!r} needs a root: the folder (or .npz file) it is read from")
    elif name == "arrays":
        arguments = {"path": root, **options}
    elif name in {*IMAGES, "table"}:
        arguments = {"root": root, **options}
    else:
        arguments = {"root": root, "download": download, **options}
    try:
        return dataclasses.replace(SOURCES[name](**arguments), source=name)
    except TypeError as error:
        raise InputError(f"data {name!r}: {error}") from None
