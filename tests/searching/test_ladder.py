"""The ladder: cheapest first, held-out data only, a reason in the record, resumable; and tuning."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from efface.artifact.case import Case
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split, load
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import methods
from efface.methods.retrain import Retrain
from efface.methods.sisa import Sisa
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.searching import ladder as module
from efface.searching.judge import Judge, Standards
from efface.searching.ladder import RUNGS, Search, climb, tuned
from efface.searching.trials import Trial, Trials
from efface.training.recipe import Recipe


@pytest.fixture(scope="module")
def data():
    return load("digits")


@pytest.fixture(scope="module")
def artifact(data):
    spec = ModelSpec(build="mlp", arguments={"hidden": [24], "activation": "relu"})
    model = build(spec, input_shape=data.input_shape, num_classes=10)
    return prepare(None, model, Split.of(data), Recipe(lr=0.1, epochs=8, batch_size=64), Run(), spec=spec)


def climbed(artifact, split, run, reference=None, standards=None, **search):
    references = () if reference is None else (reference,)
    return climb(
        Case(artifact, split, run), Search(references=references, standards=standards or Standards(), **search)
    )


def rungs(monkeypatch, *names):
    monkeypatch.setattr("efface.searching.ladder.RUNGS", {"classes": names, "items": names})


def told(made):
    return [n for n in made.record.notes if n.startswith("auto: ")]


def test_rungs_serve_their_target_and_end_with_retraining():
    for target, names in RUNGS.items():
        assert all(target in methods()[n].needs.targets for n in names)
        assert names[-1] == "retrain"


def test_the_first_to_meet_the_standards_is_taken_and_the_rest_is_not_tried(data, artifact):
    split = Split.of(data, Request.of(classes=[2]))
    made = climbed(artifact, split, Run(seed=1), standards=Standards(kept=1.0, forgotten=1.0))
    assert made.record.method == "class-transport"
    assert "class-means: refused: class-means needs class means kept at training" in told(made)[1]
    assert told(made)[2].startswith("auto: class-transport: kept")
    assert len(told(made)) == 3


def test_kept_class_means_make_the_first_rung_do(data):
    spec = ModelSpec(build="mlp", arguments={"hidden": [24], "activation": "relu"})
    model = build(spec, input_shape=data.input_shape, num_classes=10)
    recipe = Recipe(lr=0.1, epochs=8, batch_size=64)
    artifact = prepare(None, model, Split.of(data), recipe, Run(), spec=spec, keep=["class-means"])
    made = climbed(artifact, Split.of(data, Request.of(classes=[2])), Run(seed=1), standards=Standards(kept=1.0))
    assert made.record.method == "class-means"


LENIENT = Standards(kept=1.0, forgotten=1.0)


def test_members_trained_apart_are_trained_again_by_what_trained_them(data):
    spec = ModelSpec(build="mlp", arguments={"hidden": [24], "activation": "relu"})
    model = build(spec, input_shape=data.input_shape, num_classes=10)
    recipe = Recipe(lr=0.1, epochs=4, batch_size=64)
    members = prepare(Sisa(shards=3, slices=1), model, Split.of(data), recipe, Run(), spec=spec)
    item = int(Split.of(data).train.indices[0])
    made = climbed(members, Split.of(data, Request.of(items=[item])), Run(seed=1), standards=LENIENT)
    assert made.record.method == "sisa"
    assert [r.method for r in made.record.chain] == ["sisa", "sisa"]
    assert any("1 of 3 shards trained again" in note for note in made.record.notes)


def test_if_none_meets_the_standards_the_record_says_so_and_the_least_miss_is_taken(data, artifact, monkeypatch):
    rungs(monkeypatch, "fine-tune", "gradient-ascent")
    split = Split.of(data, Request.of(classes=[2]))
    made = climbed(artifact, split, Run(seed=1), standards=Standards(kept=-1.0, forgotten=-1.0))
    first, *tried = told(made)
    assert "NONE met the standards" in first
    misses = {n.split(":")[1].strip(): float(n.rsplit("by ", 1)[1]) for n in tried}
    assert misses[made.record.method] == min(misses.values())


def test_a_reference_adds_the_probe(data, artifact, monkeypatch):
    rungs(monkeypatch, "fine-tune")
    split = Split.of(data, Request.of(classes=[2]))
    reference = apply(Retrain(), Case(artifact, split, Run(seed=5))).model
    made = climbed(artifact, split, Run(seed=1), reference)
    assert "recall on features" in made.record.notes[-1]


def test_items_are_judged_by_data_no_model_has_seen(data, artifact, monkeypatch):
    rungs(monkeypatch, "fine-tune")
    split = Split.of(data, Request.of(items=range(0, 300, 3)))
    made = climbed(artifact, split, Run(seed=1))
    assert made.record.request.target == "items"


def test_test_data_is_never_touched(data, artifact, monkeypatch):
    class Untouchable:
        labels = data.test.labels
        input_shape = data.test.input_shape
        input_dtype = data.test.input_dtype
        fingerprint = data.test.fingerprint

        def __len__(self):
            return len(self.labels)

        def read(self, *_: object, **__: object):
            raise AssertionError("test data was read")

    closed = dataclasses.replace(data, test=Untouchable())
    rungs(monkeypatch, "fine-tune")
    made = climbed(artifact, Split.of(closed, Request.of(classes=[2])), Run(seed=1))
    assert made.record.method == "fine-tune"


def test_nothing_held_out_is_refused(data, artifact):
    with pytest.raises(InputError, match="held out"):
        climbed(artifact, Split.of(data, Request.of(classes=[2]), validation=0.0), Run())


# Planted models: what each of them reaches is known exactly, whatever the methods would have made.


def planted() -> Data:
    """Three classes of 40 at unit vectors, no noise; 4 of each are held out."""
    labels = np.repeat(np.arange(3), 40)
    train, test = (ArraySamples(torch.eye(3)[torch.from_numpy(y)], y) for y in (labels, np.arange(3)))
    return Data("planted", train, test, tuple("abc"))


def answering(*rows: int, seen: tuple[float, float, float] = (1, 1, 1)) -> nn.Module:
    """Answer class rows[c] where class c is, from features in which `seen` scales each coordinate."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.diag(torch.tensor(seen)))
        model[2].weight.zero_()
        model[2].bias.zero_()
        for c, answer in enumerate(rows):
            model[2].weight[answer, c] += 5
            if seen[c] == 0:
                model[2].bias[answer] += 1
    return model


