"""scikit-learn's handwritten digits, embedded."""

from __future__ import annotations

import numpy as np

from efface.data.data import Data
from efface.data.samples import ArraySamples

__all__ = ["digits"]


def digits(test_fraction: float = 0.25, normalise: bool = True) -> Data:
    """Return scikit-learn's 1,797 handwritten 8 x 8 digits: embedded, so no network and no files.

    Args:
        test_fraction: Share of each class in the test set; which samples is fixed.
        normalise: Scale pixel values 0..16 to [0, 1].
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x = bunch.images.astype(np.float32)[:, None] / (16 if normalise else 1)
    x_train, x_test, y_train, y_test = train_test_split(
        x, bunch.target, test_size=test_fraction, stratify=bunch.target, random_state=0
    )
    return Data(
        "digits",
        ArraySamples(x_train, y_train),
        ArraySamples(x_test, y_test),
        tuple(map(str, range(10))),
        options={"test_fraction": test_fraction, "normalise": normalise},
    )
