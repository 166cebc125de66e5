"""Retraining for as long: the schedule shortened to a time, its own time stated, and why not where it cannot."""

import dataclasses

import pytest
import torch

import efface
from efface.artifact.case import Case
from efface.auditing.rows import AS_LONG
from efface.data import load
from efface.errors import InputError
from efface.models.spec import ModelSpec
from efface.references import References, train_references
from efface.references import as_long as module
from efface.references.as_long import retrained_as_long, shortened
from efface.references.rows import rows_of
from efface.request import Request
from efface.training.recipe import Recipe

REQUEST = Request(classes=(3,))
RECIPE = Recipe(epochs=4, lr=0.05, batch_size=64, schedule="step", milestones=(2.0, 3.0))


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def original(digits):
    return efface.train(ModelSpec(build="mlp", arguments={"hidden": [16]}), digits, recipe=RECIPE, device="cpu")


@pytest.fixture(scope="module")
def forgotten(digits, original):
    return efface.forget(original, digits, REQUEST, method="fine-tune", device="cpu")


@pytest.fixture
def case(digits, original):
    return Case.of(original, digits, REQUEST, device="cpu")


def took(artifact, seconds, **changes):
    """The artifact's record, as if forgetting had taken so long."""
    return artifact.record.model_copy(update={"seconds": {} if seconds is None else {"forget": seconds}, **changes})


def test_the_whole_schedule_is_shortened(original):
    half = shortened(original, 2.0).record.recipe
    assert half == RECIPE.but(epochs=2.0, milestones=(1.0, 1.5), seed=half.seed)
    assert shortened(original, None) is original
    assert original.record.recipe.epochs == 4


def test_all_trainings_are_shortened_where_training_went_on(digits, original):
    gone_on = efface.train(original, digits, recipe=RECIPE.but(epochs=1, milestones=(0.5, 0.8)), device="cpu")
    first, last = shortened(gone_on, 2.5).record.trainings
    assert (first.epochs, first.milestones, last.epochs, last.milestones) == (2.0, (1.0, 1.5), 0.5, (0.25, 0.4))
    case = Case.of(gone_on, digits, REQUEST, device="cpu")
    assert module._steps(case, 1e6)[1] == (4 + 1) * -(-len(case.split.retain) // RECIPE.batch_size)


def test_steps_are_the_time_by_the_time_of_a_step_and_at_most_all(case, forgotten, monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))  # one step of timing: one second
    steps_per_epoch = -(-len(case.split.retain) // RECIPE.batch_size)
    assert module._steps(case, 5.0) == (5, 4 * steps_per_epoch)
    assert module._steps(case, 1e6) == (4 * steps_per_epoch, 4 * steps_per_epoch)
    assert module._steps(case, 0.9)[0] == 0


def test_it_is_a_retrained_model_of_fewer_steps_with_its_own_time_and_seed(case, forgotten, monkeypatch):
    monkeypatch.setattr(module, "_steps", lambda case, seconds: (17, 68))
    made = retrained_as_long(case, took(forgotten, 0.512345))
    assert (made.record.method, made.record.recipe.epochs) == ("retrain", 1.0)
    assert made.record.spent.samples == {"forget": 0, "retain": len(case.split.retain), "validation": 0}
    assert 0 < made.record.seconds["forget"] != 0.5
    assert made.record.seed == case.run.number("retrained for as long")  # not the retrained model's own start
    again = retrained_as_long(case, took(forgotten, 0.5))
    assert again.record.weights_after == made.record.weights_after
    assert "retrained for as long as forgetting took (0.512 s): 17 of 68 steps" in made.record.notes
    assert made.memory == {}
    assert case.run.notes == []


def test_what_cannot_be_done_says_why(case, forgotten, digits, monkeypatch):
    assert retrained_as_long(case, None) == "no record says how long forgetting took"
    assert retrained_as_long(case, took(forgotten, None)) == "no record says how long forgetting took"
    assert "itself was retrained" in retrained_as_long(case, took(forgotten, 1.0, method="retrain"))
    assert "timed on cuda, and this runs on cpu" in retrained_as_long(case, took(forgotten, 1.0, device="cuda:0"))
    assert "less time than one step" in retrained_as_long(case, took(forgotten, 1e-9))
    none = dataclasses.replace(
        case.original, record=case.original.record.model_copy(update={"recipe": Recipe(epochs=0)})
    )
    assert "0 epochs" in retrained_as_long(dataclasses.replace(case, original=none), took(forgotten, 1.0))
    sharded = efface.train("mlp", digits, method="sisa", recipe=RECIPE, device="cpu")
    assert "trained apart" in retrained_as_long(Case.of(sharded, digits, REQUEST, device="cpu"), took(forgotten, 1.0))


def test_a_model_without_a_record_has_no_such_row_and_the_reason_is_a_note(digits, original, forgotten, case):
    rows = rows_of(forgotten.model, case, retrained=True)
    assert AS_LONG not in [row.name for row in rows]
    assert any(AS_LONG in note and "not measured: no record says" in note for note in rows.notes)
    assert not any(AS_LONG in note for note in rows_of(forgotten, case).notes)  # level (a) trains nothing


def test_a_folder_of_references_keeps_it_for_the_next_audit(digits, original, forgotten, case, tmp_path, monkeypatch):
    folder = train_references(original, digits, REQUEST, 1, tmp_path / "r", backend="serial", device="cpu")
    record = took(forgotten, 0.5)
    monkeypatch.setattr(module, "_steps", lambda case, seconds: (2, 68))
    made = retrained_as_long(case, record, folder)
    monkeypatch.setattr(module, "_steps", lambda case, seconds: pytest.fail("trained again"))
    back = retrained_as_long(case, record, folder)
    assert back.record == made.record
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), back.model.parameters(), strict=True))
    assert isinstance(folder, References)
    assert len(folder) == 1  # it is no reference
    monkeypatch.setattr(module, "_steps", lambda case, seconds: (3, 68))
    assert retrained_as_long(case, took(forgotten, 0.75), folder).record.weights_after != made.record.weights_after


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), InputError("nothing can be written there")])
def test_where_it_cannot_be_kept_it_is_used_all_the_same(
    digits, original, forgotten, case, tmp_path, monkeypatch, error
):
    folder = train_references(original, digits, REQUEST, 1, tmp_path / "r", backend="serial", device="cpu")
    monkeypatch.setattr(module, "_steps", lambda case, seconds: (2, 68))
    expected = retrained_as_long(case, took(forgotten, 0.5))

    def refused(*_):
        raise error

    monkeypatch.setattr(module.Artifact, "save", refused)
    with pytest.warns(UserWarning, match="retrained for as long cannot be kept in .*(No space left|nothing can be)"):
        made = retrained_as_long(case, took(forgotten, 0.5), folder)
    assert made.record.weights_after == expected.record.weights_after


