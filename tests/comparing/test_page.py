"""The page of a comparison: whole and safe as text, and in headless Chromium sorted and filtered, by keyboard too."""

from __future__ import annotations

import re
from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.figure import Figure

from efface.comparing import page as page_module
from efface.comparing import results
from efface.comparing.figures import Picture, pictures
from efface.comparing.page import html
from efface.comparing.results import Comparison
from efface.errors import InputError
from tests.browser import CHROMIUM, Browser
from tests.comparing.conftest import METHODS, cell, made
from tests.pages import Page

EVIL = "<script>alert(1)</script> ' onload='x"


def text_of(comparison: Comparison, *, drawn: bool = False) -> str:
    found = pictures(comparison.plan, comparison.frame, comparison.kept) if drawn else ()
    return html(comparison, found)


@pytest.fixture(scope="module")
def text() -> str:
    return text_of(made(), drawn=True)


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_published_figures_stand_beside_ours_in_the_plans_order(page):
    (_, table), *_ = page.of("table", id="methods-table")
    heads = [text for _, text in page.of("th", scope="col")]
    assert heads[:5] == ["method", "A_R", "A_R published", "E_F", "E_F published"]
    assert [text for _, text in page.of("th", scope="row")][: len(METHODS)] == list(METHODS)
    assert "91.5 ± 0.2" in table
    kept = made().frame.groupby("entry").A_R.agg(["mean", "std"]).loc["ssd"]
    assert f"{kept['mean']:.1f} ± {kept['std']:.1f}" in table


def test_every_cell_is_a_row(page):
    assert len(page.of("th", scope="row")) == len(METHODS) + len(made().frame) + sum(
        len(p.rows) for p in pictures(made().plan, made().frame, made().kept)
    )


@pytest.mark.seconds
def test_words_from_outside_stay_text():
    methods = [{"method": m} for m in METHODS] + [{"method": "cf-k", "label": EVIL}]
    failed = cell(EVIL, 0, 0, method="cf-k", scores={}, refused=EVIL, per_class={EVIL: 0.5}, course=None)
    shown = cell(EVIL, 1, 0, method="cf-k", per_class={EVIL: 0.5}, notes=[EVIL])
    comparison = made([failed, shown], methods=methods, about=EVIL, published={EVIL: {"A_R": EVIL}})
    text = text_of(comparison, drawn=True)
    page = Page(text)
    assert len(page.of("script")) == 1
    assert not {"img", "iframe", "object"} & {tag for tag, _, _ in page.elements}
    assert not [k for _, attributes, _ in page.elements for k in attributes if k.startswith("on")]
    assert EVIL in [text for _, text in page.of("th", scope="row")]
    assert EVIL in page.of("section", id="failed")[0][1]


def test_the_only_script_is_the_one_that_the_policy_names(text, page):
    import base64
    import hashlib

    (policy,) = [a["content"] for a, _ in page.of("meta", **{"http-equiv": "Content-Security-Policy"})]
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}" in policy
    assert "default-src 'none'" in policy
    links = [v for _, a, _ in page.elements for k, v in a.items() if k in {"href", "src", "xlink:href", "action"}]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)


def test_ids_are_unique_and_lead_somewhere(page):
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    named = [i for _, a, _ in page.elements for k in ("aria-labelledby", "aria-controls") for i in a.get(k, "").split()]
    assert {a["href"][1:] for t, a, _ in page.elements if t == "a"} | set(named) <= set(ids)
    levels = [int(t[1]) for t, _, _ in page.elements if re.fullmatch("h[1-6]", t)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.of("svg", role="img")) == 6


def test_what_was_written_is_read_again_and_gives_the_same_tables(tmp_path, monkeypatch):
    comparison = made()
    one = (Picture("one", "A figure", "What it shows.", Figure((1, 1)), ("a", "b"), (("1", "2"),)),)
    monkeypatch.setattr(results, "pictures", lambda *given: one)
    comparison.write(tmp_path)
    assert (tmp_path / "comparison.html").read_text(encoding="utf-8") == html(comparison, one)
    again = Comparison.read(tmp_path)
    assert again.table_rows(by_request=False) == comparison.table_rows(by_request=False)
    assert list(again.scores.score) == list(comparison.scores.score)
    # As an earlier version wrote it.
    frame = pd.read_csv(tmp_path / "results.csv").drop(columns=["bounds", "as_long", "as_long_A_R", "outcome"])
    frame.to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "results.parquet").unlink()
    older = Comparison.read(tmp_path)
    assert older.table_rows(by_request=False) == comparison.table_rows(by_request=False)
    assert "by-hand" in text_of(older)


def test_a_folder_without_results_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text(made().plan.model_dump_json())
    with pytest.raises(InputError, match=r"holds no results\.csv"):
        Comparison.read(tmp_path)


# --- the parts of the page, by hand ---------------------------------------------------------------------------------


def column(table, name):
    """A column, and its values."""
    (place,) = [i for i, c in enumerate(table.columns) if c.name == name]
    return table.columns[place], [row[place] for row in table.rows]


