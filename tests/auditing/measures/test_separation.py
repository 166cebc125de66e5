import pytest
import torch

from efface.auditing.measures.probe import linear_probe
from efface.auditing.measures.separation import class_separation
from efface.errors import InputError


def _clusters(n, k, d, spread, seed=0, apart=4.0):
    g = torch.Generator().manual_seed(seed)
    centres = apart * torch.eye(k, d)
    labels = torch.arange(n) % k
    return centres[labels] + spread * torch.randn(n, d, generator=g), labels


def test_separation_is_the_planted_ratio_without_bias():
    # Centres 4 * e_k: |mu_f - mu_k|^2 = 32; spread 2 in 20 dimensions: W = 80; ratio 0.4.
    found = torch.tensor([float(class_separation(*_clusters(100, 5, 20, 2.0, seed=s), [0])[0]) for s in range(200)])
    # The nearest of four equally near classes is taken: the minimum of noisy distances lies a little below.
    single = torch.tensor([float(class_separation(*_clusters(40, 2, 20, 2.0, seed=s), [0])[0]) for s in range(400)])
    assert found.mean() < 0.4
    assert float(single.mean()) == pytest.approx(0.4, abs=3 * float(single.std()) / 20)


def test_separation_ignores_rotation_shift_and_scale():
    x, y = _clusters(200, 4, 6, 1.0)
    q, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    # float32 features: the shift costs a few of their digits.
    moved = class_separation(7 * x @ q + 3, y, [1, 2])
    torch.testing.assert_close(moved, class_separation(x, y, [1, 2]), rtol=1e-4, atol=0)


def test_separation_grows_without_saturating_where_recall_does():
    near, far = _clusters(200, 4, 6, 0.5), _clusters(200, 4, 6, 0.25)
    assert (linear_probe(*near, near[0]) == near[1]).all()
    assert (linear_probe(*far, far[0]) == far[1]).all()
    assert float(class_separation(*far, [0])) == pytest.approx(4 * float(class_separation(*near, [0])), rel=0.05)


def test_separation_draws_surround_the_value():
    x, y = _clusters(300, 3, 6, 1.0)
    found = class_separation(x, y, [0], torch.Generator().manual_seed(0), 500)
    assert found.shape == (501,)
    low, high = found[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    assert low < found[0] < high
    assert float(found[1:].mean()) == pytest.approx(float(found[0]), rel=0.02)


def test_separation_by_hand():
    """Class 0 at 0 and 2, class 1 at 10, 12 and 14, class 2 at 31 and 33; one dimension."""
    x = torch.tensor([0.0, 2, 10, 12, 14, 31, 33])[:, None]
    y = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    # Means 1, 12, 32; variances 2, 4, 2: W = 8 / 3. Bias of a squared distance: variance over records of both classes.
    one = (11**2 - 2 / 2 - 4 / 3) / (8 / 3)
    assert class_separation(x, y, [0]).tolist() == pytest.approx([one])
    # Of class 1 the nearest is class 0.
    other = (11**2 - 4 / 3 - 2 / 2) / (8 / 3)
    assert class_separation(x, y, [1]).tolist() == pytest.approx([other])
    # Both forgotten: the mean of both distances to class 2, which alone is kept.
    both = ((31**2 - 1 - 1) + (20**2 - 4 / 3 - 1)) / 2 / (8 / 3)
    assert class_separation(x, y, [0, 1, 1]).tolist() == pytest.approx([both])
    with pytest.raises(InputError, match=r"two records of each of the classes \[0, 2\]"):
        class_separation(x[1:], y[1:], [2, 0])


def test_separation_draws_are_freed_of_the_bias_of_drawing_again():
    """A class of 4 records: resampling adds its variance over 4 once more to a squared distance."""
    x, y = _clusters(8, 2, 3, 1.0, apart=2.0)
    found = class_separation(x.double(), y, [0], torch.Generator().manual_seed(1), 40_000)
    # The draws' mean is known to 0.5 %; a bias left in would be above 10 %.
    assert float(found[1:].mean()) == pytest.approx(float(found[0]), rel=0.02)
    assert class_separation(x, y, [0], torch.Generator()).shape == (1,)
