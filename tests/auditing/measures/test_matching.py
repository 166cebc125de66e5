import pytest
import torch

from efface.auditing.measures.matching import match_by_class
from efface.errors import InputError


def test_matching_draws_each_class_equally_often_and_not_the_first():
    members = torch.tensor([0] * 50 + [1] * 10 + [3] * 5)
    others = torch.tensor([1] * 30 + [0] * 20 + [2] * 9)
    i, j = match_by_class(members, others, torch.Generator().manual_seed(0))
    assert torch.equal(members[i].bincount(), others[j].bincount())
    assert members[i].bincount().tolist() == [20, 10]
    assert len(i.unique()) == len(i) == 30
    assert i[:20].tolist() != list(range(20))
    i, j = match_by_class(members, others, torch.Generator().manual_seed(0), most=12)
    assert torch.equal(members[i].bincount(), others[j].bincount())
    assert len(i) == 12
    with pytest.raises(InputError, match="No held-out record"):
        match_by_class(torch.tensor([0]), torch.tensor([1]), torch.Generator())


def test_the_generator_alone_says_which_records_are_drawn():
    members, others = torch.tensor([0] * 40 + [1] * 40), torch.tensor([0] * 8 + [1] * 60)

    def drawn(seed, **options):
        found = match_by_class(members, others, torch.Generator().manual_seed(seed), **options)
        return [positions.tolist() for positions in found]

    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0, most=9) == drawn(0, most=9)
    for positions in drawn(0):
        assert positions == sorted(positions)
    with pytest.raises(InputError, match=r"^No held-out record .* can be made; hold out some records of the forgotten"):
        match_by_class(members, others + 2, torch.Generator())
