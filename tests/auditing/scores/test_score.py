"""Scores: what is no number is no measurement; intervals and gaps stand where they belong."""

from __future__ import annotations

import math

import pytest
import torch

from efface.auditing.measures.intervals import Interval, bootstrap_mean, paired_gap, wilson
from efface.auditing.scores.score import Score, mean_score, scored, share_score, with_gap
from efface.auditing.settings import AuditSettings
from tests.auditing.scores.tiny import records

HITS, THEIRS = torch.tensor([1, 1, 0, 1, 0]).bool(), torch.tensor([1, 0, 0, 0, 1]).bool()


@pytest.fixture(scope="module")
def drawn():
    return records([0, 1, 2] * 4, [0, 1, 2], classes=[2], settings=AuditSettings(confidence=0.9))


@pytest.mark.parametrize(
    ("value", "words"), [(None, "no value was given"), (math.nan, "came out as nan"), (-math.inf, "came out as -inf")]
)
def test_what_is_no_number_was_not_assessed_and_says_why(value, words):
    score = Score(value=value, why="few records")
    assert (score.value, score.status, score.measured) == (None, "not assessed", False)
    assert score.why.startswith("few records; ")
    assert words in score.why
    assert Score(value=value).why.endswith(words)
    assert not Score(value=value).why.startswith(";")


def test_missing_scores_and_ends_that_are_no_numbers():
    missing = Score.missing("no records")
    assert (missing.value, missing.measured, missing.why) == (None, False, "no records")
    ends = Score(value=1.0, low=math.nan, high=math.inf)
    assert ends == Score(value=1.0)
    assert ends.measured
    assert Score.model_validate_json(ends.model_dump_json()) == ends


@pytest.mark.parametrize(("why", "bound"), [("at least 100 steps", "at least"), ("at most 3", "at most"), ("x", "")])
def test_old_audits_said_bounds_in_words(why, bound):
    assert Score.model_validate({"value": 1.0, "why": why}).bound == bound
    assert Score.model_validate({"value": 1.0, "why": why, "bound": ""}).bound == ""
    assert Score.model_validate({"value": 1.0}).bound == ""


def test_interval_and_gap_stand_where_they_belong():
    score = scored(Interval(0.5, 0.25, 1.0), "of a few")
    assert score == Score(value=0.5, low=0.25, high=1.0, why="of a few")
    assert scored(Interval(0.5, 0.25, 1.0)).why == ""
    moved = with_gap(score, Interval(-0.1, -0.2, 0.3))
    assert moved == Score(value=0.5, low=0.25, high=1.0, why="of a few", gap=-0.1, gap_low=-0.2, gap_high=0.3)
    assert score.gap is None


def test_a_share_has_wilsons_interval_and_a_gap_at_the_verdicts_confidence(drawn):
    own = wilson(3, 5, 0.9)
    assert share_score(HITS, None, drawn, "of five") == scored(own, "of five")
    assert share_score(HITS, None, drawn).why == ""
    gap = paired_gap(HITS, THEIRS, drawn.simultaneous_confidence)
    assert share_score(HITS, THEIRS, drawn) == with_gap(scored(own), gap)
    assert drawn.simultaneous_confidence > 0.9


def test_a_mean_has_a_bootstrap_interval_of_its_own_draws(drawn):
    values = torch.tensor([0.0, 1.0, 5.0, 2.0])
    generator = drawn.run.generator("audit/bootstrap/depth")
    expected = bootstrap_mean(values, generator, resamples=150, confidence=0.9)
    assert mean_score(values, drawn, "depth", 150, "why") == scored(expected, "why")
    assert mean_score(values, drawn, "depth", 150).why == ""
    assert mean_score(values, drawn, "depth", 0) == Score(value=2.0)
    assert mean_score(values, drawn, "depth", 0, "why") == Score(value=2.0, why="why")
    assert mean_score(values, drawn, "other", 150) != mean_score(values, drawn, "depth", 150)
