import numpy as np
import pytest

from efface.errors import InputError
from efface.figures.points import front, points, spread

AT = {"a": (1.0, 0.5), "b": (2.0, 0.9), "c": (3.0, 0.9), "d": (0.5, 0.1), "e": (4.0, 0.4)}


def test_the_front_is_what_no_point_beats():
    assert front(AT) == ["d", "a", "b"]
    assert front({"a": (1.0, 1.0), "b": (1.0, 1.0)}) == ["a", "b"]  # neither beats the other
    assert front({}) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_point_off_the_front_is_beaten_by_one_on_it(seed):
    numbers = np.random.default_rng(seed).integers(0, 5, (seed, 2))
    at = {str(i): (float(x), float(y)) for i, (x, y) in enumerate(numbers)}
    on = front(at)
    for name, (x, y) in at.items():
        beaten = any(at[o][0] <= x and at[o][1] >= y and at[o] != (x, y) for o in on)
        assert beaten == (name not in on)


@pytest.mark.parametrize("seed", range(50))
def test_names_keep_their_distance_order_and_frame(seed):
    chance = np.random.default_rng(seed)
    heights = np.sort(chance.random(chance.integers(1, 12)))
    gap = chance.random() / len(heights)
    moved = np.array(spread(list(heights), gap))
    assert (np.diff(moved) >= gap - 1e-9).all()
    assert moved.min() >= -1e-9
    assert moved.max() <= 1 + 1e-9


def test_names_that_have_room_stay_where_they_are():
    assert spread([0.2, 0.5, 0.9], 0.1) == pytest.approx([0.2, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_points_lie_where_they_were_given_and_names_do_not_overlap():
    figure = points({k: (x / 10, y) for k, (x, y) in AT.items()}, x_label="x", y_label="y", reference="b")
    (axes,) = figure.axes
    found = {tuple(line.get_xydata()[0]) for line in axes.lines}
    assert found == {(x / 10, y) for x, y in AT.values()}
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(AT)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_times_are_logarithmic_and_must_be_positive():
    assert points(AT, x_label="x", y_label="y", seconds=True, edge=front(AT)).axes[0].get_xscale() == "log"
    for bad in ({"a": (0.0, 0.5)}, {"a": (float("nan"), 0.5)}, {}):
        with pytest.raises(InputError):
            points(bad, x_label="x", y_label="y", seconds=True)
