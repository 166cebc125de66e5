import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.exposed import most_exposed
from efface.auditing.measures.exposure import deviations
from efface.auditing.measures.intervals import Interval
from efface.auditing.measures.u_lira import Role, thirds
from efface.auditing.plots import margin_histograms
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores import ensembles as module
from efface.auditing.scores.ensembles import OF_RUNS, Thirds, ensemble_scores, thirds_scores
from efface.auditing.settings import AuditSettings
from efface.data import Split, load
from efface.errors import InputError
from efface.request import Request
from efface.running.run import Run
from tests.auditing.scores import tiny


def noisy(records, seed, shift=0.0):
    """Answers of a model whose margins are drawn, so that the truth about its ensemble is known."""
    answers = Answers.of(Row(f"model {seed}", "other", nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), records)
    g = torch.Generator().manual_seed(seed)
    margins = {
        part: torch.randn(len(answers.labels[part]), generator=g, dtype=torch.float64)
        for part in ("forget", "retain", "test_retain")
    }
    margins["forget"] += shift
    return dataclasses.replace(answers, _margins=margins)


@pytest.fixture(scope="module")
def records():
    split = Split.of(load("digits"), Request(classes=(3,)))
    return Records.drawn(split, AuditSettings(retain_samples=150), Run())


@pytest.fixture(scope="module")
def retrained(records):
    return [noisy(records, 100 + s) for s in range(16)]


@pytest.fixture(scope="module")
def shifted(records, retrained):
    """Scores of a method whose models know the forget data better by two deviations."""
    return ensemble_scores([noisy(records, s, shift=2.0) for s in range(8)], retrained, records)


def test_a_method_equal_to_retraining_lies_within_its_floor(records, retrained):
    scores = ensemble_scores([noisy(records, s) for s in range(8)], retrained, records)
    assert set(scores) == {m.key for m in OF_RUNS}
    assert "8 models a side" in scores["quality"].why
    for key in ("lira_accuracy", "quality", "klom_forget", "klom_retain", "klom_test"):
        # Means over 123 to 400 records; another halving differs by a few of the spreads between halvings.
        spread = scores[key].floor_high - scores[key].floor_low
        assert abs(scores[key].value - scores[key].floor) <= 1.5 * spread, key
    assert scores["lira_accuracy"].floor == pytest.approx(0.5, abs=0.03)


def test_a_shifted_method_stands_out_on_the_forget_data_only(shifted):
    scores = shifted
    assert scores["lira_accuracy"].value > scores["lira_accuracy"].floor_high + 0.2
    assert scores["klom_forget"].value > scores["klom_forget"].floor_high
    assert scores["quality"].value < scores["quality"].floor_low
    assert scores["klom_test"].value == pytest.approx(scores["klom_test"].floor, rel=0.1)


def test_klom_is_printed_as_published_on_all_three_parts(shifted):
    for part in ("forget", "retain", "test"):
        assert shifted[f"klom_{part}_95"].value > shifted[f"klom_{part}"].value
        assert shifted[f"klom_{part}_95"].floor_high is not None


def test_the_final_score_is_f_times_the_ratios_of_accuracy_on_kept_and_test_data(records):
    def right(answers, **shares):
        """The same margins, but the first so many records of each part answered rightly, and no other."""
        logits = dict(answers.logits)
        for part, share in shares.items():
            labels = answers.labels[part]
            answered = torch.where(torch.arange(len(labels)) < share * len(labels), labels, (labels + 1) % 10)
            logits[part] = nn.functional.one_hot(answered, 10).float()
        return dataclasses.replace(answers, logits=logits)

    ours = [right(noisy(records, s), retain=0.8, test_retain=0.6) for s in range(4)]
    theirs = [right(noisy(records, 100 + s), retain=1.0, test_retain=0.5) for s in range(8)]
    scores = ensemble_scores(ours, theirs, records)
    assert scores["final_score"].value == pytest.approx(scores["quality"].value * 0.8 * 1.2, rel=0.01)
    assert scores["final_score"].floor == pytest.approx(scores["quality"].floor)


def test_the_published_binning_is_an_option_and_another_number(records):
    as_public = dataclasses.replace(records, settings=records.settings.model_copy(update={"klom_bins": "published"}))
    ours, theirs = [noisy(records, s) for s in range(3)], [noisy(records, 100 + s) for s in range(6)]
    found = [ensemble_scores(ours, theirs, r)["klom_forget"] for r in (records, as_public)]
    assert found[0].value != found[1].value
    # Value and floor lose alike: both are of the same kind.
    assert found[1].floor != found[0].floor


