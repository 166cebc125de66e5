"""Retraining for as long beside each entry of a comparison: paired, with an interval, and the reason where missing."""

import pandas as pd
import pytest

from efface.comparing.as_long import COLUMNS, as_long_columns, as_long_table


def cell(entry, seed, kept, found):
    row = {"entry": entry, "request": "class 0", "seed": seed, "A_R": kept, "E_F": 100.0, "seconds": 2.0}
    return row | as_long_columns(found)


def table(*cells):
    return "\n".join(as_long_table(pd.DataFrame(list(cells))))


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
