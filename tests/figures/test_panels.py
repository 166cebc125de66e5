import numpy as np
import pytest

from efface.errors import InputError
from efface.figures.panels import class_panels

NAMES = ("zero", "one")


def test_each_panel_has_its_bars_and_the_references_ticks():
    shares = {name: [0.1 * i, None] for i, name in enumerate("abcd", start=1)}
    figure = class_panels(NAMES, shares, [0.8, 0.9], marked=[1])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list("abcd")
    for i, axes in enumerate(shown, start=1):
        (bars,) = axes.containers
        np.testing.assert_allclose([bar.get_width() for bar in bars], [0.1 * i, np.nan])
        ticks = [segment[0][0] for segment in axes.collections[0].get_segments()]
        np.testing.assert_allclose(ticks, [0.8, 0.9])


def test_lengths_must_fit():
    for shares, reference in (({"a": [0.1]}, None), ({}, None), ({"a": [0.1, 0.2]}, [0.5])):
        with pytest.raises(InputError, match="one for each class"):
            class_panels(NAMES, shares, reference)