def test_too_few_models_are_not_assessed(records):
    few = ensemble_scores([noisy(records, 0)], [noisy(records, 1)] * 4, records)
    assert not any(s.measured for s in few.values())
    assert "at least 3 and 6" in few["quality"].why
    assert "run once" in ensemble_scores([], [], records)["quality"].why


def test_shadow_models_in_thirds_null_and_planted(records):
    class Fixed(nn.Module):
        """Answers each forget record with a planted margin: two classes left, so the margin is the logit."""

        def __init__(self, planted):
            super().__init__()
            self.planted = planted

        def forward(self, x):
            z = torch.full((len(x), 10), -torch.inf, dtype=torch.float64)
            z[:, 0], z[:, 3] = 0, self.planted[: len(x)]
            return z

    n = len(records.parts["forget"])
    roles = thirds(30, n, torch.Generator().manual_seed(0))
    for shift, low, high in ((0.0, 0.45, 0.55), (2.0, 0.75, 0.9)):
        planted = torch.randn(30, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        planted[roles == Role.UNLEARNED] += shift
        scores = thirds_scores(Thirds([Fixed(row) for row in planted], roles), records)
        found = scores["thirds_accuracy"]
        assert low < found.value < high
        # The permutation floor holds one half and, at 123 records and 10 models a side, is a few points wide.
        assert 0.4 < found.floor_low < 0.5 < found.floor_high < 0.6
        assert "10 shadow models a side" in found.why
    assert "no shadow models" in thirds_scores(None, records)["thirds_auc"].why
    few = Thirds([Fixed(row) for row in planted[:6]], roles[:6])
    assert not thirds_scores(few, records)["thirds_auc"].measured
    with pytest.raises(InputError, match="in the order of split"):
        thirds_scores(Thirds([], roles), records)


def test_deviations_by_hand():
    retrained = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    score, expected, words = deviations(torch.tensor([1.0, 5.0]), retrained)
    # Mean 1, shared variance 2, one more draw from it: sigma = sqrt(2 * 1.5).
    torch.testing.assert_close(score, torch.tensor([0.0, 4 / 3**0.5], dtype=torch.float64))
    assert expected.tolist() == [1, 1]
    assert "2 retrained" in words
    alone, _, words = deviations(torch.tensor([1.0, -torch.inf]), torch.zeros(1, 2))
    assert alone.tolist() == [1, -100]
    assert words == "margin above the retrained model's"
    with pytest.raises(InputError, match="never saw it"):
        deviations(torch.zeros(2), torch.zeros(0, 2))


def test_most_exposed_records_are_found_by_id_on_both_sides(records):
    candidate, retrained = noisy(records, 0), [noisy(records, s) for s in range(1, 9)]
    candidate.margin("forget")[[7, 40]] = torch.tensor([30.0, -40.0], dtype=torch.float64)
    found = most_exposed(candidate, retrained, 3)
    indices = records.parts["forget"].indices
    assert [(e.id, e.direction) for e in found[:2]] == [(indices[40], "over"), (indices[7], "left")]
    assert len(found) == 3
    assert found[0].label == 3
    assert most_exposed(candidate, [], 3) == ()


def test_histograms_share_edges_and_count_everyone():
    found = margin_histograms({("a", "forget"): torch.randn(500), ("b", "forget"): torch.full((30,), -1e4)})
    assert [sum(h.counts) for h in found] == [500, 30]
    assert found[0].edges == found[1].edges
    assert found[1].counts[0] == 30
    assert -10 < found[0].edges[0] < 0


def test_low_false_positive_rates_are_measured_or_say_what_they_take(records, retrained, shifted):
    assert shifted["lira_tpr_1"].value > shifted["lira_tpr_1"].floor_high
    few = dataclasses.replace(
        records,
        parts={**records.parts, "forget": records.parts["forget"].take(range(9))},
        settings=records.settings.model_copy(update={"attack_samples": 9}),
    )
    scores = ensemble_scores([noisy(records, s, shift=2.0) for s in range(8)], retrained, few)
    assert scores["lira_tpr_1"].status == "not assessed"
    assert "8 models a side and 9 records make 72: it would take 13 records, or 12 models" in scores["lira_tpr_1"].why
    assert scores["lira_accuracy"].measured


# --- words and numbers of halvings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unlearned", "retrained", "why"),
    [
        (0, 8, "the method was run once; several unlearned models are needed"),
        (
            2,
            8,
            "2 unlearned and 8 retrained models are too few: at least 3 and 6 are needed, so that the noise floor is",
        ),
        (3, 5, "3 unlearned and 5 retrained models are too few"),
    ],
)
def test_how_many_models_are_too_few(unlearned, retrained, why, records):
    scores = ensemble_scores([noisy(records, s) for s in range(unlearned)], [noisy(records, 9)] * retrained, records)
    assert [*scores] == [m.key for m in OF_RUNS]
    assert all(s.why.startswith(why) for s in scores.values())


