"""Tuning: what is varied and how, when it ends, and what the estimator is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from efface.errors import InputError
from efface.methods.catalogue import methods
from efface.methods.method import Axis
from efface.running.run import Run
from efface.searching import tuning as module
from efface.searching.trials import Trial, Trials
from efface.searching.tuning import open_axes, tried, tune

CASE = SimpleNamespace(run=Run(seed=1, device="cpu"), child=lambda: "a child")


def test_what_is_fixed_is_not_varied():
    space = methods()["decay"].space
    assert open_axes("decay", {}) == dict(space)
    assert set(open_axes("decay", {"rate": 0.1, "random": True})) == set(space) - {"rate"}
    with pytest.raises(InputError) as error:
        open_axes("decay", dict.fromkeys(space, 1))
    assert str(error.value) == (
        "decay cannot be tuned: --set fixes all of top, rate, steps, lr; leave --tune out, or set fewer of them"
    )
    with pytest.raises(InputError, match="logit-mask cannot be tuned: it has no hyper-parameter that a search varies;"):
        open_axes("logit-mask", {})


def test_axes_become_the_distributions_of_their_kind():
    distributions = pytest.importorskip("optuna").distributions
    assert module._distribution("decay", "steps", Axis(5, 60)) == distributions.IntDistribution(5, 60)
    assert module._distribution("decay", "steps", Axis(5, 60, log=True)) == distributions.IntDistribution(
        5, 60, log=True
    )
    assert module._distribution("decay", "lr", Axis(1e-5, 0.01, log=True)) == (
        distributions.FloatDistribution(1e-5, 0.01, log=True)
    )
    assert module._distribution("decay", "top", Axis(0.02, 0.4)) == distributions.FloatDistribution(0.02, 0.4)
    assert module._distribution("decay", "fine_tune", Axis(choices=("none", "only"))) == (
        distributions.CategoricalDistribution(("none", "only"))
    )
    assert [module._whole(methods()["decay"], name) for name in ("steps", "rate", "random")] == [True, False, False]


class Told:
    """A study that proposes 0, 1, 2, ... and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, float]] = []
        self.asked: list[dict] = []

    def ask(self, distributions):
        self.asked.append(distributions)
        return SimpleNamespace(params={"lr": len(self.asked)})

    def tell(self, proposal, value):
        self.told.append((proposal.params["lr"], value))


@pytest.fixture
def study(monkeypatch):
    study = Told()
    study.seeds = []
    monkeypatch.setattr(module, "_study", lambda seed: study.seeds.append(seed) or study)
    monkeypatch.setattr(module, "_distribution", lambda name, field, axis: (name, field, axis))
    return study


def tuned(monkeypatch, *outcomes, budget=100.0, **options):
    """Tune fine-tune over trials with these outcomes: how far they miss, or None where refused."""
    done = []

    def one(name, settings, case, judge, trials):
        excess = outcomes[min(len(done), len(outcomes) - 1)]
        refused = "" if excess is not None else "why not"
        done.append((name, settings, case, judge, trials))
        return Trial(method=name, settings=settings, excess=excess, refused=refused, spent=2.0)

    monkeypatch.setattr(module, "tried", one)
    found = tune("fine-tune", CASE, "judge", "trials", budget=budget, **options)
    assert {(n, c is CASE, j, t) for n, _, c, j, t in done} == {("fine-tune", True, "judge", "trials")}
    return found, [settings for _, settings, *_ in done]


def test_defaults_come_first_and_proposals_until_one_passes(monkeypatch, study):
    found, settings = tuned(monkeypatch, 0.5, 0.25, None, 0.0)
    assert found.passed
    assert settings == [{}, {"lr": 1}, {"lr": 2}, {"lr": 3}]
    assert study.told == [(1, 0.25), (2, 1e3), (3, 0.0)]  # a refusal is far from everything
    assert study.seeds == [CASE.run.number("tune/fine-tune")]
    space = methods()["fine-tune"].space
    assert study.asked[0] == {field: ("fine-tune", field, axis) for field, axis in space.items()}


def test_what_the_caller_fixed_goes_into_every_trial(monkeypatch, study):
    _, settings = tuned(monkeypatch, 0.5, 0.0, fixed={"epochs": 3})
    assert settings == [{"epochs": 3}, {"epochs": 3, "lr": 1}]
    assert set(study.asked[0]) == {"lr"}


def test_it_ends_with_the_budget_with_the_first_refusal_and_with_the_most_trials(monkeypatch, study):
    found, settings = tuned(monkeypatch, 0.5, budget=6.0)  # two seconds each: the third spends it
    assert (found, len(settings)) == (None, 3)
    assert len(tuned(monkeypatch, 0.5, budget=6.1)[1]) == 4
    assert tuned(monkeypatch, None) == (None, [{}])
    monkeypatch.setattr(module, "MOST", 5)
    assert len(tuned(monkeypatch, 0.5)[1]) == 5
    assert tuned(monkeypatch, 0.0)[0].passed


def test_a_trial_is_made_judged_kept_and_said(monkeypatch):
    trials, said = Trials(None, {}, None), []
    case = SimpleNamespace(run=SimpleNamespace(progress=SimpleNamespace(say=said.append)), child=lambda: "a child")
    made = []
    monkeypatch.setattr(module, "apply", lambda method, child: made.append((method.name, method.lr, child)) or "made")

    def judge(artifact, settings):
        assert artifact == "made"
        return Trial(method="fine-tune", settings=settings, kept=1.0, forgotten=0.0, excess=0.0)

    trial = tried("fine-tune", {"lr": 0.5}, case, judge, trials)
    assert made == [("fine-tune", 0.5, "a child")]
    assert (trials.done, trials.best) == ([trial], "made")
    assert said == [f"auto: {trial}"]
    assert trial.settings == {"lr": 0.5}

    def refuses(*_):
        raise InputError("not this")

    monkeypatch.setattr(module, "apply", refuses)
    refused = tried("fine-tune", {"lr": 0.25}, case, judge, trials)
    assert refused == Trial(method="fine-tune", settings={"lr": 0.25}, refused="not this")
    assert (trials.done[-1], trials.best) == (refused, "made")
    monkeypatch.setattr(Trials, "known", lambda self, method, settings: (method, settings))
    assert tried("fine-tune", {"lr": 0.125}, case, judge, trials) == ("fine-tune", {"lr": 0.125})
    assert len(trials.done) == len(said) == 2
