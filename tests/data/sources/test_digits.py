"""The digits that come with scikit-learn."""

from __future__ import annotations

import torch

from efface.data import load


def test_digits_are_the_same_every_time_and_stratified() -> None:
    one, two = load("digits"), load("digits")
    assert one.fingerprint == two.fingerprint
    assert (len(one.train), len(one.test), one.input_shape) == (1347, 450, (1, 8, 8))
    assert one.source == "digits"
    shares = torch.bincount(one.test.labels) / torch.bincount(torch.cat([one.train.labels, one.test.labels]))
    assert (shares - 0.25).abs().max() < 0.01
    assert float(one.train.inputs.max()) == 1
    raw = load("digits", normalise=False)
    assert float(raw.train.inputs.max()) == 16
    assert raw.fingerprint != one.fingerprint
    assert load("digits", test_fraction=0.5).options == {"test_fraction": 0.5, "normalise": True}
