"""The learning with selective forgetting measure (LSFM)."""

from __future__ import annotations

__all__ = ["selective_forgetting_measure"]


def selective_forgetting_measure(accuracy: float, forgetting: float) -> float:
    """Return S = 2 A F / (A + F), the harmonic mean of what is kept and what is forgotten; 0 if either is.

    Source: Shibata et al., "Learning with Selective Forgetting", IJCAI 2021, and its code.

    Args:
        accuracy: A, accuracy on the kept classes, in [0, 1].
        forgetting: F, accuracy on the deleted classes before less that after, in [-1, 1]; a gain counts as 0.
    """
    forgetting = max(forgetting, 0.0)
    return 2 * accuracy * forgetting / (accuracy + forgetting) if accuracy and forgetting else 0.0
