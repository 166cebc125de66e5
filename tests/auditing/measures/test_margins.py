import math

import pytest
import torch

from efface.auditing.measures.margins import check_logits, margins
from efface.errors import InputError


def test_equals_log_odds_of_the_softmax():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(50) % 7
    p = logits.softmax(1)[torch.arange(50), labels]
    # float64 on both sides; odds of moderate probabilities lose at most a few units in the last place.
    torch.testing.assert_close(margins(logits, labels), torch.log(p / (1 - p)), rtol=1e-10, atol=1e-10)


def test_float32_logits_keep_margins_that_float32_probabilities_lose():
    logits = torch.tensor([[40.0, 0.0, 0.0]])
    assert logits.softmax(1)[0, 0] == 1  # log(p / (1 - p)) would be infinite
    assert margins(logits, torch.tensor([0])).item() == pytest.approx(40 - math.log(2), abs=1e-12)


def test_shift_of_all_logits_changes_nothing_and_a_row_does_not_depend_on_its_batch():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(20) % 5
    whole = margins(logits, labels)
    torch.testing.assert_close(margins(logits.double() + 3, labels), whole)
    alone = torch.cat([margins(logits[i : i + 1], labels[i : i + 1]) for i in range(20)])
    assert torch.equal(alone, whole)


def test_masked_class_gives_minus_infinity_and_its_complement_plus_infinity():
    logits = torch.tensor([[-torch.inf, 1.0], [-torch.inf, 1.0]])
    assert margins(logits, torch.tensor([0, 1])).tolist() == [-math.inf, math.inf]


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([[math.nan, 0.0]], [0], "NaN or infinite"),
        ([[math.inf, 0.0]], [0], "NaN or infinite"),
        ([[-math.inf, -math.inf]], [0], "minus infinities only"),
        ([[0.0, 1.0]], [2], "2 columns"),
        ([[0.0, 1.0]], [-1], "labels run from -1"),
        ([[0.0, 1.0]], [0, 1], "one label for each"),
    ],
)
def test_unusable_logits_are_refused(logits, labels, words):
    with pytest.raises(InputError, match=words):
        check_logits(torch.tensor(logits), torch.tensor(labels))
