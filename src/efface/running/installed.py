"""What is installed here and what it runs on: versions, devices, optional packages and how to get them."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from efface import __version__
from efface.errors import InputError
from efface.running import extras

__all__ = ["Package", "devices", "packages", "versions"]

DISTRIBUTION = "efface"

SKIPPED = frozenset({"dev"})
"""Extras of Efface's own developers."""

IMPORTS: dict[str, Callable[[], object]] = {
    "torchvision": extras.import_torchvision,
    "timm": extras.import_timm,
    "pillow": extras.import_pillow,
    "ray": extras.import_ray,
    "optuna": extras.import_optuna,
    "transformers": extras.import_transformers,
}
"""How Efface imports a package where that takes more than its name."""


@dataclass(frozen=True)
class Package:
    """One package that Efface needs, or can use.

    Attributes:
        name: As pip knows it.
        extra: Which extra it belongs to; empty where Efface cannot do without it.
        wanted: Its least version, as Efface's metadata has it.
        version: What is installed; empty if it is not.
        problem: Why it cannot be used; empty if it can.
    """

    name: str
    extra: str
    wanted: str
    version: str
    problem: str

    @property
    def advice(self) -> str:
        """What to do about it; empty where nothing has to be done."""
        if not self.problem:
            return ""
        return f"pip install -U 'efface{f'[{self.extra}]' if self.extra else ''}'"


def versions() -> dict[str, str]:
    """Return what runs here: Efface, Python, PyTorch and the system."""
    return {
        "efface": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
    }


def devices() -> dict[str, str]:
    """Return the devices that work can run on, by the name that `--device` takes, with a word on each."""
    found = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used by PyTorch"}
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(i)
        found[f"cuda:{i}"] = f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
    return found


def packages() -> Iterator[Package]:
    """Yield what Efface's metadata names, those it cannot do without first, each of them imported once.

    Raises:
        InputError: Efface is not installed as a package, so that nothing says what it needs.
    """
    try:
        named = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise InputError(
            "efface is not installed as a package here (it runs from its source), so nothing says what it needs; "
            "pip install -e ."
        ) from None
    pattern = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?([^;]*)(?:;.*extra == ['\"](.+)['\"].*)?")
    wanted = [match.groups(default="") for match in map(pattern.match, named) if match]
    for name, version, extra in sorted(wanted, key=lambda w: (w[2], w[0].lower())):
        if extra not in SKIPPED and name != DISTRIBUTION:
            yield _looked_at(name, extra, version.strip())


def _looked_at(name: str, extra: str, wanted: str) -> Package:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name, extra, wanted, "", "not installed")
    least = re.search(r">=\s*([0-9.]+)", wanted)
    if least and _numbers(version) < _numbers(least[1]):
        return Package(name, extra, wanted, version, f"too old, needed {wanted}")
    try:
        IMPORTS.get(name, lambda: None)()
    except (InputError, ImportError, OSError, RuntimeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        return Package(name, extra, wanted, version, f"installed, but cannot be imported: {first}")
    return Package(name, extra, wanted, version, "")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release's numbers without trailing zeros, so that 2.6 is 2.6.0."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    found = [int(n) for n in release[0].split(".")] if release else []
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
