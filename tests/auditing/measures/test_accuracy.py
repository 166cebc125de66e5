import pytest
import torch

from efface.auditing.measures.accuracy import accuracy, confusion, mask_classes, per_class_accuracy
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


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(InputError, match="no example"):
        accuracy(LOGITS[:0], LABELS[:0])
