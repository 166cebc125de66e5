"""What subcommands share."""

from __future__ import annotations

import pytest
from typer.main import get_command

from efface.cli import app
from tests.conftest import efface_command


@pytest.mark.parametrize("flags", [(), ("--verbose",)])
def test_an_expected_failure_is_one_line_and_verbose_says_where_it_comes_from(flags, tmp_path):
    answer = efface_command("verify", tmp_path / "nowhere", *flags)
    assert answer.status == 2
    assert answer.stderr.splitlines()[-1].startswith("error: ")
    assert ("Traceback" in answer.stderr) == bool(flags)


@pytest.mark.parametrize("name", ["", *get_command(app).commands])
def test_help_fits_80_columns_and_nothing_in_it_is_cut(name, monkeypatch):
    """Rich cuts a word that is wider than its column, with an ellipsis, and a panel's title without one."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    answer = efface_command(*([name] if name else []), "--help")
    assert answer.status == 0
    assert [line for line in answer.stdout.splitlines() if len(line) > 80 or "…" in line] == []
    root = get_command(app)
    command = root.commands[name] if name else root
    panels = {getattr(p, "rich_help_panel", None) or "Options" for p in command.params}
    assert {panel for panel in panels if panel not in answer.stdout} <= {"Options"}


def test_every_subcommand_has_it():
    commands = get_command(app).commands
    assert all("verbose" in {p.name for p in command.params} for command in commands.values())
