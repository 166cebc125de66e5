"""The weight vectors of a stream of samples, and which samples of a chunk each of them counts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from efface.curvature.chunks import Chunk
from efface.errors import InputError

__all__ = ["Chosen", "SampleWeightVectors", "SampleWeights"]

SampleWeights = Literal["class"] | Tensor | Sequence[Tensor]


class Chosen:
    """The samples of a chunk that one weight vector counts.

    Args:
        sample_weights: (b,), in the dtype and on the device of the gradients.
    """

    def __init__(self, sample_weights: Tensor) -> None:
        self._weights = sample_weights
        self._values = sample_weights.tolist()
        self._rows = [row for row, value in enumerate(self._values) if value != 0]

    def value(self, row: int) -> float:
        """Return the weight of one sample."""
        return float(self._values[row])

    def within(self, start: int, stop: int) -> tuple[slice | Tensor, Tensor]:
        """Return which samples of start..stop−1 have weight (counted from start), and their weights."""
        first, last = bisect_left(self._rows, start), bisect_left(self._rows, stop)
        if last - first == stop - start:
            return slice(None), self._weights[start:stop]
        rows = torch.tensor(self._rows[first:last], dtype=torch.int64, device=self._weights.device)
        return rows - start, self._weights[rows]


class SampleWeightVectors:
    """K weight vectors over a stream whose length is known only at its end.

    Args:
        sample_weights: K vectors (n,), "class" for the indicator of every class, or None for one vector of ones.

    Raises:
        InputError: Another word, vectors of different lengths, values that are not finite.
    """

    def __init__(self, sample_weights: SampleWeights | None) -> None:
        if isinstance(sample_weights, str) and sample_weights != "class":
            raise InputError(
                f"sample_weights={sample_weights!r}: allowed are 'class', vectors of one number per sample, or None."
            )
        self._per_class = isinstance(sample_weights, str)
        self._vectors: list[Tensor] | None = None
        if sample_weights is not None and not isinstance(sample_weights, str):
            one = isinstance(sample_weights, Tensor) and sample_weights.ndim == 1
            given = [sample_weights] if one else sample_weights
            self._vectors = [torch.as_tensor(w).detach().to("cpu", torch.float64) for w in given]
            shapes = sorted({tuple(w.shape) for w in self._vectors})
            if len(shapes) != 1 or len(shapes[0]) != 1 or not all(bool(w.isfinite().all()) for w in self._vectors):
                raise InputError(f"Weight vectors of shapes {shapes}: all must be (n,) and finite.")

    def count(self, classes: int) -> int:
        """Return K, given the number of classes of the logits."""
        if self._per_class:
            return classes
        return 1 if self._vectors is None else len(self._vectors)

    def of(self, part: Chunk, logits: Tensor) -> list[Tensor]:
        """Return the K vectors (b,) of one chunk, in the precision of its gradients."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        if self._per_class:
            return [(part.y == c).to(dtype) for c in range(logits.shape[1])]
        if self._vectors is None:
            return [torch.ones(len(part), dtype=dtype, device=logits.device)]
        self.require_length(int(part.positions[-1]) + 1, exactly=False)
        return [w[part.positions].to(logits.device, dtype) for w in self._vectors]

    def require_length(self, samples: int, *, exactly: bool = True) -> None:
        """Raise unless there is one weight per sample.

        Raises:
            InputError: Too few weights, or (`exactly`) too many.
        """
        length = samples if self._vectors is None else len(self._vectors[0])
        if length < samples or (exactly and length != samples):
            raise InputError(f"The weight vectors have {length} entries for {samples} samples. Pass one per sample.")
