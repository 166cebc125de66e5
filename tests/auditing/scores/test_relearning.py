import copy
import math

import pytest
import torch
from torch import nn

from efface.auditing.measures.ain import Relearning, anamnesis_index
from efface.auditing.scores.relearning import RELEARNING, relearn
from efface.errors import InputError
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe


def _state(model):
    return torch.cat([v.flatten() for v in model.state_dict().values()])


def test_original_needs_no_step_and_retrained_many(world):
    forget = world.split.forget
    original = relearn(world.models["original"], forget, 0.95, Run())
    retrained = relearn(world.models["retrained"], forget, 0.95, Run())
    assert original.steps == 0
    assert original.reached
    assert retrained.reached
    assert retrained.steps > 20
    assert retrained.accuracies[0] == 0
    assert retrained.accuracies[-2] < 0.95 <= retrained.accuracies[-1]
    assert len(retrained.accuracies) == retrained.steps + 1


def test_hidden_knowledge_returns_sooner_than_it_is_learned(world):
    forget = world.split.forget
    lightly = copy.deepcopy(world.models["original"])
    with torch.no_grad():
        lightly[-1].bias[3] -= 8  # turned down, not removed
    hidden = relearn(lightly, forget, 0.95, Run())
    assert hidden.accuracies[0] < 0.5
    assert anamnesis_index(hidden, relearn(world.models["retrained"], forget, 0.95, Run())) < 0.5


def test_the_model_is_not_changed_and_runs_repeat(world):
    model = world.models["retrained"]
    before = _state(model)
    first, second = (relearn(model, world.split.forget, 0.95, Run(seed=4)) for _ in range(2))
    assert torch.equal(_state(model), before)
    assert first == second


def test_cap_is_kept_and_said(world):
    found = relearn(world.models["retrained"], world.split.forget, 0.95, Run(), cap=3)
    assert found.steps == 3
    assert not found.reached


def test_learning_rate_of_zero_never_relearns(world):
    found = relearn(world.models["retrained"], world.split.forget, 0.95, Run(), cap=4, recipe=RELEARNING.but(lr=0))
    assert set(found.accuracies) == {0.0}


def test_anamnesis_index_by_hand():
    steps = {n: Relearning(n, True, ()) for n in (0, 5, 10)}
    assert anamnesis_index(steps[5], steps[10]) == 0.5
    assert anamnesis_index(steps[10], steps[5]) == 2
    assert anamnesis_index(steps[0], steps[0]) == 1
    assert anamnesis_index(steps[5], steps[0]) == math.inf


def test_bad_input_is_refused(world):
    with pytest.raises(InputError, match="target is 95"):
        relearn(world.models["original"], world.split.forget, 95, Run())
    with pytest.raises(InputError, match="at least one step"):
        relearn(world.models["original"], world.split.forget, 0.9, Run(), cap=0)


def test_batch_norm_keeps_its_running_statistics(world):
    """Against full-batch Adam written out, with BatchNorm in eval mode: its statistics would move to one class's."""
    forget = world.split.forget
    x, y = forget.tensors()
    with seeded(2):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))
    model = fit(model, world.split.train, Recipe(lr=0.05, epochs=6, batch_size=64), Run(), stage="train").eval()
    with torch.no_grad():
        model[-1].bias[3] -= 12
    by_hand = copy.deepcopy(model)
    optimiser = torch.optim.Adam(by_hand.parameters(), lr=0.003)
    shares = []
    for _ in range(31):
        logits = by_hand(x)
        shares.append(float((logits.argmax(1) == y).double().mean()))
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits, y).backward()
        optimiser.step()
    found = relearn(model, forget, 1.0, Run(), cap=30, recipe=RELEARNING.but(lr=0.003))
    assert found.accuracies == pytest.approx(shares[: found.steps + 1], abs=1e-9)
    assert found.accuracies[0] < 0.1
    assert found.reached


def test_a_target_that_is_met_exactly_is_reached(world):
    forget = world.split.forget
    held = relearn(world.models["retrained"], forget, 0.0, Run())
    assert (held.steps, held.reached, held.accuracies) == (0, True, (0.0,))
    whole = relearn(world.models["original"], forget.take([0, 1, 2]), 1.0, Run())
    assert (whole.steps, whole.reached) == (0, True)


def test_at_most_a_hundred_steps_unless_told(world):
    still = RELEARNING.but(lr=0)
    assert relearn(world.models["retrained"], world.split.forget.take([0, 1]), 1.0, Run(), recipe=still).steps == 100
    assert relearn(world.models["retrained"], world.split.forget, 1.0, Run(), cap=1).steps == 1
    with pytest.raises(InputError, match=r"target is 1\.5"):
        relearn(world.models["retrained"], world.split.forget, 1.5, Run())


def test_accuracy_is_read_on_the_watched_part(world):
    """It is trained on the forget records and watched on others, which it knows already, or never will."""
    forget, retain = world.split.forget, world.split.retain
    assert relearn(world.models["retrained"], forget, 0.95, Run(), watched=retain).steps == 0
    found = relearn(world.models["retrained"], forget, 1.0, Run(), watched=retain, cap=5)
    assert found.accuracies[0] > 0.95
