"""Where a card lies beside weights, and what is never replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.errors import InputError
from efface.models.checkpoints.card import MARK, check_card


def test_a_card_lies_beside_and_only_cards_are_replaced(tmp_path: Path) -> None:
    weights, card = tmp_path / "new.pth", tmp_path / "new.md"
    assert check_card(weights, False) == card
    card.write_text(f"{MARK}\nold")
    assert check_card(weights, True) == card
    with pytest.raises(InputError, match=r"new\.md exists; .*--overwrite"):
        check_card(weights, False)
    for foreign in (b"my notes", b"\xff\xfe\x00"):
        card.write_bytes(foreign)
        for overwrite in (False, True):
            with pytest.raises(InputError, match=r"is never replaced; .*\(--no-card\)$"):
                check_card(weights, overwrite)