RIGHT = (0, 1, 2)


@pytest.fixture
def tried(monkeypatch):
    """Let `choose` try methods that return planted models, and return its record's notes and the model taken."""
    quick = functools.partial(AuditSettings, relearn_cap=0, few_draws=2, resamples=100)
    monkeypatch.setattr("efface.searching.judge.AuditSettings", quick)

    def run(request, models, reference=None, standards=None):
        made = {}
        for name, model in models.items():
            kind = methods()[name]
            made[name] = model

            def forget(self, *_):
                found = made[self.name]
                if isinstance(found, InputError):
                    raise found
                return found

            monkeypatch.setattr(kind, "forget", forget)
        rungs(monkeypatch, *models)
        data = planted()
        spec = Recipe(lr=0.1, epochs=0.1, batch_size=64)
        artifact = prepare(None, answering(*RIGHT), Split.of(data), spec, Run(device="cpu"))
        artifact = dataclasses.replace(artifact, model=answering(*RIGHT).eval())
        found = climbed(artifact, Split.of(data, request), Run(device="cpu"), reference, standards)
        return found.record.method, told(found)

    return run


CLASS_0 = Request(classes=(0,))
ITEMS = Request(items=tuple(range(0, 120, 10)))


@pytest.mark.parametrize(
    ("request_", "answers", "reference", "kept", "forgotten", "excess"),
    [
        # Without a reference nothing of the class may be left: 0 + 5 points pass.
        (CLASS_0, (1, 1, 2), None, 100, 0, 0),
        (CLASS_0, (0, 1, 2), None, 100, 100, 0.95),
        (CLASS_0, (1, 1, 1), None, 50, 0, 0.48),
        (CLASS_0, (0, 2, 1), None, 0, 100, 0.98 + 0.95),
        # With one, what it reaches itself is no knowledge left.
        (CLASS_0, (0, 1, 2), (1, 1, 2), 100, 100, 0.95),
        # Items: two-sided against the reference, or against accuracy on what no model has seen.
        (ITEMS, (0, 1, 2), None, 100, 100, 0),
        (ITEMS, (0, 1, 2), (1, 2, 0), 100, 100, 0.95),
        (ITEMS, (1, 2, 0), (0, 1, 2), 0, 0, 0.98 + 0.95),
    ],
)
def test_excess_is_what_lies_beyond_the_standards(tried, request_, answers, reference, kept, forgotten, excess):
    twin = None if reference is None else answering(*reference)
    method, notes = tried(request_, {"fine-tune": answering(*answers)}, twin)
    assert method == "fine-tune"
    verdict = f"misses them by {excess:.3f}" if excess else "meets the standards"
    assert notes[1].startswith(f"auto: fine-tune: kept {kept:.1f}%, forgotten {forgotten:.1f}%")
    assert notes[1].endswith(f" s; {verdict}")
    assert ("recall on features" in notes[1]) == (reference is not None and request_ is CLASS_0)


