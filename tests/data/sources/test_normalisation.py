"""Normalisation: applied, recorded, and recalled from the record."""

import pytest
import torch

from efface.data import load
from efface.errors import InputError
from tests.data.sources.layouts import everything, write_idx


def test_normalisation_is_applied_recorded_and_loads_the_same_data_again(tmp_path, digits):
    write_idx(tmp_path, digits)
    usual = load("mnist", tmp_path)
    pixels = torch.from_numpy(digits["train"][0])[:, None] / 255
    # One multiplication and one addition in float32, of values up to 3: a few units in the last place.
    torch.testing.assert_close(everything(usual.train), (pixels - 0.1307) / 0.3081, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(everything(load("mnist", tmp_path, normalise=False).train), pixels)
    own = load("mnist", tmp_path, mean=[0.5], std=[0.25])
    torch.testing.assert_close(everything(own.train), (pixels - 0.5) / 0.25)
    assert usual.options == {"normalise": True, "mean": (0.1307,), "std": (0.3081,)}
    prints = set()
    for options in ({}, {"normalise": False}, {"mean": [0.5], "std": [0.25]}):
        data = load("mnist", tmp_path, **options)
        assert load("mnist", tmp_path, **data.options).fingerprint == data.fingerprint
        prints.add(data.fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize(
    "options", [{"normalise": False, "mean": [0.5]}, {"std": [0.0]}, {"mean": [0.1, 0.2]}, {"std": [-1.0]}, {"men": 1}]
)
def test_constants_that_make_no_sense_are_refused(tmp_path, digits, options):
    write_idx(tmp_path, digits)
    with pytest.raises(InputError):
        load("mnist", tmp_path, **options)
