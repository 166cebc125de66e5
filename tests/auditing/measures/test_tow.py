import pytest

from efface.auditing.measures.tow import tug_of_war
from efface.errors import InputError


def test_tug_of_war_by_hand_and_is_one_for_the_reference_only():
    ours, theirs = {"f": 0.1, "r": 0.9, "t": 0.8}, {"f": 0.0, "r": 1.0, "t": 0.9}
    assert tug_of_war(ours, theirs) == pytest.approx(0.9**3)
    assert tug_of_war(theirs, theirs) == 1
    with pytest.raises(InputError, match="not percent"):
        tug_of_war({"f": 90.0}, {"f": 0.9})
    for ours, theirs in ((1.01, 0.5), (0.5, 1.01), (-0.01, 0.5)):
        with pytest.raises(InputError, match="The accuracy on 'f' is"):
            tug_of_war({"f": ours}, {"f": theirs})
    with pytest.raises(InputError, match=r"same parts: got \[\] and \[\]"):
        tug_of_war({}, {})
    with pytest.raises(InputError, match="same parts"):
        tug_of_war({"f": 0.9}, {"r": 0.9})
