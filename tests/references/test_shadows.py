"""Shadow models as an audit takes them: which records each never saw, and which it unlearned."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from efface.auditing.measures.u_lira import Role
from efface.references.shadows import roles_in, thirds_of


def record(out=None, unlearned=None, **more):
    """The record of a model trained without some items, and then without others."""
    step, before = (None if items is None else SimpleNamespace(items=items) for items in (unlearned, out))
    return SimpleNamespace(request=step, parent=SimpleNamespace(request=before), **more)


def test_roles_are_read_from_both_steps_of_the_models_own_record():
    items = torch.tensor([9, 2, 5, 7])
    roles = roles_in(record(out=(2, 100), unlearned=(7, 9)), items)
    assert roles.dtype == torch.int8
    assert roles.tolist() == [Role.UNLEARNED, Role.OUT, Role.IN, Role.UNLEARNED]
    assert roles_in(record(unlearned=(5,)), items).tolist() == [Role.IN, Role.IN, Role.UNLEARNED, Role.IN]
    assert roles_in(record(out=(5,)), items).tolist() == [Role.IN, Role.IN, Role.OUT, Role.IN]
    assert roles_in(SimpleNamespace(request=None, parent=None), items).tolist() == [Role.IN] * 4


@pytest.mark.parametrize("finished", [2, 0])
def test_the_shadow_models_of_the_same_method_and_settings_are_taken(finished):
    given = [(2,), (5, 7)][:finished]
    made = [SimpleNamespace(model=f"model {k}", record=record(out=out)) for k, out in enumerate(given)]
    asked = []
    references = SimpleNamespace(
        manifest=SimpleNamespace(series={"shadow-ssd": SimpleNamespace(settings={"alpha": 2.0})}),
        load=lambda series: asked.append(series) or iter(made),
    )
    split = SimpleNamespace(forget=SimpleNamespace(indices=np.array([2, 5, 7])))
    run = SimpleNamespace(copied=lambda model: f"copy of {model}")
    own = SimpleNamespace(method="ssd", settings={"alpha": 2.0})
    found = thirds_of(references, split, own, run)
    assert asked == ["shadow-ssd"]
    assert found.models == [f"copy of model {k}" for k in range(finished)]
    assert found.roles.shape == (finished, 3)
    assert found.roles.dtype == torch.int8
    assert found.roles.tolist() == [[Role.OUT, Role.IN, Role.IN], [Role.IN, Role.OUT, Role.OUT]][:finished]
    for method, alpha in (("ssd", 3.0), ("assd", 2.0)):
        own = SimpleNamespace(method=method, settings={"alpha": alpha})
        assert thirds_of(references, split, own, run) is None
    assert asked == ["shadow-ssd"]
