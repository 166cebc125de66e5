import pytest

from efface.auditing.scores.cost import speedup
from efface.errors import InputError


def test_speedup_is_a_ratio_of_times():
    assert speedup(2.0, 10.0) == 5
    assert speedup(10.0, 2.0) == 0.2


@pytest.mark.parametrize("times", [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])
def test_impossible_times_are_refused(times):
    with pytest.raises(InputError, match="with a clock"):
        speedup(*times)
