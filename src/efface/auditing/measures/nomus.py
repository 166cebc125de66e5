"""NoMUS: utility and an attack's failure, averaged."""

from __future__ import annotations

__all__ = ["nomus"]


def nomus(test: float, attack_accuracy: float) -> float:
    """Return NoMUS = (TA + 1 - 2 |mia - 1/2|) / 2, 1 is best (arXiv 2311.02240).

    It rewards an attack accuracy of one half even where the retrained model is not there, so no verdict uses it.

    Args:
        test: Accuracy on test data, in [0, 1].
        attack_accuracy: Balanced accuracy of a membership attack, in [0, 1].
    """
    return (test + 1 - 2 * abs(attack_accuracy - 0.5)) / 2
