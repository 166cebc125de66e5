"""Mean and standard deviation per channel that published results use, and what a caller puts in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from efface.errors import InputError

__all__ = ["NORMALISATION", "Normalisation"]

NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "image_folder": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation per channel of pixels in [0, 1] that published results use; ImageNet's for folders."""


@dataclass(frozen=True)
class Normalisation:
    """x -> (x - mean) / std per channel, of pixels in [0, 1]; both None for no change.

    Attributes:
        mean: One number per channel, or None.
        std: One number above 0 per channel, or None.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls, name: str, normalise: bool, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> Normalisation:
        """Return the usual constants of a data set, or those given in their place, or none.

        Args:
            name: A key of `NORMALISATION`.
            normalise: False for pixels in [0, 1] as they are.
            mean: Instead of the usual mean.
            std: Instead of the usual standard deviation.

        Raises:
            InputError: Constants together with normalise=False, the wrong number of them, or a std that is not above 0.
        """
        if not normalise:
            if mean is not None or std is not None:
                raise InputError("mean or std is given together with normalise=False; leave one of the two out")
            return cls()
        usual_mean, usual_std = NORMALISATION[name]
        chosen = cls(tuple(map(float, mean or usual_mean)), tuple(map(float, std or usual_std)))
        channels = len(usual_mean)
        if len(chosen.mean or ()) != channels or len(chosen.std or ()) != channels or min(chosen.std or (0,)) <= 0:
            raise InputError(
                f"mean {chosen.mean} and std {chosen.std}; needed: {channels} numbers each (channels), std above 0"
            )
        return chosen

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that would give these constants again, for the record."""
        return {"normalise": self.mean is not None, "mean": self.mean, "std": self.std}
