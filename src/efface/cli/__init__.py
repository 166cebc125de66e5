"""The command line: one thin subcommand per verb, with the same name and the same arguments.

Exit status, see `efface.cli.outcome.Exit`: 0 done, 1 failed, 2 bad input, 3 differs from a model that never saw the
data, 4 could not tell (3 and 4: verify, audit --check), 130 interrupted, 143 terminated. Results go to stdout, progress
and errors to stderr.
Nothing heavy is imported before a subcommand runs, so that `efface --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from efface import __version__
from efface.cli.audit import audit
from efface.cli.compare import compare
from efface.cli.demo import demo
from efface.cli.doctor import doctor
from efface.cli.export import export
from efface.cli.forget import forget
from efface.cli.importing import import_checkpoint
from efface.cli.methods import methods
from efface.cli.outcome import STATUS
from efface.cli.repair import repair
from efface.cli.signals import unwinding
from efface.cli.train import train
from efface.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make trained PyTorch classifiers forget on request, and show how far they did.",
    epilog=STATUS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


# In the order in which people need them: help lists them so.
app.command()(train)
app.command("import")(import_checkpoint)
for command in (forget, audit, verify, compare, repair, export, methods, demo, doctor):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    with unwinding():
        app()


if __name__ == "__main__":
    main()