def test_as_many_models_a_side_as_both_allow(records, monkeypatch):
    """Each halving compares n unlearned and n retrained ones with the same other n retrained ones."""
    sizes = []

    def compare(pairs, *, closed):
        sizes.append({part: tuple(len(side) for side in both) for part, both in pairs.items()})
        return {m.key: float(len(sizes)) for m in OF_RUNS if m.key != "final_score"}

    monkeypatch.setattr(module, "_compare", compare)
    scores = ensemble_scores(
        [noisy(records, s) for s in range(5)], [noisy(records, 100 + s) for s in range(7)], records
    )
    assert len(sizes) == 2 * module.SPLITS
    assert {v for s in sizes for v in s.values()} == {(3, 3)}
    assert set(sizes[0]) == {"forget", "retain", "test_retain"}
    score = scores["klom_forget"]
    # Calls alternate: 1, 3, ... are the method's, 2, 4, ... the floor's.
    ours, floors = range(1, 2 * module.SPLITS, 2), range(2, 2 * module.SPLITS + 1, 2)
    assert (score.value, score.low, score.high) == (sum(ours) / 6, min(ours), max(ours))
    assert score.floor == sum(floors) / 6
    assert score.floor_low <= min(floors) < max(floors) <= score.floor_high
    assert score.why == "3 models a side, mean over 6 random halvings of 7 retrained models"


def test_a_floor_is_other_retrained_models_than_those_compared_with(records, monkeypatch):
    """Of ten, five are the reference and the other five the floor; margins say which model is which."""
    marked = []
    for k in range(10):
        made = noisy(records, 100 + k)
        marked.append(dataclasses.replace(made, _margins={p: torch.full_like(m, k) for p, m in made._margins.items()}))
    seen = []

    def compare(pairs, *, closed):
        seen.append([side[:, 0].tolist() for side in pairs["forget"]])
        return {m.key: 0.5 for m in OF_RUNS if m.key != "final_score"}

    monkeypatch.setattr(module, "_compare", compare)
    ensemble_scores([noisy(records, s) for s in range(5)], marked, records)
    references = []
    for (_, first), (floor, second) in zip(seen[::2], seen[1::2], strict=True):
        assert first == second
        assert sorted([*floor, *second]) == list(range(10))
        references.append(tuple(sorted(first)))
    assert len(set(references)) > 1


def test_what_is_asked_of_low_rates_is_counted():
    assert module._too_few(0.01, 8, 9) == (
        "a false-positive rate of 1 % needs 100 pairs of a model held out and a record; 8 models a side and 9 records "
        "make 72: it would take 13 records, or 12 models a side"
    )
    assert module._too_few(0.001, 10, 50).endswith("make 500: it would take 100 records, or 20 models a side")


def test_the_final_score_needs_accuracies_on_both_parts():
    ours, theirs = torch.tensor([0.8, 0.6]), torch.tensor([1.0, 0.5])
    assert module._final(0.5, ours, theirs) == {"final_score": pytest.approx(0.5 * 0.8 * 1.2)}
    assert module._final(0.5, torch.tensor([0.8, torch.nan]), theirs) == {}


def test_roles_that_fit_no_models_are_refused_and_few_are_counted(records):
    n = len(records.parts["forget"])
    with pytest.raises(InputError) as error:
        thirds_scores(Thirds([nn.Identity()] * 2, torch.zeros(3, n)), records)
    assert str(error.value).startswith(
        f"The roles have shape (3, {n}) for 2 shadow models and {n} forget records; give"
    )
    roles = torch.zeros(6, n)
    roles[:3] = Role.OUT
    roles[3:5] = Role.UNLEARNED
    few = thirds_scores(Thirds([nn.Identity()] * 6, roles), records)
    assert {s.why for s in few.values()} == {
        "some record is out of or unlearned by only 2 of 6 shadow models; 3 are needed"
    }
    assert set(few) == {"thirds_accuracy", "thirds_auc", "thirds_tpr_1", "thirds_tpr_01"}


