"""Tables of a comparison, against figures worked out by hand from planted cells."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from efface.comparing.as_long import COLUMNS as AS_LONG
from efface.comparing.figures import pictures
from efface.comparing.plan import Plan
from efface.comparing.results import Comparison
from efface.comparing.rows import unmeasured
from efface.errors import InputError

GIVEN = {
    "name": "smoke",
    "data": {"source": "digits"},
    "model": {"build": "mlp", "arguments": {"hidden": [16]}},
    "recipe": {"lr": 0.1, "epochs": 4, "batch_size": 64},
    "requests": [{"classes": [0]}],
    "seeds": [0, 1],
    "methods": [{"method": "original"}],
}


def plan(*methods: str, **fields) -> Plan:
    named = {"methods": [{"method": name} for name in methods]} if methods else {}
    return Plan.model_validate({**GIVEN, **named, **fields})


def cell(entry: str, seed: int, probe: float, seconds: float | None) -> dict:
    return {
        "entry": entry,
        "method": entry,
        "settings": {},
        "request": "class 0",
        "seed": seed,
        "scores": {"A_R": {"value": 90.0}, "probe": {"value": probe}},
        "seconds": seconds,
        "train_seconds": 9.0,
        "refused": "",
        "notes": [],
        "device": "cpu",
        "versions": {},
    }


def test_times_are_shares_of_retraining_and_probes_are_paired_with_the_mask():
    names = ["original", "retrain", "logit-mask", "fine-tune", "ssd"]
    made = plan(*names, seeds=[0, 1, 2])
    rows = [cell("original", s, 97.0 + s, None) for s in range(3)]
    for seed, full in enumerate((10.0, 20.0, 40.0)):
        rows += [cell("retrain", seed, 90.0 + seed, full), cell("logit-mask", seed, 97.0 + seed, 0.0)]
        # Three points below the mask on every seed; and as far below on average, but not reliably.
        rows += [cell("fine-tune", seed, 94.0 + seed, full / 4), cell("ssd", seed, 97.0 - 6 * (seed - 0.5), full)]
    comparison = Comparison.of(made, rows)
    table = comparison.summary(by_request=False)
    assert table.loc["fine-tune"]["of_retrain", "mean"].item() == pytest.approx(25)
    assert table.loc["retrain"]["of_retrain", "mean"].item() == pytest.approx(100)
    (line,) = [x for x in comparison.markdown().splitlines() if x.startswith("Probe below")]
    assert "retrain (-7.0 ± 0.0), fine-tune (-3.0 ± 0.0); of no other" in line
    assert "ssd" not in line
    assert "at most 3 pairs" in line


def test_a_mean_of_bounds_is_printed_as_one():
    """Two cells of three were stopped by the cap: 100 steps are the least that they need."""
    methods = [{"method": "ssd", "grid": {"alpha": [1, 2]}}, {"method": "retrain"}]
    made = plan(methods=methods, seeds=[0, 1, 2])
    rows = [cell("ssd", seed, 97.0, 1.0) | {"settings": {"alpha": a}} for a in (1, 2) for seed in range(3)]
    rows += [cell("retrain", 0, 97.0, 1.0)]
    for row, steps in zip(rows, (100, 100, 40, 10, 10, 10, 10), strict=True):
        row["scores"]["relearn"] = {"value": steps, "bound": "at least" if steps == 100 else ""}
    comparison = Comparison.of(made, rows)
    lines = [line for line in comparison.markdown().splitlines() if line.startswith("| ssd")]
    assert "| ≥ 80.0 ± 34.6 |" in lines[0]
    assert "| 10.0 ± 0.0 |" in lines[1]
    assert "≥, ≤: some cells are only bounds" in comparison.markdown()
    assert "≥" not in Comparison.of(made, rows[3:]).markdown()
    assert list(comparison.frame.bounds[:3]) == ["relearn at least", "relearn at least", ""]


def test_the_table_says_what_each_cell_was_computed_on():
    made = plan("original", "fine-tune", seeds=[0])
    one, two = cell("original", 0, 97.0, None), cell("fine-tune", 0, 97.0, 1.0)
    assert "Machine: cpu, threads not recorded." in Comparison.of(made, [one, two]).markdown()
    found = Comparison.of(made, [one | {"threads": 2}, two | {"threads": 1, "versions": {"torch": "3"}}]).markdown()
    assert "Machine: cpu, 2 threads (1 cells); cpu, 1 threads, torch 3 (1 cells)." in found


def test_the_cells_that_make_a_wide_spread_are_named_with_their_notes():
    made = plan("ssd", seeds=[0, 1, 2])
    rows = [cell("ssd", seed, 97.0, 1.0) for seed in range(3)]
    rows[2] |= {"scores": {"A_R": {"value": 9.5}}, "notes": ["the threshold selected 3 % of the weights"]}
    table = Comparison.of(made, rows).markdown()
    named = "- ssd, A_R: median 90.0; far from it: 9.5 (class 0, seed 2: the threshold selected 3 % of the weights)"
    assert named in table
    assert "far from it" not in Comparison.of(made, rows[:2]).markdown()
    assert Comparison.of(made, rows[2:])._scattered() == []  # one cell has no spread


def grid() -> tuple[Plan, list[dict]]:
    """Two methods, two requests and two seeds; of ssd, one cell was refused."""
    requests = [{"classes": [0]}, {"classes": [3]}]
    made = plan("original", "ssd", about="In a sentence.", requests=requests, published={"ssd": {"A_R": "12.3 ± 0.4"}})
    rows = []
    for entry, shift in (("original", 0.0), ("ssd", -2.0)):
        for name, each in (("class 0", 0.0), ("class 3", 4.0)):
            for seed in (0, 1):
                row = cell(entry, seed, 50.0, None if entry == "original" else 0.5) | {"request": name}
                row["scores"] = {"A_R": {"value": 90.0 + shift + each + 2 * seed}, "tow": {"value": 0.9, "why": "so"}}
                rows.append(row)
    rows[-1] |= {"scores": {}, "seconds": None, "refused": "not finite", "notes": ["one", "two"]}
    rows[-2] |= {"samples": 3500, "peak_memory": 3 * 2**19, "as_long": {"missing": "too short"}}
    return made, rows


def test_a_grid_is_printed_word_by_word():
    made, rows = grid()
    text = Comparison.of(made, rows).markdown()
    # Of ssd: 88, 90 and 92; by request 89 ± sqrt(2) and 92 alone. Of the original: 90, 92, 94, 96 and so on.
    assert text == "\n".join(
        [
            "# smoke",
            "",
            "In a sentence.",
            "",
            "Data digits, model mlp {'hidden': [16]}, recipe: sgd lr 0.1, 4 epochs, batch 64, held out 0.1; seeds 0, "
            "1; 2 request(s).",
            "Machine: cpu, threads not recorded.",
            "",
            "- **A_R**: accuracy on test samples of kept classes (items: on all), %",
            "- **seconds**: wall time of forgetting",
            "- **samples**: thousands of training samples read by forgetting, each reading counted",
            "- **peak_memory**: most memory that forgetting held above what was held before, MiB (on a CPU sampled)",
            "",
            "Mean ± standard deviation over seeds and requests.",
            "",
            "| method | A_R | A_R published | seconds | samples | peak_memory |",
            "| --- | --- | --- | --- | --- | --- |",
            "| original | 93.0 ± 2.6 |  | - | - | - |",
            "| ssd | 90.0 ± 2.0 | 12.3 ± 0.4 | 0.500 ± 0.000 | 3.5 | 1.5 |",
            "",
            "Retraining for as long: the same recipe from new weights on the kept data, its schedule shortened to the "
            "time that forgetting took. A method that keeps no more than that row has no use.",
            "",
            "",
            "Not measured: ssd (1 cells): too short.",
            "",
            "By request, mean ± standard deviation over seeds.",
            "",
            "| method | request | A_R | seconds | samples | peak_memory |",
            "| --- | --- | --- | --- | --- | --- |",
            "| original | class 0 | 91.0 ± 1.4 | - | - | - |",
            "| original | class 3 | 95.0 ± 1.4 | - | - | - |",
            "| ssd | class 0 | 89.0 ± 1.4 | 0.500 ± 0.000 | - | - |",
            "| ssd | class 3 | 92.0 | 0.500 | 3.5 | 1.5 |",
            "",
            "Cells that a method refused, or that failed; they count in no mean:",
            "",
            "- ssd (class 3 seed 1): not finite",
            "",
        ]
    )
    one = plan("original", seeds=[0])
    few = Comparison.of(one, rows[:1]).markdown()
    assert few.startswith("# smoke\n\nData digits, ")
    assert "Mean ± standard deviation over seeds.\n\n| method | A_R | seconds |" in few
    assert "By request" not in few


def test_rows_of_a_grid_are_in_the_plans_order_and_have_their_hyper_parameters():
    methods = [{"method": "ssd", "grid": {"alpha": [2, 1.5], "dampening": [1, 0.5]}}, {"method": "original"}]
    made = plan(methods=methods, seeds=[0], requests=[{"classes": [0]}, {"classes": [1]}])
    rows = [cell("original", 0, 97.0, None) | {"settings": {"alpha": 7}}]
    rows += [
        cell("ssd", 0, 90.0 + a + d, 1.0) | {"settings": {"alpha": a, "dampening": d, "epochs": 3}}
        for a in (2, 1.5)
        for d in (1, 0.5)
    ]
    comparison = Comparison.of(made, rows)
    assert "epochs" not in comparison.frame  # only what the grid varies
    lines = [line for line in comparison.markdown().splitlines() if line.startswith("| ")]
    assert lines[0] == "| method | alpha | dampening | A_R | probe | seconds | samples | peak_memory |"
    assert lines[2:] == [
        "| ssd | 2 | 1 | 90.0 | 93.0 | 1.0 | - | - |",
        "| ssd | 2 | 0.5 | 90.0 | 92.5 | 1.0 | - | - |",
        "| ssd | 1.5 | 1 | 90.0 | 92.5 | 1.0 | - | - |",
        "| ssd | 1.5 | 0.5 | 90.0 | 92.0 | 1.0 | - | - |",
        "| original |  |  | 90.0 | 97.0 | - | - | - |",
    ]  # and no table by request, which a grid would make too long


def test_the_frame_has_one_row_per_cell_and_the_scores_one_per_cell_and_score():
    made, rows = grid()
    rows[0] |= {
        "threads": 2,
        "level": "b",
        "outcome": "alike",
        "machine": "x86_64, 2 cores",
        "settings": {"b": 1, "a": 2},
    }
    rows[0] |= {"versions": {"efface": "1", "python": "3", "torch": "2"}}
    rows[0]["scores"]["A_R"] |= {"low": 88.0, "bound": "at most"}
    comparison = Comparison.of(made, rows)
    last = comparison.frame.iloc[-1]
    assert (last.entry, last.method, last.request, last.seed) == ("ssd", "ssd", "class 3", 1)
    assert (last.refused, last.notes, last.train_seconds) == ("not finite", "one | two", 9.0)
    assert "tow" not in comparison.frame  # a score, but no column
    assert comparison.frame.iloc[-2][["samples", "peak_memory", "as_long"]].tolist() == [3.5, 1.5, "too short"]
    scores = comparison.scores
    assert len(scores) == 7 * 2 + 1
    first = scores.iloc[0]
    assert first[["entry", "method", "request", "seed", "score"]].tolist() == [
        "original",
        "original",
        "class 0",
        0,
        "A_R",
    ]
    assert (first.value, first.low, first.bound, first.why) == (90.0, 88.0, "at most", "")
    assert np.isnan(first.high)
    assert (first.settings, first.refused) == ('{"a": 2, "b": 1}', "")
    assert first[["level", "outcome", "device", "threads", "machine"]].tolist() == [
        "b", "alike", "cpu", 2, "x86_64, 2 cores",
    ]  # fmt: skip
    assert first[["efface", "python", "torch", "train_seconds"]].tolist() == ["1", "3", "2", 9.0]
    assert scores.iloc[1][["score", "value", "why"]].tolist() == ["tow", 0.9, "so"]
    assert scores.iloc[-1][["score", "refused", "bound", "why"]].tolist() == ["", "not finite", "", ""]
    assert scores.iloc[-2][["samples", "peak_memory", "seconds"]].tolist() == [3500, 3 * 2**19, 0.5]
    numbers = ["value", "low", "high", "original", "reference", "floor", "floor_low", "floor_high"]
    numbers += ["gap", "gap_low", "gap_high", "seconds", "train_seconds"]
    assert set(scores.dtypes[numbers].astype(str)) == {"float64"}
    assert set(scores.dtypes[["threads", "samples", "peak_memory"]].astype(str)) == {"Int64"}


def test_what_is_written_reads_back(tmp_path):
    made, rows = grid()
    rows[0]["scores"]["A_R"]["value"] = 100 / 3
    comparison = Comparison.of(made, rows)
    folder = tmp_path / "a" / "b"
    comparison.write(folder)
    comparison.write(folder)  # again, over itself
    assert [f.name for f in comparison.files] == [
        *("results.csv", "results.parquet", "table.md", "plan.json", "comparison.html")
    ]
    assert {f.name for f in folder.iterdir()} == {f.name for f in comparison.files}
    assert pd.read_csv(folder / "results.csv").A_R[0] == 33.3333
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results.parquet"), comparison.scores)
    assert (folder / "table.md").read_text(encoding="utf-8") == comparison.markdown()
    assert Plan.model_validate_json((folder / "plan.json").read_bytes()) == made
    assert (folder / "plan.json").read_text().startswith('{\n  "name"')
    cells = json.loads(comparison.to_json())
    assert [c["seed"] for c in cells] == [0, 1] * 4
    assert comparison.to_json().startswith('[\n  {\n    "entry":"original"')


def test_the_terminal_shows_the_means_and_no_published_figures_by_request(capsys):
    made, rows = grid()
    Comparison.of(made, rows).show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "smoke"
    table = [[text.strip() for text in line.strip("┃│ ").replace("┃", "│").split("│")] for line in lines]
    assert ["method", "A_R", "A_R published", "seconds", "samples", "peak_memory"] in table
    assert ["ssd", "90.0 ± 2.0", "12.3 ± 0.4", "0.500 ± 0.000", "3.5", "1.5"] in table
    assert "│ ssd      │" in "\n".join(lines)  # names to the left, numbers to the right
    assert "│ 93.0 ± 2.6 │" in "\n".join(lines)


@pytest.mark.parametrize(
    ("sides", "sign"),
    [(("at least",), "≥ "), (("at most",), "≤ "), (("at least", "at most"), "≷ "), ((), "")],
)
def test_bounds_on_either_side_have_their_sign(sides, sign):
    made = plan("ssd", seeds=[0, 1])
    rows = [cell("ssd", seed, 97.0, 1.0) for seed in range(2)]
    for row, side in zip(rows, sides, strict=False):
        row["scores"]["A_R"]["bound"] = side
        row["scores"]["tow"] = {"value": 1.0, "bound": side}  # is no column
    comparison = Comparison.of(made, rows)
    assert f"| ssd | {sign}90.0 ± 0.0 | 97.0 ± 0.0 | 1.0 ± 0.0 | - | - |" in comparison.markdown().splitlines()
    assert (
        "are only bounds (a cap was reached), and so is their mean; ≷: on both sides." in comparison.markdown()
    ) == (bool(sides))
    if len(sides) == 1:
        rows[0]["scores"]["probe"]["bound"] = "at least"
        assert Comparison.of(made, rows).frame.bounds[0] == f"A_R {sides[0]}; probe at least"


def test_below_the_mask_needs_pairs_and_an_interval_below_zero():
    def line(*probes, mask=(97.0, 97.0)):
        rows = [cell("logit-mask", seed, probe, 0.0) for seed, probe in enumerate(mask)]
        rows += [cell("ssd", seed, probe, 1.0) for seed, probe in enumerate(probes)]
        comparison = Comparison.of(plan("logit-mask", "ssd"), rows)
        return "".join(x for x in comparison.markdown().splitlines() if x.startswith("Probe below"))

    words = (
        "Probe below the logit mask's, paired by request and seed (mean gap in points and its 95 % interval; at most 2"
    )
    # Two pairs a fifth apart: t of one degree is 12.706; times a deviation of 0.141 by the root of 2 it is 1.27.
    assert line(95.4, 95.6).startswith(f"{words} pairs): ssd (-1.5 ± 1.3); of no other is it shown")
    assert line(95.7, 95.9).startswith(f"{words} pairs): of none is it shown that it forgets more than a mask does.")
    assert line(98.5, 98.7).startswith(f"{words} pairs): of none is it shown")
    assert line(90.0) == ""  # one pair
    assert line(90.0, 90.0, mask=(97.0,)) == ""


def test_a_wide_spread_is_of_more_than_ten_points():
    def named(*values, column="A_R"):
        rows = [cell("ssd", seed, 97.0, 1.0) for seed in range(len(values))]
        for row, value in zip(rows, values, strict=True):
            row["scores"] = {column: {"value": value}}
        return Comparison.of(plan("ssd", seeds=list(range(len(values)))), rows)._scattered()

    # Of 0, 10 and 20 the deviation is 10; of 0, 10 and 20.1 it is more, and 20.1 alone is further than 10 away.
    assert named(0.0, 10.0, 20.0) == []
    assert named(0.0, 10.0, 20.1) == [
        "Where a deviation is above 10 points, these cells make it:",
        "",
        "- ssd, A_R: median 10.0; far from it: 20.1 (class 0, seed 2)",
        "",
    ]
    assert (
        "E_F: median 50.0; far from it: 0.0 (class 0, seed 0); 100.0 (class 0, seed 2)"
        in (named(0.0, 50.0, 100.0, column="E_F")[2])
    )
    assert named(0.0, 50.0, 100.0, column="probe") == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.9994, "0.999"), (1.0, "1.0"), (-1.04, "-1.0"), (-0.5, "-0.500"), (12.34, "12.3")]
)
def test_numbers_below_one_have_three_digits(value, text):
    rows = [cell("ssd", 0, value, 1.0)]
    assert f"| ssd | 90.0 | {text} | 1.0 |" in Comparison.of(plan("ssd", seeds=[0]), rows).markdown()


def test_the_machine_with_most_cells_comes_first():
    rows = [cell("ssd", seed, 97.0, 1.0) for seed in range(3)]
    rows[0]["device"] = "cuda:0"
    del rows[2]["device"]  # never computed
    rows.append(cell("ssd", 3, 97.0, 1.0))
    made = plan("ssd", seeds=[0, 1, 2, 3])
    text = "cpu, threads not recorded (2 cells); cuda:0, threads not recorded (1 cells)"
    assert Comparison.of(made, rows).machine == text


def test_it_shows_itself_shortly_and_escaped():
    named = plan(methods=[{"method": "ssd", "label": "<hr>"}])
    made = Comparison.of(named, [cell("<hr>", seed, 97.0 + seed, 1.0) for seed in (0, 1)])
    assert repr(made) == "<Comparison 'smoke': 1 methods, 1 requests, 2 seeds; 2 cells>"
    assert "<hr>" not in made._repr_html_()
    assert "<td>&lt;hr&gt;</td>" in made._repr_html_()
    assert "<td>97.5 ± 0.7</td>" in made._repr_html_()


def test_means_come_as_a_frame_and_as_latex():
    named = plan("ssd", published={"ssd": {"probe": "77 ± 1"}})
    made = Comparison.of(named, [cell("ssd", seed, 97.0 + seed, 1.0) for seed in (0, 1)])
    assert made.to_frame().loc["ssd"]["probe", "mean"].item() == pytest.approx(97.5)
    header, row = [line for line in made.to_latex().splitlines() if "&" in line]
    assert header.startswith(r"method & A\_R & probe & probe published & ")
    assert row.startswith(r"ssd & 90.0 $\pm$ 0.0 & 97.5 $\pm$ 0.7 & 77 $\pm$ 1 & ")
    assert r"\toprule" in made.to_latex()
    hostile = plan(methods=[{"method": "ssd", "label": r"50% {of} $x^2$ \input~ <b>|"}])
    latex = Comparison.of(hostile, [cell(r"50% {of} $x^2$ \input~ <b>|", s, 97.0, 1.0) for s in (0, 1)]).to_latex()
    assert r"50\% \{of\} \$x\textasciicircum{}2\$ \textbackslash{}input\textasciitilde{} " in latex
    assert r"\textless{}b\textgreater{}\textbar{} &" in latex


def test_two_requests_of_the_same_words_are_two_rows():
    requests = [{"items": range(k, k + 10)} for k in (0, 20)]
    made = plan("retrain", "fine-tune", requests=requests, seeds=[0])
    rows = [unmeasured(c) | {"scores": {"A_R": {"value": 1.0}}} for c in made.cells()]
    for row, seconds in zip(rows, (10.0, 40.0, 5.0, 5.0), strict=True):
        row |= {"seconds": seconds}
    found = Comparison.of(made, rows).frame
    assert found.of_retrain.tolist() == [100, 100, 50, 12.5]  # each of retraining for its own request
    assert found.request.nunique() == 2


def test_a_logit_mask_is_the_mask_under_any_label():
    methods = [{"method": "logit-mask", "label": "masked"}, {"method": "ssd", "label": "logit-mask"}]
    rows = [cell("masked", s, 97.0, 0.0) | {"method": "logit-mask"} for s in (0, 1)]
    rows += [cell("logit-mask", s, 90.0 + s / 10, 1.0) | {"method": "ssd"} for s in (0, 1)]
    (line,) = Comparison.of(plan(methods=methods), rows).remarks()
    assert "at most 2 pairs): logit-mask (-7.0 ± 0.6); of no other" in line


def test_the_settings_of_a_grid_are_judged_each_by_itself():
    """Between settings lie 40 points, within each of them one; together they are no pairs and no spread."""
    methods = [{"method": "logit-mask"}, {"method": "ssd", "grid": {"alpha": [1, 2.5]}}]
    rows = [cell("logit-mask", s, 97.0, 0.0) for s in (0, 1)]
    for alpha, far in ((1, 0.0), (2.5, 40.0)):
        for seed in (0, 1):
            row = cell("ssd", seed, 97.0 - far + seed / 10, 1.0) | {"settings": {"alpha": alpha}}
            row["scores"]["A_R"] = {"value": 90.0 - far + seed}
            rows.append(row)
    comparison = Comparison.of(plan(methods=methods), rows)
    assert comparison._scattered() == []
    (line,) = comparison.remarks()
    assert "at most 2 pairs): ssd, alpha 2.5 (-40.0 ± 0.6); of no other" in line
    rows[-1]["scores"]["A_R"] = {"value": 0.0}
    assert "- ssd, alpha 2.5, A_R: median 25.0; far" in Comparison.of(plan(methods=methods), rows).markdown()


def test_bars_in_labels_do_not_cut_cells_in_two():
    rows = [cell("a|b", 0, 97.0, 1.0) | {"method": "ssd"}]
    table = Comparison.of(plan(methods=[{"method": "ssd", "label": "a|b"}]), rows).markdown()
    assert r"| a\|b | 90.0 |" in table


def test_labels_that_look_like_numbers_or_nothing_are_read_as_they_were_written(tmp_path):
    labels = ("2", "NA", "0.10")
    made = plan(methods=[{"method": "ssd", "label": label} for label in labels], seeds=[0])
    comparison = Comparison.of(made, [cell(label, 0, 97.0, 1.0) for label in labels])
    comparison.write(tmp_path)
    again = Comparison.read(tmp_path)
    assert again.frame.entry.tolist() == list(labels)
    assert again.table_rows(by_request=False) == comparison.table_rows(by_request=False)


def test_a_setting_that_is_called_like_a_column_has_one_of_its_own():
    """`samples` of class-means is a hyper-parameter; the column of that name counts what was read."""
    made = plan(methods=[{"method": "class-means", "grid": {"samples": [100, 200]}}], seeds=[0])
    rows = [cell("class-means", 0, 97.0, 1.0) | {"settings": {"samples": n}, "samples": 3000} for n in (100, 200)]
    comparison = Comparison.of(made, rows)
    lines = [line for line in comparison.markdown().splitlines() if line.startswith("| ")]
    assert lines[0] == "| method | setting samples | A_R | probe | seconds | samples | peak_memory |"
    assert lines[2:] == [f"| class-means | {n} | 90.0 | 97.0 | 1.0 | 3.0 | - |" for n in (100, 200)]
    (sweep,) = [p for p in pictures(made, comparison.frame) if p.file == "class-means"]
    assert [row[0] for row in sweep.rows] == ["100", "200"]


def test_brackets_in_labels_are_shown_and_are_no_markup(capsys):
    label = "ssd [ours] [/]"
    Comparison.of(plan(methods=[{"method": "ssd", "label": label}]), [cell(label, 0, 97.0, 1.0)]).show()
    assert f"│ {label} │" in capsys.readouterr().out


def test_what_failed_is_counted_and_two_requests_are_named():
    made = Comparison.of(*grid())
    assert repr(made) == "<Comparison 'smoke': 2 methods, 2 requests, 2 seeds; 8 cells, 1 refused or failed>"
    assert "over seeds and requests" in made._repr_html_()
    one = Comparison.of(plan("ssd"), [cell("ssd", s, 97.0, 1.0) for s in (0, 1)])
    assert "mean ± standard deviation" in one._repr_html_()
    assert "over seeds and" not in one._repr_html_()


def test_means_by_request_come_as_a_frame_and_as_latex():
    made = Comparison.of(*grid())
    assert made.to_frame(by_request=True).A_R["mean"].tolist() == [91, 95, 89, 92]
    assert made.to_frame(by_request=True).A_R["count"].tolist() == [2, 2, 2, 1]
    header, *rows = [line for line in made.to_latex(by_request=True).splitlines() if "&" in line]
    assert header == r"method & request & A\_R & seconds & samples & peak\_memory \\"
    assert rows[3] == r"ssd & class 3 & 92.0 & 0.500 & 3.5 & 1.5 \\"
    assert r"\begin{tabular}{lrrrrr}" in made.to_latex(by_request=True)


def test_an_older_table_is_read_with_empty_words_and_unknown_numbers(tmp_path):
    made, rows = grid()
    Comparison.of(made, rows).frame.drop(columns=["as_long", "bounds"]).to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "plan.json").write_text(made.model_dump_json())
    read = Comparison.read(tmp_path)
    assert read.frame[["bounds", "as_long"]].to_numpy().tolist() == [["", ""]] * 8
    assert read.frame.refused.tolist() == [*[""] * 7, "not finite"]
    assert read.frame.notes.tolist() == [*[""] * 7, "one | two"]
    assert read.frame[list(AS_LONG)].isna().to_numpy().all()
    assert (read.plan, read.scores.empty, read.machine, read.kept) == (made, True, "", [])
    (tmp_path / "results.csv").unlink()
    with pytest.raises(InputError, match=f"^{tmp_path} holds no results.csv; `efface compare PLAN --out {tmp_path}` w"):
        Comparison.read(tmp_path)
