"""The subcommand `doctor`: is everything here that Efface needs, and what else could be?"""

from __future__ import annotations

import dataclasses
import json
from itertools import groupby

import typer

from efface.cli.options import JsonOption, guarded
from efface.cli.outcome import Exit, wrapped

__all__ = ["doctor"]


@guarded
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, which devices there are, and how to get what is missing."""
    from efface.running.installed import devices, packages, versions

    found, about, places = list(packages()), versions(), devices()
    broken = [p for p in found if p.problem and not p.extra]
    if as_json:
        plain = [dataclasses.asdict(p) | {"advice": p.advice} for p in found]
        typer.echo(json.dumps({"versions": about, "devices": places, "packages": plain}, indent=2))
    else:
        for name, words in about.items():
            typer.echo(f"{name:<12}{words}")
        for name, words in places.items():
            typer.echo(f"{name:<12}{words}")
        for extra, members in groupby(found, key=lambda p: p.extra):
            listed = list(members)
            typer.echo(f"\n{extra or 'needed'}")
            for p in listed:
                typer.echo(wrapped(f"  {p.name:<20}{p.version or '-':<14}{p.problem}".rstrip(), indent=36))
            if advice := next((p.advice for p in listed if p.advice), ""):
                typer.echo(f"  get it: {advice}")
    if broken:
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        typer.echo("\nall that efface needs is here")