def test_with_a_reference_the_audit_has_the_last_word(tried):
    """Quick questions allow to be below a reference that knows the class; the audit does not take it for one."""
    with pytest.raises(InputError, match="answers the forget data as the original does"):
        tried(CLASS_0, {"fine-tune": answering(1, 1, 2)}, answering(0, 1, 2))
    _, notes = tried(CLASS_0, {"fine-tune": answering(1, 1, 2)}, answering(1, 1, 2))
    assert notes[1].endswith("meets the standards")


def test_features_may_hold_the_classes_no_better_than_the_reference_does(tried):
    """The reference's features put classes 0 and 1 in one place, where only the first of them is found."""
    request, reference = Request(classes=(1,)), answering(0, 0, 2, seen=(0, 0, 1))
    _, notes = tried(request, {"fine-tune": answering(0, 0, 2)}, reference)
    assert "forgotten 0.0%, recall on features 100.0%, " in notes[1]
    assert notes[1].endswith("misses them by 0.900")
    _, notes = tried(request, {"fine-tune": answering(0, 0, 2, seen=(0, 0, 0.5))}, reference)
    assert "recall on features 0.0%, " in notes[1]
    assert notes[1].endswith("meets the standards")
    # A reference whose features hold them as well excuses the candidate.
    _, notes = tried(request, {"fine-tune": answering(0, 0, 2)}, answering(0, 0, 2))
    assert notes[1].endswith("meets the standards")


def test_the_least_miss_is_taken_wherever_it_stands_and_the_first_of_equals(tried):
    best, worse, worst = answering(1, 1, 1), answering(0, 1, 2), answering(0, 2, 1)
    names = ("fine-tune", "gradient-ascent", "neg-grad-plus")
    for order, expected in (
        ((worst, best, worse), "gradient-ascent"),
        ((best, worst, worse), "fine-tune"),
        ((worst, worse, best), "neg-grad-plus"),
        ((worse, best, best), "gradient-ascent"),
    ):
        method, notes = tried(CLASS_0, dict(zip(names, order, strict=True)))
        assert method == expected
        assert notes[0].split(", 3 trials")[0] == (
            f"auto: took {expected}, NONE met the standards; it misses them least; judged on held-out data alone (no "
            "reference: features and relearning are not looked at)"
        )
        assert [n.split(":")[1].strip() for n in notes[1:]] == list(names)


def test_the_search_ends_with_the_first_that_meets_the_standards_and_goes_on_past_refusals(tried):
    right = answering(1, 1, 2)
    found = {"fine-tune": InputError("not this"), "gradient-ascent": right, "neg-grad-plus": right}
    method, notes = tried(CLASS_0, found, answering(1, 1, 2))
    assert method == "gradient-ascent"
    assert notes[0].startswith(
        "auto: took gradient-ascent, the first to meet the standards; judged on held-out data and 1 retrained model, "
        "2 trials in "
    )
    assert notes[1] == "auto: fine-tune: refused: not this"
    assert len(notes) == 3


def test_if_every_method_refuses_all_reasons_are_given(tried):
    found = {"fine-tune": InputError("not this"), "gradient-ascent": InputError("nor that")}
    with pytest.raises(
        InputError, match=r"^no method could be applied: fine-tune: not this; gradient-ascent: nor that$"
    ):
        tried(CLASS_0, found)