def test_the_list_of_cells_tells_words_from_numbers_and_offers_few_values_to_pick_by():
    failed = cell("decay", 0, 7, scores={}, seconds=None, refused="too small")
    comparison = made([failed])
    table = page_module.cells_table(comparison)
    assert table.id == "cells"
    assert table.caption == "One row per cell: a method, a request and a seed"
    names = [c.name for c in table.columns]
    assert names[:3] == ["method", "request", "seed"]  # the row is named by its entry, not by the bare method
    assert not {"bounds", "notes", "as_long", "as_long_A_R", "entry", "refused"} & set(names)
    found, values = column(table, "method")
    assert (found.words, found.choices, found.meaning) == (True, METHODS, "")
    assert [v.text for v in values] == [*(m for m in METHODS for _ in range(4)), "decay"]
    assert {v.number for v in values} == {None}
    found, values = column(table, "seed")
    assert (found.words, found.choices) == (False, ("0", "1", "7"))
    assert [v.number for v in values] == [0, 1] * 10 + [7]
    assert column(table, "outcome")[0].choices == ("differs", "alike")
    assert column(table, "failed")[0].words
    assert [v.text for v in column(table, "failed")[1]] == [""] * 20 + ["too small"]
    found, values = column(table, "A_R")
    assert (found.words, found.choices, found.meaning) == (False, (), comparison.meaning["A_R"])
    assert found.meaning
    assert values[1] == page_module.Value("97", 97.0)
    assert values[-1] == page_module.Value("", None)
    assert column(table, "seconds")[1][4] == page_module.Value("100", 100.0)


def test_numbers_have_four_digits_and_labels_that_look_like_numbers_are_words():
    comparison = made([cell("decay", 0, 7, seconds=1 / 3)])
    comparison.frame["entry"] = "12"
    table = page_module.cells_table(comparison)
    assert column(table, "seconds")[1][-1] == page_module.Value("0.3333", 0.3333)
    found, values = column(table, "method")
    assert (found.words, found.choices) == (True, ())  # of one value nothing can be picked
    assert values[0] == page_module.Value("12", None)
    comparison.frame["entry"] = 12
    assert column(page_module.cells_table(comparison), "method")[0].words


@pytest.mark.parametrize(("seeds", "offered"), [(60, 60), (61, 0)])
def test_of_many_values_none_is_offered(seeds, offered):
    comparison = made()
    comparison.frame = pd.concat([comparison.frame[:1]] * seeds, ignore_index=True).assign(seed=range(seeds))
    assert len(column(page_module.cells_table(comparison), "seed")[0].choices) == offered


def test_of_very_many_cells_the_first_are_listed(monkeypatch):
    monkeypatch.setattr(page_module, "MOST_CELLS", 3)
    comparison = made()
    comparison.frame = pd.concat([comparison.frame] * 100, ignore_index=True)
    table = page_module.cells_table(comparison)
    assert len(table.rows) == 3
    assert table.caption.endswith(" and a seed; the first 3 of 2,000, results.csv has all")


def test_the_table_of_methods_has_a_column_for_each_setting_that_was_varied():
    methods = [
        {"method": "ssd", "grid": {"alpha": [1.0, 2.5]}},
        {"method": "fine-tune", "grid": {"optimiser": ["sgd"]}},
    ]
    cells = [cell("ssd", 0, s, settings={"alpha": a}) for a in (1.0, 2.5) for s in (0, 1)]
    cells += [cell("fine-tune", 0, s, settings={"optimiser": "sgd"}) for s in (0, 1)]
    plan = made(methods=methods, published={}).plan
    table = page_module.methods_table(Comparison.of(plan, cells))
    assert (table.id, table.caption) == ("methods", "One row per method, means ± standard deviation")
    found, values = column(table, "method")
    assert found.words
    assert [v.text for v in values] == ["ssd", "ssd", "fine-tune"]
    found, values = column(table, "alpha")
    assert not found.words
    assert [v.number for v in values] == [1, 2.5, None]
    found, values = column(table, "optimiser")
    assert found.words
    assert [(v.text, v.number) for v in values] == [("", None), ("", None), ("sgd", None)]
    found, values = column(table, "A_R")
    assert not found.words
    assert found.meaning
    assert values[0] == page_module.Value("85.5 ± 0.7", 85.5)


@pytest.mark.parametrize(
    ("text", "number"),
    [("91.5 ± 0.2", 91.5), ("≥ 100", 100), ("≤3 ± 1", 3), ("≷ -2", -2), ("", None), ("unclear", None), ("- 4", None)],
)
def test_a_cell_is_sorted_by_the_number_that_it_starts_with(text, number):
    assert page_module._number(text) == number


