import pytest
import torch

from efface.auditing.measures.head_row import row_z_scores
from efface.errors import InputError


def test_by_hand():
    # Kept 1, 2, 3, 6: mean 3, variance 14 / 3.
    found = row_z_scores(torch.tensor([10.0, 1, 2, 3, 6, -4]), [5, 0])
    assert found.tolist() == pytest.approx([7 / (14 / 3) ** 0.5, -7 / (14 / 3) ** 0.5])


def test_shift_and_scale_of_all_rows_change_nothing():
    values = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(row_z_scores(5 * values - 3, [2]), row_z_scores(values, [2]))


def test_rows_that_agree_make_any_other_stand_out():
    assert float(row_z_scores(torch.tensor([0.0, 0, 0, 0.1]), [3])) > 1e6


@pytest.mark.parametrize(
    ("values", "gone", "words"),
    [
        ([1.0, 2, 3], [0], "2 kept ones"),
        ([1.0, 2, 3, 4], [], "0 forgotten rows"),
        ([1.0, float("nan"), 3, 4, 5], [0], "finite"),
    ],
)
def test_refusals(values, gone, words):
    with pytest.raises(InputError, match=words):
        row_z_scores(torch.tensor(values), gone)
