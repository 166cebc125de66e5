"""A model of which only its answers are known: what it said about each record, looked up."""

from __future__ import annotations

from torch import Tensor, nn

from efface.errors import InputError

__all__ = ["Recorded", "need_weights"]


class Recorded(nn.Module):
    """From a record's position to the logits that were recorded for it; it has no weights and no features.

    Args:
        logits: Shape (records, classes).
    """

    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, classes) of records at positions (B, 1), int64."""
        return self.logits[x[:, 0]]


def need_weights(model: nn.Module, what: str) -> None:
    """Refuse to look into a model of which only answers are known.

    Args:
        model: Any module.
        what: What has to look into it, for the message.

    Raises:
        InputError: It is recorded answers.
    """
    if isinstance(model, Recorded):
        raise InputError(f"only its answers are known, and {what} needs the model itself")
