import io
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from efface.errors import InputError
from efface.figures import charts as figures
from efface.figures import heat_maps
from efface.figures.style import _placed, save, svg

NAMES = ("zero", "one", "two")


COUNTS = np.array([[5, 1, 0], [0, 0, 6], [1, 1, 1]])
EVERY_FIGURE = {
    "bars": lambda: figures.class_bars(NAMES, [0.9, 0.8, None], [0.7, 0.0, 0.5], [0.6, 0.1, 0.4], marked=[1]),
    "confusions": lambda: heat_maps.confusions({"before": COUNTS, "after": COUNTS.T}, NAMES, marked=[1]),
    "curves": lambda: figures.curves([0, 1, 2], {"a": [0, 0.5, 1], "b": [1, 0.5]}, x_label="step", y_label="accuracy"),
    "histograms": lambda: figures.histograms({"m": {"forget": [1, 2], "held out": [2, 1]}}, [0, 1, 2]),
    "times": lambda: figures.time_bars(
        {"retrained": 60.0, "mnemonic": 0.002}, reference="retrained", marked="mnemonic"
    ),
    "heat": lambda: heat_maps.heat_map([[0.1, np.nan, 0.3]], [1, 2, 3], [0.5], x_label="lambda_1", y_label="lambda_2"),
}


def words_of(figure) -> str:
    return " ".join(ElementTree.fromstring(svg(figure, "f", "t", "d")).itertext())


def test_bars_have_the_lengths_that_were_given():
    (axes,) = figures.class_bars(NAMES, [0.9, 0.8, None], [0.7, 0.0, 0.5], [0.6, 0.1, 0.4]).axes
    before, after = ([bar.get_width() for bar in group] for group in axes.containers)
    np.testing.assert_allclose(before, [0.9, 0.8, np.nan])
    np.testing.assert_allclose(after, [0.7, 0.0, 0.5])
    ticks = [segment[0][0] for segment in axes.collections[0].get_segments()]
    np.testing.assert_allclose(ticks, [0.6, 0.1, 0.4])


def test_confusion_cells_are_shares_of_the_row_with_the_first_class_on_top():
    counts = np.array([[5, 1, 0], [0, 0, 0], [2, 1, 1]])
    (axes,) = heat_maps.confusions({"m": counts}, NAMES).axes
    shares = axes.collections[0].get_array().reshape(3, 3)
    np.testing.assert_allclose(shares[[0, 2]].filled(), [[5 / 6, 1 / 6, 0], [0.5, 0.25, 0.25]])
    assert shares.mask[1].all()  # no record of this class: no share, rather than 0
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_histograms_are_shares_of_their_part():
    figure = figures.histograms({"m": {"forget": [1, 3], "held out": [30, 10]}}, [0, 1, 2])
    heights = [patch.get_data().values for patch in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [[0.25, 0.75], [0.75, 0.25]])


def test_times_are_logarithmic_and_compared_with_the_reference():
    figure = figures.time_bars({"retrained": 60.0, "mnemonic": 0.5}, reference="retrained")
    assert figure.axes[0].get_xscale() == "log"
    assert "500\u00a0ms · 120× faster" in words_of(figure)


def test_lines_end_in_their_names_without_lying_on_each_other():
    figure = figures.curves([0, 1], {"kept": [1, 0.901], "control": [1, 0.9]}, x_label="s", y_label="a")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 2
    assert not boxes[0].overlaps(boxes[1])


@pytest.mark.parametrize("name", sorted(EVERY_FIGURE))
def test_the_same_drawing_gives_the_same_text_and_file(name, tmp_path):
    first, second = EVERY_FIGURE[name](), EVERY_FIGURE[name]()
    assert svg(first, "f", "t", "d") == svg(second, "f", "t", "d")
    for kind in ("svg", "png"):
        one, two = save(first, tmp_path / f"1.{kind}"), save(second, tmp_path / f"2.{kind}")
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", sorted(EVERY_FIGURE))
def test_svg_is_well_formed_named_and_keeps_its_ids_to_itself(name):
    root = ElementTree.fromstring(svg(EVERY_FIGURE[name](), "fig-x", "A <title>", "what & why"))
    assert root.get("role") == "img"
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(i.startswith("fig-x-") for i in ids)
    assert [root.find(f".//*[@id='{i}']").text for i in root.get("aria-labelledby").split()] == [
        "A <title>",
        "what & why",
    ]
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert all(link.startswith(("#fig-x-", "data:")) for link in links)


def test_names_are_text_never_markup_nor_formulas():
    names = ("<script>alert(1)</script>", r"$\frac{1}{0}$ $", 'id="x" \x00\x1b[31m')
    figure = figures.class_bars(names, [1, 1, 1], [0, 0, 0])
    root = ElementTree.fromstring(svg(figure, "f", "t", "d"))
    texts = [e.text for e in root.iter() if e.tag.endswith("}text")]
    assert "<script>alert(1)</s…" in texts
    assert r"$\frac{1}{0}$ $" in texts
    assert any(t.startswith('id="x"') for t in texts)
    assert not [e for e in root.iter() if e.tag.endswith("script")]


def test_fonts_are_the_pages_own_in_both_of_matplotlibs_notations():
    assert _placed("<text style=\"font: 700 13px 'DejaVu Sans', sans-serif; fill: red\">", "k") == (
        '<text style="font-weight: 700; font-size: 13px; fill: red">'
    )
    assert _placed("<text style=\"font-size: 13px; font-family: 'DejaVu Sans', sans-serif; fill: red\">", "k") == (
        '<text style="font-size: 13px; fill: red">'
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.class_bars(NAMES, [1, 1], [1, 1, 1]),
        lambda: heat_maps.confusions({"m": np.eye(4)}, NAMES),
        lambda: heat_maps.confusions({}, NAMES),
        lambda: figures.curves([0], {"a": [1, 2]}, x_label="x", y_label="y"),
        lambda: figures.histograms({"m": {"forget": [1, 2, 3]}}, [0, 1]),
        lambda: figures.time_bars({"a": 0.0}),
        lambda: heat_maps.heat_map([[1, 2]], [1], [1], x_label="x", y_label="y"),
        lambda: save(figures.time_bars({"a": 1.0}), "figure.docx"),
        lambda: svg(figures.time_bars({"a": 1.0}), 'x" onload="', "t", "d"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(draw):
    with pytest.raises(InputError):
        draw()


def test_settings_outside_are_neither_used_nor_changed():
    import matplotlib

    plain = svg(figures.time_bars({"a": 1.0}), "f", "t", "d")
    with matplotlib.rc_context({"font.size": 40, "axes.edgecolor": "red"}):
        assert svg(figures.time_bars({"a": 1.0}), "f", "t", "d") == plain
        assert matplotlib.rcParams["font.size"] == 40


@pytest.mark.seconds
def test_matplotlib_and_jinja_are_imported_only_when_used():
    code = "import sys, efface.report; print([m for m in ('matplotlib', 'jinja2') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_global_figure_is_left_behind():
    code = (
        "import sys; from efface.figures.charts import time_bars; from efface.figures.style import svg\n"
        "svg(time_bars({'a': 1.0}), 'f', 't', 'd'); print('matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_saved_png_is_an_image_of_twice_the_pixels(tmp_path):
    from matplotlib.image import imread

    path = save(heat_maps.heat_map(np.eye(3), "abc", "def", x_label="x", y_label="y"), tmp_path / "a.png")
    height, width = imread(io.BytesIO(path.read_bytes())).shape[:2]
    assert (width, height) == (2 * (190 + 72 * 3), 2 * 230)
