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


def test_every_subcommand_has_it():
    commands = get_command(app).commands
    assert all("verbose" in {p.name for p in command.params} for command in commands.values())
