"""Data sets in an .npz file of plain arrays."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from efface.data.data import Data
from efface.data.labels import class_names
from efface.data.samples import ArraySamples
from efface.errors import InputError

__all__ = ["arrays"]


def arrays(
    path: str | Path,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Read an .npz with x_train, y_train, x_test, y_test and, if present, ids, groups, test_groups and meta_* columns.

    uint8 images may be N x H x W x C (C = 1 or 3), N x C x H x W or N x H x W; floats of any shape pass as they are.

    Args:
        path: The .npz file; object arrays are refused, so nothing is unpickled.
        classes: Class names; otherwise the numbers up to the largest label, see `class_names`.
        mean: Per-channel mean to subtract after scaling to [0, 1].
        std: Per-channel divisor.

    Raises:
        InputError: The file is missing, is not such an .npz, or its arrays do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path}; needed: an .npz with x_train, y_train, x_test, y_test")
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {k: file[k] for k in file.files}
    except _UNREADABLE as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is not a readable .npz of plain arrays: {first}") from None
    missing = [k for k in ("x_train", "y_train", "x_test", "y_test") if k not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(content))}")
    train = ArraySamples(_channels_first(content["x_train"]), content["y_train"], mean, std)
    test = ArraySamples(_channels_first(content["x_test"]), content["y_test"], mean, std)
    return Data(
        path.stem,
        train,
        test,
        class_names(classes, train.labels, test.labels),
        content.get("groups"),
        {k.removeprefix("meta_"): v for k, v in content.items() if k.startswith("meta_")},
        ids=content.get("ids"),
        options={"classes": classes, "mean": mean, "std": std},
        test_groups=content.get("test_groups"),
    )


# What numpy and zipfile raise on bytes that are no such file; each was met with an altered one. NotImplementedError, of
# a zip whose header asks for a later version or another compression, is a RuntimeError.
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def _channels_first(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.uint8:
        return x
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x
