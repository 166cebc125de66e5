"""The cells of a comparison by the rows of its table."""

import pandas as pd

from efface.comparing.grouped import by_row, column_of
from tests.comparing.conftest import made


def test_a_setting_whose_name_is_taken_has_a_column_of_its_own():
    assert [column_of(name) for name in ("alpha", "seed", "A_R", "as_long", "as_long_A_R", "samples")] == [
        "alpha", "setting seed", "setting A_R", "setting as_long", "setting as_long_A_R", "setting samples",
    ]  # fmt: skip


def test_rows_stand_as_in_the_plan_and_are_named_by_what_a_grid_varies():
    grid = {"alpha": [10.0, 2.5], "selection": ["b", "a"]}
    plan = made(methods=[{"method": "retrain"}, {"method": "ssd"}], published={}).plan
    varied = plan.methods[1].model_copy(update={"grid": grid})
    plan = plan.model_copy(update={"methods": (varied, plan.methods[0])})
    frame = pd.DataFrame(
        [("ssd", a, s) for a in (10.0, 2.5, float("nan")) for s in ("b", "a")] + [("retrain", float("nan"), None)] * 2,
        columns=["entry", "alpha", "selection"],
    )
    found = by_row(plan, frame)
    assert list(found) == [
        *(f"ssd, alpha {a}, selection {s}" for a in ("10", "2.5", "nan") for s in ("b", "a")),
        "retrain",
    ]
    assert [list(cells.index) for _, cells in found.values()] == [[0], [1], [2], [3], [4], [5], [6, 7]]
    assert found["retrain"][0] is plan.methods[1]
    assert found["ssd, alpha 2.5, selection a"][0] is varied