def test_standards_can_be_set(tried):
    half = answering(1, 1, 1)
    assert "meets" in tried(CLASS_0, {"fine-tune": half}, standards=Standards(kept=0.5))[1][1]
    assert "misses them by 0.100" in tried(CLASS_0, {"fine-tune": half}, standards=Standards(kept=0.4))[1][1]
    known = answering(*RIGHT)
    assert "misses them by 0.300" in tried(CLASS_0, {"fine-tune": known}, standards=Standards(forgotten=0.7))[1][1]


def test_a_budget_that_does_not_reach_retraining_says_so(data, artifact, monkeypatch):
    rungs(monkeypatch, "fine-tune", "retrain")
    split = Split.of(data, Request.of(classes=[2]))
    never = Standards(kept=-1.0)
    made = climbed(artifact, split, Run(seed=1), standards=never, budget=0.5, retraining=1000.0)
    assert [t.split(":")[1].strip() for t in told(made)[1:-1]] == ["fine-tune"] * (len(told(made)) - 2)
    assert told(made)[-1] == "auto: retrain was not tried: the budget of 500.0 s does not allow it"


@pytest.mark.parametrize("budget", [0.0, -1.0])
def test_a_budget_of_nothing_is_refused(data, artifact, budget):
    with pytest.raises(InputError, match=r"budget .*above 0"):
        climbed(artifact, Split.of(data, Request.of(classes=[2])), Run(), budget=budget)


def test_a_stopped_search_resumes_and_gives_the_same(data, artifact, monkeypatch, tmp_path):
    rungs(monkeypatch, "fine-tune", "neg-grad-plus", "retrain")
    split, never = Split.of(data, Request.of(classes=[2])), Standards(kept=-1.0)
    whole = climbed(artifact, split, Run(seed=1), standards=never)
    done = []

    def stopping(self, text):
        if text.startswith("auto: fine-tune: kept"):
            done.append(text)
        if text.startswith("auto: rung 2"):
            raise KeyboardInterrupt

    monkeypatch.setattr("efface.running.progress.Progress.say", stopping)
    with pytest.raises(KeyboardInterrupt):
        climbed(artifact, split, Run(seed=1), standards=never, folder=tmp_path / "search")
    monkeypatch.setattr("efface.running.progress.Progress.say", lambda *_: None)
    monkeypatch.setattr(methods()["fine-tune"], "forget", lambda *_: pytest.fail("a finished trial was done again"))
    made = climbed(artifact, split, Run(seed=1), standards=never, folder=tmp_path / "search")
    assert made.record.weights_after == whole.record.weights_after
    assert "1 trial was kept from an earlier start" in told(made)[0]
    assert len(done) == 1
    with pytest.raises(InputError, match="another search"):
        climbed(artifact, split, Run(seed=2), standards=never, folder=tmp_path / "search")


def test_tuning_misses_by_no_more_than_the_defaults_and_never_touches_test_data(data, artifact, monkeypatch):
    pytest.importorskip("optuna")
    test = data.test
    monkeypatch.setattr(type(test), "read", _unless(test, type(test).read))
    case = Case(artifact, Split.of(data, Request.of(classes=[2])), Run(seed=1))
    monkeypatch.setattr("efface.searching.tuning.MOST", 4)  # ends it, whatever the machine's speed
    never = Standards(kept=-1.0)  # so that every trial misses by something
    made = tuned("gradient-ascent", case, Search(budget=1e6, retraining=1.0, standards=never), {"stop": False})
    misses = [
        float(n.rsplit("by ", 1)[1]) for n in made.record.notes if n.startswith("tune: gradient-ascent") and "by " in n
    ]
    assert len(misses) == 4
    assert made.record.settings["stop"] is False
    judged = Judge(case, standards=never)(made, {}).excess
    assert judged == pytest.approx(min(misses), abs=1e-3)
    assert judged <= misses[0] + 1e-3  # the first trial is the defaults


def _unless(forbidden, read):
    """Read as before, but not these samples."""

    def guarded(self, *args, **kwargs):
        assert self is not forbidden, "test data was read"
        return read(self, *args, **kwargs)

    return guarded