# --- shadow models, by hand ----------------------------------------------------------------------------------------


def shadows():
    """Four forget records of class 0, and shadow models that see them in turn: three of each role for each record."""
    few = tiny.records([0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2], classes=(0,))
    roles = torch.tensor([Role.OUT, Role.UNLEARNED, Role.IN] * 3)[:, None].repeat(1, 4)
    roles[:, 1] = roles[:, 1].roll(1)
    models = []
    for k in range(len(roles)):
        models.append(nn.Linear(3, 3))
        with torch.no_grad():
            models[-1].weight.zero_()
            models[-1].bias.copy_(torch.tensor([float(k), -torch.inf, 0.0]))  # whose margin is k on every record
    return few, Thirds(models, roles)


def test_the_attack_is_on_each_records_own_shadow_models_and_its_floor_on_margins_dealt_anew(monkeypatch):
    few, given = shadows()
    calls = []

    def attack(unlearned, out, **options):
        calls.append((unlearned, out, options))
        at = len(calls)
        rates = {0.01: 0.25 if at == 1 else 0.1 * at, 0.001: None}
        return SimpleNamespace(
            accuracy=Interval(0.5 + at / 100, 0.2, 0.9), auc=Interval(0.3 + at / 100, 0.1, 0.8), tpr=rates
        )

    monkeypatch.setattr(module, "u_lira", attack)
    scores = thirds_scores(given, few)
    assert len(calls) == 1 + module.SPLITS
    assert all(options == {"fprs": (0.01, 0.001)} for *_, options in calls)
    unlearned, out, _ = calls[0]
    for found, role in ((unlearned, Role.UNLEARNED), (out, Role.OUT)):
        assert found.dtype == torch.float64
        for record in range(4):
            expected = (given.roles[:, record] == role).nonzero().flatten().double()
            assert torch.equal(found[:, record].sort().values, expected)
    both = torch.cat([unlearned, out]).sort(0).values
    dealt = [torch.cat(sides) for *sides, _ in calls[1:]]
    assert all(len(sides[0]) == len(sides[1]) == 3 for *sides, _ in calls)
    assert all(torch.equal(d.sort(0).values, both) for d in dealt)
    assert len({tuple(d.flatten().tolist()) for d in dealt}) > 1
    # Each record is dealt by itself.
    assert any(not torch.equal(d[:, 2], d[:, 3]) for d in dealt)

    assert list(scores) == ["thirds_accuracy", "thirds_auc", "thirds_tpr_1", "thirds_tpr_01"]
    why = "3 shadow models a side for each of 4 records"
    found = scores["thirds_accuracy"]
    assert (found.value, found.low, found.high, found.why) == (0.51, 0.2, 0.9, why)
    assert found.floor == pytest.approx(0.5 + 4.5 / 100)
    assert found.floor_low <= 0.52 < 0.57 <= found.floor_high
    found = scores["thirds_auc"]
    assert (found.value, found.low, found.high, found.why) == (0.31, 0.1, 0.8, why)
    assert found.floor == pytest.approx(0.3 + 4.5 / 100)
    found = scores["thirds_tpr_1"]
    assert (found.value, found.why) == (0.25, why)
    assert found.floor == pytest.approx(0.45)
    assert not scores["thirds_tpr_01"].measured
    assert scores["thirds_tpr_01"].why == module._too_few(0.001, 3, 4)

    first = list(calls)
    calls.clear()
    torch.manual_seed(77)
    thirds_scores(given, few)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(first, calls, strict=True) for k in (0, 1))


def test_a_shadow_model_without_numbers_is_named():
    few, given = shadows()
    with torch.no_grad():
        given.models[4].bias[0] = torch.nan
    with pytest.raises(InputError, match="the logits of a shadow model on the"):
        thirds_scores(given, few)


def test_halvings_say_which_part_has_no_record():
    few = tiny.records([0] * 4 + [1] * 4 + [2] * 4, [0, 0], classes=(0,))
    assert not len(few.parts["test_retain"])
    models = [tiny.answers(few, f"model {k}", matrix=torch.randn(3, 3)) for k in range(9)]
    scores = ensemble_scores(models[:3], models[3:], few)
    for key in ("klom_test", "klom_test_95", "final_score"):
        assert scores[key].why == "there is no record of this part"
        assert not scores[key].measured
    assert scores["lira_tpr_1"].why == module._too_few(0.01, 3, 4)
    assert scores["klom_forget"].measured
