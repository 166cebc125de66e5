"""Where a model card lies beside exported weights, and which one may be replaced."""

from __future__ import annotations

from pathlib import Path

from efface.errors import InputError

__all__ = ["MARK", "README", "check_card", "is_own"]

MARK = "<!-- model card written by efface -->"
"""Stands in every card, so that no other text is taken for one."""

README = "README.md"
"""The card of a folder."""


def is_own(file: Path) -> bool:
    """Say whether a file is a card that was written here."""
    try:
        return MARK in file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def check_card(weights: Path, overwrite: bool) -> Path:
    """Return the file of the card beside a file of weights: its name with the ending .md.

    Args:
        weights: The file of weights.
        overwrite: Whether a card that lies there may be replaced.

    Raises:
        InputError: Something lies there that may not be replaced.
    """
    file = weights.with_suffix(".md")
    if file.exists() and not (overwrite and is_own(file)):
        why = "is not a model card of Efface's, and is never replaced" if not is_own(file) else "exists"
        raise InputError(
            f"{file} {why}; choose another name for the weights, or leave the card out (--no-card)"
            + ("" if overwrite or not is_own(file) else ", or allow overwriting (--overwrite)")
        )
    return file
