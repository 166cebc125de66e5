import dataclasses

import pytest
import torch

from efface.auditing.answers import Answers
from efface.auditing.records import Records
from efface.auditing.rows import Row
from efface.auditing.scores.membership import membership_scores, rmia_records
from efface.auditing.settings import AuditSettings
from efface.running.run import Run


def planted(world, records, seed, forget, held_out):
    """Answers of a model whose margins on forget and held-out records are drawn around planted means."""
    answers = Answers.of(Row(f"model {seed}", "other", world.models["original"]), records)
    g = torch.Generator().manual_seed(seed)
    margins = {
        part: torch.randn(len(answers.labels[part]), generator=g, dtype=torch.float64) + mean
        for part, mean in (("forget", forget), ("held_out", held_out))
    }
    return dataclasses.replace(answers, _margins=margins)


@pytest.fixture(scope="module")
def records(world):
    return Records.drawn(world.split, AuditSettings(), Run())


def test_what_retrained_models_show_as_well_is_not_held_against_the_candidate(world, records):
    """Held-out data of a class that is a little harder than its training data shifts the AUC of every model."""
    reference, candidate = (planted(world, records, s, -8.0, -9.5) for s in (0, 1))
    score = membership_scores(candidate, reference, [reference], resamples=200)["rmia_auc"]
    assert score.value > 0.7
    assert score.gap_low < 0 < score.gap_high
    assert score.why == "gap to the retrained model's own margins"
    leaking = planted(world, records, 2, -5.0, -9.5)
    score = membership_scores(leaking, reference, [reference], resamples=200)["rmia_auc"]
    assert score.gap_low > 0.02


def test_population_gap_is_to_the_retrained_model_and_two_sided(world, records):
    reference = planted(world, records, 0, 0.0, 0.0)
    for shift, sign in ((2.0, 1), (-2.0, -1)):
        score = membership_scores(planted(world, records, 3, shift, 0.0), reference, [reference], resamples=200)
        gap = score["population_auc"]
        assert min(sign * gap.gap_low, sign * gap.gap_high) > 0
        assert gap.gap == pytest.approx(
            gap.value - membership_scores(reference, None, [], resamples=0)["population_auc"].value
        )


def test_ratios_use_every_reference_and_none_twice(world, records):
    models = [planted(world, records, s, 0.0, 0.0) for s in range(3)]
    scores = membership_scores(models[0], models[0], models, resamples=0)
    members, others = rmia_records(models[0], models[1:])
    pairs = (members.unsqueeze(1) > others).double() + 0.5 * (members.unsqueeze(1) == others)
    assert scores["rmia_auc"].value == pytest.approx(float(pairs.mean()))
