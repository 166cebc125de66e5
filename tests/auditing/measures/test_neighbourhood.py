import pytest
import torch

from efface.auditing.measures.neighbourhood import in_ball, residual_knowledge
from efface.errors import InputError


def test_displacements_fill_the_ball_evenly():
    moved = in_ball((20_000, 1, 3), 2.0, torch.Generator().manual_seed(0)).flatten(1)
    length = moved.norm(dim=1)
    assert float(length.max()) <= 2.0 + 1e-5
    # In three dimensions an eighth of the volume lies within half the radius; 4 standard errors.
    assert float((length < 1).float().mean()) == pytest.approx(1 / 8, abs=4 * (7 / 64 / 20_000) ** 0.5)
    assert moved.mean(0).abs().max() < 0.04


def test_no_radius_moves_nothing():
    assert in_ball((5, 4), 0.0, torch.Generator()).abs().max() == 0


def test_ratio_by_hand():
    assert residual_knowledge(49.5, torch.tensor([9.5, 14.5]), 99) == pytest.approx(50 / 12.5)
    assert residual_knowledge(0, torch.tensor([0.0, 0.0, 0.0]), 500) == 1


def test_refusals():
    with pytest.raises(InputError, match="radius is -1"):
        in_ball((2, 2), -1, torch.Generator())
    for hits, others in ((3, torch.empty(0)), (11, torch.ones(2)), (1, torch.tensor([11.0]))):
        with pytest.raises(InputError, match="hits of 10"):
            residual_knowledge(hits, others, 10)
