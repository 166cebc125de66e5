"""What a terminal shows of an audit."""

import pytest
from rich.table import Table

from efface.report.console import print_table, rows_table, show
from efface.words import SPACE


def test_what_is_only_a_bound_is_marked_and_times_have_their_unit(audit):
    name = audit.candidate
    row = audit.row(name)
    capped = row.scores["relearn_steps"].model_copy(update={"value": 100.0, "bound": "at least"})
    took = row.scores["seconds"].model_copy(update={"value": 3725.0})
    scores = row.scores | {"relearn_steps": capped, "seconds": took}
    rows = tuple(row.model_copy(update={"scores": scores}) if r.name == name else r for r in audit.rows)
    table = rows_table(audit.model_copy(update={"rows": rows}))
    shown = {str(c.header): list(c.cells)[[r.name for r in rows].index(name)] for c in table.columns}
    assert shown["relearn steps"] == f"≥{SPACE}100"
    assert shown["time"] == f"1{SPACE}h 2{SPACE}min"


@pytest.mark.parametrize("level", ["a", "b", "c"])
def test_an_audit_fits_80_columns(make_audit, level, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    show(make_audit(level))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert any("logit mask" in line for line in lines), "a row's name stays on one line"


def test_a_table_that_cannot_fit_is_wider_and_no_word_is_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    table = Table(*(f"a_long_name_{i}" for i in range(4)))
    table.add_row(*("some words",) * 4)
    print_table(table)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "a_long_name_3" in out.splitlines()[1]


def test_brackets_in_names_are_shown_and_are_no_markup(audit, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    mine = "mine [bold] [/]"
    rows = tuple(r.model_copy(update={"name": mine if r.name == "fine-tuned" else r.name}) for r in audit.rows)
    show(audit.model_copy(update={"rows": rows, "data": "table [a]", "request_text": "items where kind in ['a']"}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "forget items where kind in ['a'] (table [a])"
    assert any(line.startswith(f"│ {mine} ") for line in lines)
