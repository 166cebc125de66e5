"""Tug of war (ToW): how close all accuracies are to a retrained model's."""

from __future__ import annotations

from collections.abc import Mapping

from efface.errors import InputError

__all__ = ["tug_of_war"]


def tug_of_war(ours: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return ToW, the product over forget, retain and test of one minus the accuracy gap to the retrained model.

    ToW = prod_S (1 - |a_u(S) - a_r(S)|), 1 is best (arXiv 2406.01257).

    Args:
        ours: Accuracies in [0, 1] by part name.
        reference: The retrained model's, with the same names.

    Raises:
        InputError: If the parts differ, none is given, or a value is no accuracy (percent, for example).
    """
    if set(ours) != set(reference) or not ours:
        raise InputError(f"ToW compares the same parts: got {sorted(ours)} and {sorted(reference)}.")
    product = 1.0
    for name in ours:
        for value in (ours[name], reference[name]):
            if not 0 <= value <= 1:
                raise InputError(f"The accuracy on {name!r} is {value}; ToW takes shares between 0 and 1, not percent.")
        product *= 1 - abs(ours[name] - reference[name])
    return product
