import numpy as np
import pytest
import torch

from efface.auditing.measures.klom import klom
from efface.errors import InputError


def _margins(*shape, seed, mean=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def _slow(u, r):
    u, r = np.clip(u, -100, 100), np.clip(r, -100, 100)
    edges = np.linspace(min(u.min(), r.min()), max(u.max(), r.max()), 21)
    p, q = (np.histogram(x, edges)[0] / len(x) for x in (u, r))
    q = np.maximum(q, 1e-5)
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def test_equals_numpys_histograms():
    u, r = _margins(30, 50, seed=0, mean=0.5), _margins(30, 50, seed=1)
    slow = [_slow(u[:, i].numpy(), r[:, i].numpy()) for i in range(50)]
    torch.testing.assert_close(klom(u, r), torch.tensor(slow, dtype=torch.float64))


@pytest.mark.parametrize(
    ("n", "floor", "tolerance"),
    [(10, 5.6, 0.15), (20, 3.0, 0.15), (50, 0.83, 0.1), (100, 0.34, 0.03), (500, 0.05, 0.01)],
)
def test_identical_distributions_give_the_known_floor(n, floor, tolerance):
    # The floor depends on the distribution's tails (0.85 to 0.92 at 50 models), hence the wider tolerance there.
    found = klom(_margins(n, 2000, seed=0), _margins(n, 2000, seed=1)).mean()
    assert float(found) == pytest.approx(floor, abs=tolerance)


def test_identical_models_give_zero_and_disjoint_ones_the_cap():
    u = _margins(20, 5, seed=0)
    assert klom(u, u).abs().max() < 1e-12
    assert klom(torch.full((20, 5), 3.0), torch.full((20, 5), 3.0)).tolist() == [0] * 5
    far = klom(torch.full((20, 5), 100.0), torch.full((20, 5), -100.0))
    torch.testing.assert_close(far, torch.full((5,), -np.log(1e-5), dtype=torch.float64))


def test_largest_value_is_counted_in_the_last_bin():
    """Public code drops it: the histogram of the unlearned models then sums to less than one."""
    u = torch.tensor([[0.0], [1.0]])
    r = torch.tensor([[0.0], [0.5]])
    # Bins of width 0.05: u has half its mass at 0 and half at 1, r half at 0 and half in the middle.
    expected = 0.5 * np.log(0.5 / 0.5) + 0.5 * np.log(0.5 / 1e-5)
    assert float(klom(u, r)) == pytest.approx(expected)


def test_the_published_binning_drops_the_largest_value_as_public_code_does():
    """Half-open bins, compared in a loop with a definition by comparisons."""
    u, r = _margins(12, 30, seed=0, mean=0.5), _margins(12, 30, seed=1)

    def slow(a, b):
        low, high = min(a.min(), b.min()), max(a.max(), b.max())
        edges = [*(low + (high - low) * k / 20 for k in range(20)), high]
        p, q = ([float(((x >= edges[k]) & (x < edges[k + 1])).mean()) for k in range(20)] for x in (a, b))
        assert sum(p) + sum(q) == pytest.approx(2 - 1 / 12)  # the one largest value is in no bin
        return sum(x * np.log(x / max(y, 1e-5)) for x, y in zip(p, q, strict=True) if x > 0)

    expected = [slow(u[:, i].numpy(), r[:, i].numpy()) for i in range(30)]
    assert klom(u, r, closed=False).tolist() == pytest.approx(expected)
    # Models that agree to the last digit fall into the first bin, not out of it.
    assert klom(torch.full((20, 5), 3.0), torch.full((20, 5), 3.0), closed=False).tolist() == [0] * 5


def test_infinite_margins_are_clipped():
    assert klom(torch.full((4, 2), -torch.inf), torch.zeros(4, 2)).isfinite().all()


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="same size"):
        klom(torch.zeros(3, 4), torch.zeros(4, 4))
    with pytest.raises(InputError, match="too few"):
        klom(torch.zeros(1, 4), torch.zeros(1, 4))
    with pytest.raises(InputError, match="NaN"):
        klom(torch.full((2, 1), torch.nan), torch.zeros(2, 1))
