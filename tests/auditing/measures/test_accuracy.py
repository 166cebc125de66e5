import pytest
import torch

from efface.auditing.measures.accuracy import accuracy, confusion, mask_classes, per_class_accuracy
from efface.auditing.measures.aus import adaptive_unlearning_score
from efface.auditing.measures.nomus import nomus
from efface.auditing.measures.tow import tug_of_war
from efface.errors import InputError

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0], [5.0, 1.0, 1.0]])
LABELS = torch.tensor([0, 1, 1, 0])


def test_confusion_by_hand():
    table = confusion(LOGITS, LABELS)
    assert table.tolist() == [[2, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert per_class_accuracy(table)[:2].tolist() == [1, 0.5]
    assert per_class_accuracy(table)[2].isnan()
    assert accuracy(LOGITS, LABELS) == 0.75


def test_confusion_equals_a_loop():
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(300, 6, generator=g), torch.randint(6, (300,), generator=g)
    slow = torch.zeros(6, 6, dtype=torch.int64)
    for z, y in zip(logits, labels, strict=True):
        slow[y, z.argmax()] += 1
    assert torch.equal(confusion(logits, labels), slow)


def test_masking_renormalises_over_the_kept_classes():
    masked = mask_classes(LOGITS, [2])
    torch.testing.assert_close(masked.softmax(1)[:, :2], LOGITS[:, :2].softmax(1))
    assert (masked.argmax(1) != 2).all()
    with pytest.raises(InputError, match="leaves no answer"):
        mask_classes(LOGITS, [0, 1, 2])


def test_tug_of_war_by_hand_and_is_one_for_the_reference_only():
    ours, theirs = {"f": 0.1, "r": 0.9, "t": 0.8}, {"f": 0.0, "r": 1.0, "t": 0.9}
    assert tug_of_war(ours, theirs) == pytest.approx(0.9**3)
    assert tug_of_war(theirs, theirs) == 1
    with pytest.raises(InputError, match="not percent"):
        tug_of_war({"f": 90.0}, {"f": 0.9})
    with pytest.raises(InputError, match="same parts"):
        tug_of_war({"f": 0.9}, {"r": 0.9})


def test_adaptive_unlearning_score_by_hand():
    assert adaptive_unlearning_score(test=0.9, test_original=0.9, forget=0.0, items=False) == 1
    assert adaptive_unlearning_score(test=0.8, test_original=0.9, forget=0.5, items=False) == pytest.approx(0.6)
    # Items: forget accuracy equal to test accuracy is best, also when it is high.
    assert adaptive_unlearning_score(test=0.9, test_original=0.9, forget=0.9, items=True) == 1


def test_nomus_by_hand():
    assert nomus(0.9, 0.5) == pytest.approx(0.95)
    assert nomus(0.9, 0.8) == nomus(0.9, 0.2) == pytest.approx((0.9 + 1 - 0.6) / 2)


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(InputError, match="no example"):
        accuracy(LOGITS[:0], LABELS[:0])
