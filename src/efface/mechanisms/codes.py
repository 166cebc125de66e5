"""Training data in which some images are replaced by their class's mnemonic code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.training.checkpoint import EpochDraws

__all__ = ["CodeValues", "CodedPart", "draw_codes"]

CodeValues = Literal["uniform", "normal"]


def draw_codes(
    classes: Sequence[int],
    input_shape: Sequence[int],
    generator: torch.Generator,
    values: CodeValues = "uniform",
    per_class: int = 1,
) -> tuple[Tensor, Tensor]:
    """Draw random network inputs to stand for classes.

    Args:
        classes: Class numbers.
        input_shape: Shape of one network input.
        generator: Where they are drawn from, on the CPU.
        values: `uniform` in [0, 1), or `normal` N(0, 1).
        per_class: Codes for each class.

    Returns:
        Codes (M, *input_shape) float32 and their class numbers (M,) int64, M = len(classes) · per_class, by class.

    Source: Yamashita, Yamada, Shibata, arXiv 2306.05670, Alg. 1.
    """
    draw = torch.rand if values == "uniform" else torch.randn
    numbers = torch.tensor(list(classes), dtype=torch.int64).repeat_interleave(per_class)
    return draw((len(numbers), *input_shape), generator=generator), numbers


class CodedPart:
    """A part in which every sample, at every visit, is replaced by a code of its class with a fixed probability.

    The code takes the place of the finished network input, after augmentation and normalisation. Codes are mixed in by
    a generator of their own, so `share=0` yields exactly the batches of the part; only the images that are not
    replaced are read, so `share=1` reads none.

    Args:
        part: Samples to train on.
        codes: Network inputs (M, *input_shape).
        classes: The codes' class numbers (M,); several codes of one class are used equally often.
        share: Probability of replacing a sample.
        generator: Decides which samples, and which of several codes; its state runs on from epoch to epoch.
        noise: Standard deviation of Gaussian noise added to a code anew at every visit.
        owners: Whose codes stand in for each sample of the part (N,), if not its class's; `classes` then names the
            codes' owners. Labels stay the part's.

    Attributes:
        draws: `carried` by `fit`, so that a training that was stopped goes on with the same codes.

    Raises:
        InputError: The share is no probability, shapes differ, or a class (or owner) of the part has no code.

    Source: Yamashita, Yamada, Shibata, arXiv 2306.05670, Alg. 1. Several codes, noise and owners are not in the paper.
    """

    def __init__(
        self,
        part: Part,
        codes: Tensor,
        classes: Tensor,
        share: float,
        generator: torch.Generator,
        noise: float = 0.0,
        owners: Tensor | None = None,
    ) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"share of codes {share}; allowed: from 0 to 1")
        if tuple(codes.shape[1:]) != part.samples.input_shape or len(codes) != len(classes):
            raise InputError(
                f"{len(classes)} codes of shape {tuple(codes.shape[1:])} do not fit inputs of shape "
                f"{part.samples.input_shape}; draw new ones for this data"
            )
        self.part, self.share, self.noise, self.generator = part, share, noise, generator
        self.draws = EpochDraws(generator)
        self.codes = codes[classes.argsort(stable=True)].to(torch.float32)
        self._owners = part.labels if owners is None else owners
        self._count = torch.bincount(classes, minlength=int(self._owners.max()) + 1 if len(part) else 0)
        self._first = self._count.cumsum(0) - self._count
        bare = [c for c in self._owners.unique().tolist() if self._count[c] == 0]
        if bare:
            kind = "class" if owners is None else "owner"
            raise InputError(f"the {part.name} part holds samples of {kind} {bare}, which has no code; draw one for it")

    def __len__(self) -> int:
        return len(self.part)

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch with codes mixed in; see `Part.batches`."""
        order = self.part.order(epoch)
        yield from self.draws.over(self._mixed(epoch, order), len(order))

    def _mixed(self, epoch: Epoch, order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        device = epoch.device
        coded = [torch.rand(len(b), generator=self.generator) < self.share for b in order]
        own = slice(epoch.rank, None, epoch.world)
        wanted = [b[own][~m[own]] for b, m in zip(order, coded, strict=True) if not m[own].all()]
        images = self.part.read(wanted, epoch) if wanted else iter(())
        labels = self.part.labels
        for b, m in zip(order, coded, strict=True):
            y = labels[b]
            # Drawn for the whole batch, so that every process's generator stays in step.
            stand_ins = self._stand_ins(self._owners[b][m])[m.nonzero()[:, 0] % epoch.world == epoch.rank].to(device)
            y, mask = y[own].to(device), m[own].to(device)
            x = stand_ins if m[own].all() else next(images)
            if len(stand_ins) and len(x) < len(y):
                mixed = x.new_empty(len(y), *x.shape[1:])
                mixed[~mask], mixed[mask] = x, stand_ins
                x = mixed
            yield x, y

    def _stand_ins(self, owners: Tensor) -> Tensor:
        """Return a code for each owner (n,), with fresh noise."""
        which = self._first[owners]
        if int(self._count.max()) > 1:
            which = which + (torch.rand(len(owners), generator=self.generator) * self._count[owners]).long()
        codes = self.codes[which]
        if self.noise:
            codes = codes + self.noise * torch.randn(codes.shape, generator=self.generator)
        return codes
