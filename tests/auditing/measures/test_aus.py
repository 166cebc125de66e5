import pytest

from efface.auditing.measures.aus import adaptive_unlearning_score


def test_adaptive_unlearning_score_by_hand():
    assert adaptive_unlearning_score(test=0.9, test_original=0.9, forget=0.0, items=False) == 1
    assert adaptive_unlearning_score(test=0.8, test_original=0.9, forget=0.5, items=False) == pytest.approx(0.6)
    # Items: forget accuracy equal to test accuracy is best, also when it is high.
    assert adaptive_unlearning_score(test=0.9, test_original=0.9, forget=0.9, items=True) == 1
