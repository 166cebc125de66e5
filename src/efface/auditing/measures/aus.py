"""The adaptive unlearning score (AUS)."""

from __future__ import annotations

__all__ = ["adaptive_unlearning_score"]


def adaptive_unlearning_score(*, test: float, test_original: float, forget: float, items: bool) -> float:
    """Return AUS = (1 - (TA_o - TA_u)) / (1 + Delta), 1 is best (arXiv 2312.02052).

    Delta is the forget accuracy for class requests (it should be 0) and |TA_u - FA_u| for items (where the forgotten
    records should look like any unseen ones).

    Args:
        test: TA_u, accuracy on test data (of the kept classes, for class requests), in [0, 1].
        test_original: TA_o, the original model's on the same data.
        forget: FA_u, accuracy on the forget data.
        items: Whether single items, rather than whole classes, are forgotten.
    """
    delta = abs(test - forget) if items else forget
    return (1 - (test_original - test)) / (1 + delta)
