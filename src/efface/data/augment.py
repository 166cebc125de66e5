"""Random crops and flips of a whole batch at once, on whatever device the batch lives.

torchvision's batched transforms draw one crop and one flip for the whole batch; here every sample draws its own,
without a Python loop.
"""

from __future__ import annotations

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from efface.fields import Fields

__all__ = ["Augment"]


class Augment(Fields):
    """Per-sample augmentation, applied to raw pixels before normalisation (so padding is black).

    Attributes:
        crop: Pixels of zero padding on each side before a random crop back to the original size; 0 turns it off.
        flip: Mirror each image left to right with probability one half.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: int = Field(default=0, ge=0)
    flip: bool = False

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            x: Images (B, C, H, W), any dtype.
            generator: A CPU generator; draws are made on the CPU so that every device sees the same ones.

        Returns:
            A batch of the same shape and dtype.
        """
        if x.ndim != 4:
            return x
        n, _, h, w = x.shape
        if self.crop:
            padded = torch.nn.functional.pad(x, [self.crop] * 4)
            top, left = torch.randint(2 * self.crop + 1, (2, n), generator=generator).to(x.device)
            windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # a view: (B, C, 2p+1, 2p+1, H, W)
            x = windows[torch.arange(n, device=x.device), :, top, left]
        if self.flip:
            mirrored = torch.rand(n, generator=generator) < 0.5
            x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
        return x
