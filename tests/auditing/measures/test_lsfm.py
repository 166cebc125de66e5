import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.auditing.measures.lsfm import selective_forgetting_measure


def test_check_7_of_the_sheet_by_hand():
    assert selective_forgetting_measure(0.8, 0.6) == pytest.approx(0.6857, abs=5e-5)
    assert selective_forgetting_measure(0.0, 0.6) == selective_forgetting_measure(0.8, 0.0) == 0
    assert selective_forgetting_measure(0.8, -0.1) == 0  # what is recognised more often is not forgotten


@given(st.integers(0, 999), st.integers(0, 999))
def test_it_lies_between_the_smaller_and_twice_the_smaller(right, lost):
    a, f = right / 999, lost / 999
    found = selective_forgetting_measure(a, f)
    assert found == selective_forgetting_measure(f, a)
    assert min(a, f) * (1 - 1e-12) <= found <= 2 * min(a, f) * (1 + 1e-12)
