"""Retraining for as long beside each entry of a comparison: paired, with an interval, and the reason where missing."""

import pandas as pd
import pytest

from efface.comparing.as_long import COLUMNS, as_long_columns, as_long_table


def cell(entry, seed, kept, found):
    row = {"entry": entry, "request": "class 0", "seed": seed, "A_R": kept, "E_F": 100.0, "seconds": 2.0}
    return row | as_long_columns(found)


def table(*cells):
    frame = pd.DataFrame(list(cells))
    return "\n".join(as_long_table(dict(list(frame.groupby("entry", sort=False)))))


def there(kept):
    return {"seconds": 1.9, "A_R": kept, "E_F": 100.0}


def test_a_cell_without_any_has_empty_columns():
    assert as_long_columns(None) == dict.fromkeys(COLUMNS) | {"as_long": ""}
    assert table(cell("original", 0, 90.0, None)) == ""


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ((5.0, 5.5), "above: +5.2 ± 3.2"),
        ((-5.0, -5.5), "below: -5.2 ± 3.2"),
        ((5.0, 6.0), "no difference shown: +5.5 ± 6.4"),
    ],
)
def test_kept_accuracy_is_paired_with_an_interval(gaps, words):
    text = table(*(cell("ssd", seed, 90.0 + gap, there(90.0)) for seed, gap in enumerate(gaps)))
    assert words in text
    assert "| ssd | 2 | 2 | 1.9 |" in text


def test_one_pair_has_no_interval_and_reasons_are_listed():
    text = table(cell("ssd", 0, 95.0, there(90.0)), cell("logit-mask", 0, 90.0, {"missing": "too short"}))
    assert "+5.0 (one pair: no interval)" in text
    assert "Not measured: logit-mask (1 cells): too short." in text


def test_the_table_word_by_word():
    cells = [
        cell("ssd", 0, 92.0, there(90.0) | {"seconds": 1.0}),
        cell("ssd", 1, 96.0, there(90.5)),
        cell("msg", 0, 80.0, there(90.0)),
        cell("mask", 0, 90.0, {"missing": "too short"}),
        cell("mask", 1, 90.0, {"missing": "too short"}),
        cell("cfk", 0, 90.0, {"missing": "timed on cuda"}),
        cell("original", 0, 95.0, None),
    ]
    cells[1]["seconds"] = 5.0
    # Gaps of 2 and 5.5: mean 3.75, t of one degree 12.706 times 2.475 by the root of 2.
    assert table(*cells) == "\n".join(
        [
            "Retraining for as long: the same recipe from new weights on the kept data, its schedule shortened to the "
            "time that forgetting took. A method that keeps no more than that row has no use.",
            "",
            "| method | pairs | seconds | of that retraining | A_R | of that retraining | E_F | of that retraining | "
            "kept accuracy |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            "| ssd | 2 | 3.5 | 1.45 | 94.0 | 90.2 | 100.0 | 100.0 | no difference shown: +3.8 ± 22.2 |",
            "| msg | 1 | 2 | 1.9 | 80.0 | 90.0 | 100.0 | 100.0 | -10.0 (one pair: no interval) |",
            "",
            "Not measured: mask (2 cells): too short.",
            "",
            "Not measured: cfk (1 cells): timed on cuda.",
            "",
        ]
    )
    only = table(cells[3])
    assert "| method |" not in only
    assert only.endswith("has no use.\n\n\nNot measured: mask (1 cells): too short.\n")


def test_every_row_of_a_grid_has_pairs_of_its_own():
    one = pd.DataFrame([cell("ssd", 0, 95.0, there(90.0)), cell("ssd", 1, 95.5, there(90.0))])
    two = pd.DataFrame([cell("ssd", 0, 80.0, there(90.0)), cell("ssd", 1, 80.5, {"missing": "too short"})])
    text = "\n".join(as_long_table({"ssd, alpha 1": one, "ssd, alpha 2": two}))
    assert "| ssd, alpha 1 | 2 | 2 | 1.9 | 95.2 | 90.0 | 100.0 | 100.0 | above: +5.2 ± 3.2 |" in text
    assert "| ssd, alpha 2 | 1 | 2 | 1.9 | 80.0 | 90.0 | 100.0 | 100.0 | -10.0 (one pair: no interval) |" in text
    assert "Not measured: ssd (1 cells): too short." in text


def test_without_accuracies_of_the_methods_there_is_nothing_to_compare():
    bare = pd.DataFrame([cell("ssd", 0, 95.0, there(90.0))]).drop(columns=["A_R", "E_F"])
    assert list(as_long_table({"ssd": bare})) == []
