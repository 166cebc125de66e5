import pytest

from efface.auditing.measures.nomus import nomus


def test_nomus_by_hand():
    assert nomus(0.9, 0.5) == pytest.approx(0.95)
    assert nomus(0.9, 0.8) == nomus(0.9, 0.2) == pytest.approx((0.9 + 1 - 0.6) / 2)