@pytest.mark.filterwarnings("error")
def test_another_audit_may_have_kept_it_meanwhile(digits, original, forgotten, case, tmp_path, monkeypatch):
    folder = train_references(original, digits, REQUEST, 1, tmp_path / "r", backend="serial", device="cpu")
    monkeypatch.setattr(module, "_steps", lambda case, seconds: (2, 68))
    save = module.Artifact.save

    def second(made, path, **options):
        save(made, path, **options)
        return save(made, path, **options)

    monkeypatch.setattr(module.Artifact, "save", second)
    made = retrained_as_long(case, took(forgotten, 0.5), folder)
    monkeypatch.setattr(module, "_steps", lambda case, seconds: pytest.fail("trained again"))
    assert retrained_as_long(case, took(forgotten, 0.5), folder).record == made.record


def test_what_is_kept_depends_on_all_that_the_model_depends_on(case):
    key = module._key(case, 0.5)
    assert key == module._key(case, 0.5)
    assert len(key) == 32
    record = case.original.record

    def changed(**fields):
        original = dataclasses.replace(case.original, record=record.model_copy(update=fields))
        return module._key(dataclasses.replace(case, original=original), 0.5)

    others = [
        module._key(case, 0.25),
        changed(weights_after="f" * 64),
        changed(recipe=RECIPE.but(lr=0.1)),
        module._key(dataclasses.replace(case, run=case.run.child(99)), 0.5),
        module._key(Case.of(case.original, case.split.data, Request(classes=(4,)), device="cpu"), 0.5),
    ]
    assert len({key, *others}) == 6


def test_steps_are_timed_in_growing_stretches_until_a_tenth_of_the_time_is_spent(case, monkeypatch):
    """At least 0.05 s and at most 1 s; here a step takes 1/32 s."""
    clock, advanced = [0.0], []

    class Timed:
        total_steps = 1000

        def __init__(self, model, part, recipe, run, *, stage):
            assert (part.name, recipe, stage) == ("retain", case.original.record.recipe, "timing")
            assert run is not case.run

        def advance(self, n):
            advanced.append(n)
            clock[0] += n / 32

    monkeypatch.setattr(module, "Trainer", Timed)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    for seconds, stretches in ((0.1, [1, 2]), (1.0, [1, 2, 4]), (4.0, [1, 2, 4, 8]), (1e4, [1, 2, 4, 8, 16, 32])):
        advanced.clear()
        assert module._steps(case, seconds) == (min(1000, int(seconds * 32)), 1000)
        assert advanced == [1, *stretches]  # the first step loads and allocates
    Timed.total_steps = 3
    advanced.clear()
    assert module._steps(case, 1e4) == (3, 3)
    assert advanced == [1, 1, 2]


def test_what_retraining_refuses_is_the_reason(case, forgotten, monkeypatch):
    def refuses(*_):
        raise InputError("no memory")

    monkeypatch.setattr(module, "apply", refuses)
    monkeypatch.setattr(module, "_steps", lambda case, seconds: (17, 68))
    assert retrained_as_long(case, took(forgotten, 0.5)) == "no memory"
