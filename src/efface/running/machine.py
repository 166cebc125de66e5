"""What decides the last bits of what is computed, beside the seeds: processor, threads, accelerator, libraries."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

__all__ = ["Machine", "processor"]

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")
"""Packages that compute."""


class Machine(BaseModel):
    """Where something was computed. Sums are rounded in another order on another machine.

    Attributes:
        processor: Its model, as the system names it.
        instructions: The vector instructions that torch chose for it, e.g. `AVX512`.
        threads: Of torch, within one operation.
        accelerator: The GPU's model with the versions of CUDA and cuDNN; empty on a CPU.
        libraries: Versions of the packages that compute.

    Example:
        >>> from efface.running.machine import Machine
        >>> here = Machine.here()
        >>> here.unlike(here.model_copy(update={"threads": 99}))[0].endswith("threads instead of 99")
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: str
    instructions: str
    threads: int
    accelerator: str = ""
    libraries: dict[str, str]

    @classmethod
    def here(cls, device: torch.device | str = "cpu") -> Machine:
        """Describe this process.

        Args:
            device: Where it computes.
        """
        return cls(
            processor=processor(),
            instructions=torch.backends.cpu.get_cpu_capability(),
            threads=torch.get_num_threads(),
            accelerator=_accelerator(torch.device(device)),
            libraries={name: found for name in LIBRARIES if (found := _version(name))},
        )

    def unlike(self, other: Machine) -> list[str]:
        """Return in words what is not as on another machine; empty if equal work has equal bits."""
        pairs = [(f"{self.threads} threads", f"{other.threads}")] if self.threads != other.threads else []
        for word, own, theirs in (
            ("processor", self.processor, other.processor),
            ("instructions", self.instructions, other.instructions),
            ("accelerator", self.accelerator or "none", other.accelerator or "none"),
            *((k, self.libraries.get(k), other.libraries.get(k)) for k in {**self.libraries, **other.libraries}),
        ):
            if own != theirs:
                pairs.append((f"{word} {own or 'not installed'}", theirs or "none"))
        return [f"{own} instead of {theirs}" for own, theirs in pairs]

    def __str__(self) -> str:
        """In a few words, for reports."""
        plural = "" if self.threads == 1 else "s"
        where = f", {self.accelerator}" if self.accelerator else ""
        packages = ", ".join(f"{k} {v}" for k, v in self.libraries.items())
        return f"{self.processor} ({self.instructions}), {self.threads} thread{plural}{where}; {packages}"


@cache
def processor() -> str:
    """Return the processor's model."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerator(device: torch.device) -> str:
    if device.type != "cuda" or not torch.cuda.is_available():
        return ""
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


@cache  # reading a package's metadata takes as long as a step of a small network
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