def test_tuning_again_with_the_same_seed_proposes_the_same(data, artifact, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr("efface.searching.tuning.MOST", 3)
    found = []
    for _ in range(2):
        case = Case(artifact, Split.of(data, Request.of(classes=[2])), Run(seed=1))
        made = tuned("fine-tune", case, Search(budget=1e6, retraining=1.0, standards=Standards(kept=-1.0)))
        notes = [n for n in made.record.notes if n.startswith("tune: fine-tune")]
        found.append([n.split(":")[1] for n in notes])
    assert len(found[0]) > 2
    assert found[0] == found[1]


def test_what_the_caller_fixed_is_not_varied_and_nothing_to_vary_is_refused(data, artifact):
    pytest.importorskip("optuna")
    case = Case(artifact, Split.of(data, Request.of(classes=[2])), Run(seed=1))
    search = Search(budget=0.5, retraining=1.0, standards=Standards(kept=-1.0))
    made = tuned("fine-tune", case, search, {"lr": 0.003})
    assert all("lr=0.003" in n for n in made.record.notes if n.startswith("tune: fine-tune ("))
    with pytest.raises(InputError, match="--set fixes all of epochs, lr"):
        tuned("fine-tune", case, search, {"lr": 0.003, "epochs": 1.0})
    with pytest.raises(InputError, match="no hyper-parameter that a search varies"):
        tuned("logit-mask", case, search)


@pytest.mark.parametrize(
    ("sides", "values"),
    [
        (["left", "left", ""], [None, 2.0, 4.0]),
        (["over", "over", ""], [None, 0.5, 0.25]),
        (["left", "worse", ""], [None, 2.0, 2.0**0.5]),
        (["over", "left", "left", ""], [None, 0.5, 0.7071, 0.8409]),
        (["several"], [None]),
        ([""], [None]),
        (["left"] * 9, [None, 2.0, 4.0, 8.0, 16.0]),
    ],
)
def test_a_knob_is_turned_to_the_side_that_references_say(data, artifact, monkeypatch, sides, values):
    """Doubled or halved until both sides were missed, then to the geometric middle; five trials at the most."""
    nearer = [(side, (9 - k) * bool(side), ()) for k, side in enumerate(sides)]
    asked = turned(data, artifact, monkeypatch, nearer)
    assert asked[0] is None
    assert asked[1:] == pytest.approx(values[1:], rel=1e-3)


@pytest.mark.parametrize(
    ("misses", "values"),
    [
        ([("left", 0.3, ()), ("left", 0.3, ())], [None, 2.0]),
        ([("left", 0.3, ()), ("left", 0.2, ()), ("left", 0.4, ())], [None, 2.0, 4.0]),
        # Passing the quick questions is nearer than missing them, however many of the audit's then find something.
        ([("left", 0.3, ()), ("left", 2.0, ("probe", "single")), ("", 0.0, ())], [None, 2.0, 4.0]),
        # Between two sides the middle is tried in any case.
        ([("left", 0.3, ()), ("over", 0.4, ()), ("over", 0.4, ()), ("", 0.0, ())], [None, 2.0, 1.414, 1.189]),
    ],
)
def test_a_direction_that_brings_nothing_is_left(data, artifact, monkeypatch, misses, values):
    asked = turned(data, artifact, monkeypatch, misses)
    assert asked[1:] == pytest.approx(values[1:], rel=1e-3)


def turned(data, artifact, monkeypatch, misses):
    """Return the weights asked for, where trials miss by (side, excess, which of the audit's questions)."""
    rungs(monkeypatch, "class-transport")
    split, asked = Split.of(data, Request.of(classes=[2])), []

    def judged(name, settings, case, judge, trials):
        side, excess, differs = misses[len(asked)]
        asked.append(settings.get("weight"))
        trial = Trial(
            method=name, settings=settings, side=side, excess=excess, differs=differs, kept=1, forgotten=0, spent=1
        )
        trials.add(trial, dataclasses.replace(artifact))
        return trial

    monkeypatch.setattr("efface.searching.ladder.tried", judged)
    climb(Case(artifact, split, Run(seed=1)), Search(references=[artifact.model] * 4))
    return asked


def test_without_enough_references_no_knob_is_turned(data, artifact, monkeypatch):
    rungs(monkeypatch, "class-transport")
    split = Split.of(data, Request.of(classes=[2]))
    made = climbed(artifact, split, Run(seed=1), standards=Standards(kept=-1.0))
    assert len(told(made)) == 2


# Budgets and refusals, with trials that take as long as they say.


@pytest.fixture
def timed(data, artifact, monkeypatch):
    """Climb rungs that all miss and take so many seconds each; returns the notes and what was tried."""

    def run(seconds, *names, budget=None, retraining=100.0, tuning=None, **options):
        rungs(monkeypatch, *names)
        asked = []

        def one(name, settings, case, judge, trials):
            asked.append(name)
            trial = Trial(method=name, excess=1.0, kept=1, forgotten=0, spent=seconds)
            trials.add(trial, artifact)
            return trial

        def many(name, case, judge, trials, *, budget):
            asked.append((name, budget))
            return one(name, {}, case, judge, trials) and tuning

        monkeypatch.setattr("efface.searching.ladder.tried", one)
        monkeypatch.setattr("efface.searching.ladder.tune", many)
        split = Split.of(data, Request(classes=(2,)))
        search = Search(budget=budget, retraining=retraining, tune=tuning is not None, **options)
        return asked, told(climb(Case(artifact, split, Run(seed=1)), search))

    return run


def test_rungs_are_left_out_once_the_budget_is_spent(timed):
    names = ("fine-tune", "ssd", "msg", "retrain")
    asked, notes = timed(30.0, *names, budget=0.6)
    assert asked == ["fine-tune", "ssd"]
    assert notes[-2:] == [
        f"auto: {name} was not tried: the budget of 60.0 s does not allow it" for name in ("msg", "retrain")
    ]
    assert timed(30.0, *names)[0] == list(names)  # no budget, no bound
    # Retraining is begun only where it ends in time: 3 of 30 s and 100 s are 190 s.
    assert timed(30.0, *names, budget=1.9)[0] == list(names)
    assert timed(30.0, *names, budget=1.89)[0] == list(names[:-1])


def test_what_is_left_of_the_budget_is_shared_by_the_rungs_to_come(timed):
    missed = Trial(method="x", excess=1.0)
    asked, _ = timed(10.0, "fine-tune", "logit-mask", "ssd", "msg", budget=1.0, tuning=missed)
    shares = [a for a in asked if isinstance(a, tuple)]  # a logit mask has nothing to tune
    assert shares == [("fine-tune", 100 / 3), ("ssd", 80.0), ("msg", 70.0)]
    assert [a for a in asked if a == "logit-mask"] == ["logit-mask"]
    # Without a bound each rung may spend a tenth of retraining's time.
    assert [a for a in timed(10.0, "fine-tune", "ssd", tuning=missed)[0] if isinstance(a, tuple)] == [
        ("fine-tune", 10.0),
        ("ssd", 10.0),
    ]


def test_a_rung_whose_tuning_passed_ends_the_climb(timed):
    asked, _ = timed(10.0, "fine-tune", "ssd", tuning=Trial(method="fine-tune", excess=0.0))
    assert [a for a in asked if isinstance(a, tuple)] == [("fine-tune", 10.0)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"request": None}, "auto needs a request"),
        (
            {"validation": 0.0},
            r"auto judges on held-out training data, but nothing was held out; name a method instead",
        ),
        ({"rare": 3}, "auto: no sample of the classes to forget is held out to judge by; name a method instead"),
        ({"budget": 0.0}, r"budget 0\.0; needed: a share of retraining's time above 0, such as 0\.3"),
        (
            {"budget": 0.5, "seconds": {}},
            "a budget is a share of retraining's time, which is not known for a model that",
        ),
    ],
)
def test_a_search_that_cannot_be_done_says_why(change, why, data, artifact):
    request = change.get("request", Request(classes=(2,)))
    if "rare" in change:  # a tenth of three records is none
        labels = data.train.labels
        keep = torch.cat([(labels == 2).nonzero()[:3, 0], (labels != 2).nonzero()[:, 0]])
        data = dataclasses.replace(data, train=ArraySamples(data.train.inputs[keep], labels[keep]))
    split = Split.of(data, request, change.get("validation", 0.1))
    record = artifact.record.model_copy(update={"seconds": change.get("seconds", artifact.record.seconds)})
    case = Case(dataclasses.replace(artifact, record=record), split, Run(seed=1))
    with pytest.raises(InputError, match=why):
        climb(case, Search(budget=change.get("budget")))