def test_what_was_compared_is_said_in_words():
    comparison = made(recipe={"lr": 0.25, "epochs": 3, "batch_size": 16}, data={"source": "digits", "validation": 0.2})
    comparison.machine = "an abacus"
    assert page_module._facts(comparison) == {
        "Data": "digits, 0.2 of the training data held out",
        "Model": "mlp (hidden: [16])",
        "Recipe": f"{comparison.plan.recipe.optimiser}, rate 0.25, 3 epochs, batch 16",
        "Asked to forget": "class 0; class 1",
        "Seeds": "0, 1",
        "Cells": "20",
        "Machine": "an abacus",
    }
    bare = made(
        [cell("ssd", 0, 7, refused="no"), cell("ssd", 1, 7, refused="no")],
        model={"build": "mlp"},
        requests=[{"items": [i]} for i in range(12)],
    )
    facts = page_module._facts(bare)
    assert facts["Model"] == "mlp"
    assert facts["Asked to forget"] == "; ".join(bare.plan.asked()[:10]) + "; and 2 more"
    assert facts["Cells"] == "22, of which 2 without a result"
    assert "Machine" not in facts or facts["Machine"]
    ten = made(requests=[{"items": [i]} for i in range(10)])
    assert page_module._facts(ten)["Asked to forget"] == "; ".join(ten.plan.asked())


def test_what_failed_is_gathered_by_method_and_reason():
    comparison = made(
        [
            cell("ssd", 1, 7, refused="too small"),
            cell("ssd", 0, 8, refused="too small"),
            cell("decay", 0, 7, refused="too small"),
            cell("ssd", 0, 7, refused="too large"),
        ]
    )
    assert page_module._failed(comparison) == [
        ("ssd", "class 1 seed 7, class 0 seed 8", "too small"),
        ("decay", "class 0 seed 7", "too small"),
        ("ssd", "class 0 seed 7", "too large"),
    ]
    assert page_module._failed(made()) == []


# --- in the browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(text, encoding="utf-8")
    return path


SHOWN = (
    """[...document.querySelectorAll('#{}-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"""
)
SORTED = """[...document.querySelectorAll('#methods-table thead th')].map(h => h.getAttribute('aria-sort'))"""


def chosen(select: str, value: str) -> str:
    """What picks a value of a list, as a reader does."""
    change = "dispatchEvent(new Event('change'))"
    return f"{{ const s = document.querySelector('{select}'); s.value = '{value}'; s.{change} }}"


def test_headings_sort_up_then_down_then_as_in_the_plan_by_keyboard(browser, file):
    browser.open(file)
    browser.value("document.querySelectorAll('#methods-table thead button')[1].focus()")
    orders = []
    for _ in range(3):
        browser.press("Enter")
        orders.append((browser.value(SHOWN.format("methods")), browser.value(SORTED)[1]))
    upwards = list(METHODS[::-1])  # each keeps less than the one before
    assert orders == [(upwards, "ascending"), (list(METHODS), "descending"), (list(METHODS), "none")]
    browser.press("Tab")
    browser.press(" ")
    assert browser.value(SORTED)[2] == "ascending"
    assert browser.value("document.activeElement.textContent") == "A_R published"


def test_what_is_missing_stands_last_either_way(browser, file):
    browser.open(file)
    for _ in range(2):
        browser.value("document.querySelectorAll('#methods-table thead button')[2].click()")
        assert browser.value(SHOWN.format("methods"))[0] == "decay"
    browser.value(
        "[...document.querySelectorAll('#methods-table thead button')].find(b => b.textContent == 'seconds').click()"
    )
    assert browser.value(SHOWN.format("methods"))[-1] == "original"


def test_rows_are_filtered_by_typing_and_by_choice_and_counted(browser, file):
    browser.open(file)
    browser.value("document.querySelector('#cells input').focus()")
    for letter in "fine 1":
        browser.press(letter)
    assert set(browser.value(SHOWN.format("cells"))) == {"fine-tune"}
    browser.value("document.querySelector('#cells input').value = ''")
    browser.value(chosen("#cells select[data-column=request]", "class 1"))
    browser.value(chosen("#cells select[data-column=method]", "decay"))
    assert browser.value(SHOWN.format("cells")) == ["decay", "decay"]
    assert browser.value("document.querySelector('#cells [role=status]').textContent") == "2 of 20 rows"
    assert browser.value("document.querySelector('#methods [role=status]').textContent") == "5 rows"


def test_nothing_is_fetched_and_nothing_goes_wrong(browser, file):
    browser.requested.clear()
    browser.open(file)
    assert browser.console == []
    assert {url for url in browser.requested if not url.startswith("data:")} == {file.as_uri()}


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_is_never_wider_than_the_window(browser, file, width):
    browser.open(file, width=width)
    assert browser.value("document.documentElement.scrollWidth") == width
    shown = browser.value("getComputedStyle(document.querySelector('#methods-table thead')).display != 'none'")
    assert shown == (width == 1200)
    browser.value(chosen("#methods select.order", "1"))
    assert browser.value(SHOWN.format("methods")) == list(METHODS[::-1])
    browser.value("document.querySelector('#methods button.direction').click()")
    assert browser.value(SHOWN.format("methods")) == list(METHODS)


def test_a_script_that_is_not_ours_does_not_run(browser, file, tmp_path):
    other = tmp_path / "other.html"
    other.write_text(
        file.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'x'</script></body>")
    )
    browser.open(other)
    assert browser.value("document.title") == "Comparison: by-hand"
    assert "Content Security Policy" in "".join(browser.console)
    browser.console.clear()
