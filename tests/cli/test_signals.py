"""SIGTERM unwinds a command wherever it arrives, and its exit status says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, time, weakref
from efface.cli.signals import unwinding

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it

def ask(number=signal.SIGTERM):
    os.kill(os.getpid(), number)

class Dying:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        ask(self.number)
        time.sleep(0)  # the handler raises here
"""
UNWOUND = "error: terminated; nothing half-written was left behind\n"


def ended(script: str) -> tuple[int, str, str]:
    """Return exit status, output and errors of a script."""
    done = subprocess.run([sys.executable, "-c", BEGIN + script], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_it_unwinds_outside_of_commands_too():
    script = "with unwinding():\n try:\n  ask()\n  time.sleep(30)\n finally:\n  print('unwound')"
    assert ended(script) == (143, "unwound\n", UNWOUND)


@pytest.mark.parametrize("kind", ["Terminated", "KeyboardInterrupt"])
def test_its_status_is_kept_where_a_library_passes_on_no_more_than_an_interrupt(kind):
    """Ray raises a bare KeyboardInterrupt, click ends with 130."""
    script = (
        "import typer\nfrom efface.cli.options import guarded\napp = typer.Typer()\n"
        "@app.command()\n@guarded\ndef run() -> None:\n"
        " try:\n  ask()\n  time.sleep(30)\n"
        f" except KeyboardInterrupt as error:\n  raise {'error' if kind == 'Terminated' else kind} from None\n"
        "sys.argv = ['efface']\nwith unwinding():\n app()"
    )
    assert ended(script) == (143, "", UNWOUND)


def test_its_status_is_kept_while_arguments_are_read():
    script = (
        "import typer\napp = typer.Typer()\n"
        "def asking(value: int) -> int:\n ask()\n time.sleep(30)\n"
        "@app.command()\ndef run(n: int = typer.Option(1, callback=asking)) -> None: ...\n"
        "sys.argv = ['efface']\nwith unwinding():\n app()"
    )
    code, out, errors = ended(script)
    assert (code, out) == (143, "")
    assert errors.endswith(UNWOUND)


@pytest.mark.skipif(sys.platform == "win32", reason="no timers of signals")
@pytest.mark.parametrize(("name", "status", "said"), [("TERM", 143, UNWOUND), ("INT", -2, "KeyboardInterrupt\n")])
def test_what_a_finaliser_swallows_is_raised_a_moment_later(name, status, said):
    script = (
        "sys.excepthook = lambda kind, *_: print(kind.__name__, file=sys.stderr)\n"
        f"with unwinding():\n Dying(signal.SIG{name})\n time.sleep(30)\n print('went on')"
    )
    assert ended(script) == (status, "", said)


def test_once_the_command_has_ended_it_is_passed_over():
    script = "import atexit\natexit.register(ask)\nwith unwinding():\n print('done')\nask()\nprint('after')"
    assert ended(script) == (0, "done\nafter\n", "")


def test_what_else_finalisers_raise_is_printed_as_usual():
    script = "with unwinding():\n class Bad:\n  def __del__(self): raise ValueError('lost')\n Bad()"
    code, _, errors = ended(script)
    assert code == 0
    assert "ValueError: lost" in errors