# Turning a knob, tuning a rung and taking the leader, by hand.


@pytest.fixture
def knob(monkeypatch):
    """Turn a knob between 1 and 10 from 4 on, where trials miss on these sides; returns what was asked for."""

    def turn(*sides, log=False, left=None):
        asked, ahead = [], iter(sides)

        def one(name, settings, case, judge, trials):
            asked.append(settings)
            trials.spent += 10
            side = next(ahead)
            return Trial(method=name, side=side, excess=(9.0 - len(asked)) * bool(side))

        kind = SimpleNamespace(knob="k", space={"k": SimpleNamespace(log=log, low=1.0, high=10.0)})
        monkeypatch.setattr(module, "methods", lambda: {"x": kind})
        monkeypatch.setattr(module, "make", lambda name: SimpleNamespace(settings=lambda: {"k": 4}))
        monkeypatch.setattr(module, "tried", one)
        last = module._turned("x", None, SimpleNamespace(bands=True), SimpleNamespace(spent=0), left)
        assert asked[0] == {}
        return last.side, [settings["k"] for settings in asked[1:]]

    return turn


def test_between_two_sides_the_middle_is_taken_on_the_axis_of_the_knob(knob):
    assert knob("left", "over", "over", "") == ("", [8, 6, 5])
    assert knob("left", "over", "left", "", log=True) == ("", [8, pytest.approx(32**0.5, abs=1e-3), 6.727])
    assert knob("over", "left", "left", "") == ("", [2, 3, 3.5])


