import copy
import math

import pytest
import torch
from torch import nn

from efface.auditing.measures.ain import Relearning, anamnesis_index
from efface.auditing.scores import relearning as module
from efface.auditing.scores.relearning import RELEARNING, Relearned, relearn, relearning_scores
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings
from efface.errors import InputError
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe
from tests.auditing.scores.tiny import answers, records


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


# --- by hand --------------------------------------------------------------------------------------------------------


def course(steps, reached=True):
    return Relearned(Relearning(steps, reached, ()))


HOW = "Adam, learning rate 0.001, batches of 256"


def test_scores_of_courses_that_end_at_the_target():
    found = relearning_scores(course(5), course(20))
    assert found == {
        "relearn_steps": Score(value=5, why=HOW, gap=-15.0),
        "ain": Score(value=0.25),
    }
    assert relearning_scores(course(20), course(5))["relearn_steps"].gap == 15
    alone = relearning_scores(course(5), None)
    assert alone == {
        "relearn_steps": Score(value=5, why=HOW),
        "ain": Score.missing("no retrained model was given"),
    }
    assert relearning_scores(course(5), Relearned(None, "it diverged"))["ain"] == Score.missing("it diverged")
    unmeasured = relearning_scores(Relearned(None, "left out"), course(5))
    assert unmeasured == {key: Score.missing("left out") for key in ("relearn_steps", "ain")}


def test_scores_of_courses_that_were_capped_are_bounds():
    steps = Score(value=20, why=f"at least: the target was not reached; {HOW}", bound="at least")
    ours = "at least: the model did not reach the target"
    theirs = "at most: the retrained model did not reach the target"
    assert relearning_scores(course(20, False), None)["relearn_steps"] == steps
    assert relearning_scores(course(20, False), course(5)) == {
        "relearn_steps": steps.model_copy(update={"gap": 15.0}),
        "ain": Score(value=4.0, why=ours, bound="at least"),
    }
    assert relearning_scores(course(5), course(20, False)) == {
        "relearn_steps": Score(value=5, why=HOW, gap=-15.0),
        "ain": Score(value=0.25, why=theirs, bound="at most"),
    }
    neither = relearning_scores(course(20, False), course(20, False))["ain"]
    assert neither == Score(value=1.0, why=f"{ours}; {theirs}", bound="")


@pytest.fixture
def asked(monkeypatch):
    """What relearning was asked for; it reaches the target in two steps, or is refused where `why` says so."""
    given = {"why": "", "calls": []}

    def planted(model, part, target, run, *, cap, watched):
        given["calls"].append((model, part.name, pytest.approx(target), run, cap, len(watched)))
        if given["why"]:
            raise InputError(given["why"])
        return Relearning(2, True, (0.0, 0.5, 1.0))

    monkeypatch.setattr(module, "relearn", planted)
    return given


def test_the_target_is_the_originals_accuracy_less_alpha_and_the_cap_what_is_noise(asked):
    """Of 600 records to forget the original answers three in four."""
    settings = AuditSettings(relearn_cap=50, relearn_alpha=0.25, ain_factor=2.5)
    drawn = records([0] * 600 + [1] * 4, [0, 1], settings=settings, classes=(0,))
    right, wrong = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    before = answers(drawn, forget=torch.stack([right] * 450 + [wrong] * 150))
    ours = answers(drawn)

    def call(cap, target=0.5):
        return (ours.model, "forget", target, drawn.run, cap, 500)

    found = Relearned.of(ours, before)
    assert found == Relearned(Relearning(2, True, (0.0, 0.5, 1.0)))
    assert asked["calls"] == [call(50)]
    # More than 2.5 times the retrained model's steps and three: of 4 steps 17.5, so 18 are known to be too many.
    for retrained, cap in ((course(4), 18), (course(4, False), 50), (Relearned(None, "no"), 50), (course(100), 258)):
        Relearned.of(ours, before, retrained)
        assert asked["calls"].pop() == call(cap)
    nothing = answers(drawn, forget=torch.stack([wrong] * 600))
    Relearned.of(ours, nothing)
    assert asked["calls"].pop() == call(50, 0.0)
    asked["why"] = "it diverged"
    assert Relearned.of(ours, before) == Relearned(None, "it diverged")


def test_relearning_that_settings_leave_out_is_not_begun(asked):
    drawn = records([0, 1] * 4, [0, 1], settings=AuditSettings(relearn_cap=0), classes=(0,))
    assert Relearned.of(answers(drawn), answers(drawn)) == Relearned(None, "left out by the settings")
    assert asked["calls"] == []


def test_a_course_is_kept_for_the_same_target_and_cap(asked, tmp_path):
    drawn = records([0, 1] * 4, [0, 1], classes=(0,))
    ours, before = answers(drawn), answers(drawn)
    first = Relearned.of(ours, before, folder=tmp_path)
    assert Relearned.of(ours, before, folder=tmp_path) == first == Relearned.of(ours, before)
    assert len(asked["calls"]) == 2  # the second was read
    assert [p.name.startswith("relearning-") for p in tmp_path.iterdir()] == [True]
    Relearned.of(ours, before, course(1), folder=tmp_path)
    Relearned.of(ours, answers(drawn, matrix=-torch.eye(3)), folder=tmp_path)
    other = answers(drawn, matrix=2 * torch.eye(3))
    asked["why"] = "it diverged"
    assert Relearned.of(other, before, folder=tmp_path) == Relearned(None, "it diverged")
    assert len(asked["calls"]) == 5
    asked["why"] = ""
    assert Relearned.of(other, before, folder=tmp_path) == Relearned(None, "it diverged")
