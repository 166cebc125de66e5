import dataclasses

import pytest
import torch
from torch import nn

from efface.auditing.answers import Answers
from efface.auditing.exposed import most_exposed
from efface.auditing.measures.exposure import deviations
from efface.auditing.measures.u_lira import Role, thirds
from efface.auditing.plots import margin_histograms
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores.ensembles import OF_RUNS, Thirds, ensemble_scores, thirds_scores
from efface.auditing.settings import AuditSettings
from efface.errors import InputError
from efface.running.run import Run


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
def records(world):
    return Records.drawn(world.split, AuditSettings(retain_samples=150), Run())


def test_a_method_equal_to_retraining_lies_within_its_floor(records):
    scores = ensemble_scores(
        [noisy(records, s) for s in range(8)], [noisy(records, 100 + s) for s in range(16)], records
    )
    assert set(scores) == {m.key for m in OF_RUNS}
    assert "8 models a side" in scores["quality"].why
    for key in ("lira_accuracy", "quality", "klom_forget", "klom_retain", "klom_test"):
        # Means over 123 to 400 records; another halving differs by a few of the spreads between halvings.
        spread = scores[key].floor_high - scores[key].floor_low
        assert abs(scores[key].value - scores[key].floor) <= 1.5 * spread, key
    assert scores["lira_accuracy"].floor == pytest.approx(0.5, abs=0.03)


def test_a_shifted_method_stands_out_on_the_forget_data_only(records):
    scores = ensemble_scores(
        [noisy(records, s, shift=2.0) for s in range(8)], [noisy(records, 100 + s) for s in range(16)], records
    )
    assert scores["lira_accuracy"].value > scores["lira_accuracy"].floor_high + 0.2
    assert scores["klom_forget"].value > scores["klom_forget"].floor_high
    assert scores["quality"].value < scores["quality"].floor_low
    assert scores["klom_test"].value == pytest.approx(scores["klom_test"].floor, rel=0.1)


def test_klom_is_printed_as_published_on_all_three_parts(records):
    ours, theirs = [noisy(records, s, shift=1.0) for s in range(8)], [noisy(records, 100 + s) for s in range(16)]
    scores = ensemble_scores(ours, theirs, records)
    for part in ("forget", "retain", "test"):
        assert scores[f"klom_{part}_95"].value > scores[f"klom_{part}"].value
        assert scores[f"klom_{part}_95"].floor_high is not None


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
    ours, theirs = [noisy(records, s) for s in range(5)], [noisy(records, 100 + s) for s in range(10)]
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


def test_low_false_positive_rates_are_measured_or_say_what_they_take(records):
    ours, theirs = [noisy(records, s, shift=2.0) for s in range(8)], [noisy(records, 100 + s) for s in range(16)]
    scores = ensemble_scores(ours, theirs, records)
    assert scores["lira_tpr_1"].value > scores["lira_tpr_1"].floor_high
    few = dataclasses.replace(
        records,
        parts={**records.parts, "forget": records.parts["forget"].take(range(9))},
        settings=records.settings.model_copy(update={"attack_samples": 9}),
    )
    scores = ensemble_scores(ours, theirs, few)
    assert scores["lira_tpr_1"].status == "not assessed"
    assert "8 models a side and 9 records make 72: it would take 13 records, or 12 models" in scores["lira_tpr_1"].why
    assert scores["lira_accuracy"].measured