def test_a_knob_stops_at_its_ends_and_where_the_budget_is_spent(knob):
    assert knob("left", "left", "left") == ("left", [8, 10])
    assert knob("over", "over", "over") == ("over", [2, 1])
    assert knob(*["left"] * 3, left=20) == ("left", [8])
    assert knob(*["left"] * 3, left=20.1) == ("left", [8, 10])
    assert knob("left", left=10) == ("left", [])


def test_of_a_rung_that_was_tuned_in_vain_the_least_miss_of_its_own_is_given(monkeypatch):
    missed = [Trial(method="ssd", excess=e) for e in (None, 0.5, 0.2, 0.4)]
    earlier = Trial(method="msg", excess=0.1)

    def tune(name, case, judge, trials, *, budget):
        trials.done += missed

    monkeypatch.setattr(module, "tune", tune)
    search = Search(tune=True, retraining=100.0)
    for found, least in ((missed, missed[2]), ([missed[0]], missed[0])):
        missed = found
        trials = SimpleNamespace(done=[earlier], spent=0.0)
        assert module._rung("ssd", None, None, trials, search, None, 1) is least


@pytest.mark.parametrize("kept", [True, False])
def test_a_leader_whose_model_was_not_kept_is_made_again(kept, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "make", lambda *given: ("method", *given))
    monkeypatch.setattr(module, "apply", lambda *given: calls.append(given) or "made again")
    monkeypatch.setattr(module, "described", lambda *given: given)
    leader = Trial(method="ssd", settings={"alpha": 2.0}, excess=0.25, kept=0.9, forgotten=0.1, seconds=1.5, spent=2.0)
    trials = Trials(None, {}, None)
    trials.done, trials.reused = [leader], 2
    if kept:
        trials.best, trials._best_trial = "kept", leader
    case = SimpleNamespace(child=lambda: "a child")
    found = module._taken(trials, ["a note"], SimpleNamespace(basis="that"), case, "auto")
    line = (
        "auto: took ssd, NONE met the standards; it misses them least; judged on that, 1 trial in 2.0 s; 2 trials were "
        "kept from an earlier start"
    )
    trial = "auto: ssd (alpha=2): kept 90.0%, forgotten 10.0%, 1.50 s; misses them by 0.250"
    assert found == ("kept" if kept else "made again", [line, trial, "a note"], [line])
    assert calls == ([] if kept else [(("method", "ssd", {"alpha": 2.0}), "a child")])
