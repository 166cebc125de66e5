"""Audits of predictions: what they say is what an audit of the models says, where answers are enough."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import efface
from efface.auditing.settings import AuditSettings
from efface.auditing.verdict import ANSWERS_ONLY
from efface.errors import InputError, InputWarning
from efface.models.predictions import logits_of
from efface.models.recorded import Recorded
from efface.report.closing import answers
from efface.running.run import Run
from tests.world import FORGOTTEN, assessed, world

__all__ = ["world"]

QUICK = AuditSettings(relearn_cap=0, resamples=100, few_draws=2)

NEEDS_THE_MODEL = {"zrf", "probe_recall", "probe_recall_few", "separation", "relearn_steps", "ain"}


@pytest.fixture(scope="module")
def answered(world):
    """Logits of the models on all training records, then all test records; labels; who was asked for."""
    parts = world.split.train, world.split.test
    labels = torch.cat([p.labels for p in parts])
    asked = np.where(labels[: len(parts[0])] == FORGOTTEN, "forget", "retain").tolist()

    def of(model):
        return torch.cat([logits_of(model, p) for p in parts]).double().numpy()

    models = {name: of(m) for name, m in world.models.items()}
    return of, models, labels.numpy(), asked + ["held-out"] * len(parts[1])


def test_scores_that_rest_on_answers_are_those_of_an_audit_of_the_models(world, answered):
    of, models, labels, parts = answered
    further = world.retrained(4)
    whole = assessed(
        {k: world.models[k] for k in ("original", "retrained", "fine-tuned")},
        world.split,
        Run(),
        candidate="fine-tuned",
        references=further,
        settings=QUICK,
    )
    found = efface.audit_predictions(
        models["original"],
        models["fine-tuned"],
        [models["retrained"], *map(of, further)],
        request=efface.Request(classes=[FORGOTTEN]),
        labels=labels,
        parts=parts,
        logits=True,
        name="fine-tuned",
        settings=QUICK,
    )
    assert (found.level, found.references) == ("c", 5)
    assert [row.name for row in found.rows] == ["original", "retrained", "logit mask", "fine-tuned"]
    same = 0
    for row in ("original", "retrained", "fine-tuned"):
        for key, score in found.row(row).scores.items():
            expected = whole.row(row)[key]
            if key in NEEDS_THE_MODEL:
                assert "only its answers are known" in score.why or key in {"relearn_steps", "ain"}
                continue
            # Float32 logits of the models against the same as float64: the last digits of gaps and bands differ.
            numbers = {"value", "low", "high", "floor", "floor_low", "floor_high", "gap", "gap_low", "gap_high"}
            ours, theirs = ({n: getattr(s, n) for n in numbers} for s in (score, expected))
            assert ours == pytest.approx(theirs, abs=1e-6), key
            same += score.measured
    assert same > 50
    outcomes = [{c.key: c.outcome for c in a.verdict.checks} for a in (found, whole)]
    for key in set(outcomes[0]) - {"probe", "probe-few", "separation", "relearn"}:
        assert outcomes[0][key] == outcomes[1][key]


def test_a_retrained_model_never_passes_by_its_answers_alone(world, answered):
    of, models, labels, parts = answered
    references = [of(m) for m in world.retrained(5)]
    ask = {"labels": labels, "parts": parts, "logits": True, "settings": QUICK}
    ask["request"] = efface.Request(classes=[FORGOTTEN])
    found = efface.audit_predictions(models["original"], models["retrained"], references, **ask)
    assert (found.verdict.outcome, found.verdict.answer) == ("not assessed", "could not tell")
    assert "in what was measured, but 4 of 12 questions were not assessed" in found.verdict.headline
    assert "what features hold cannot be seen in answers" in found.verdict.advice
    assert found.answers_only
    assert ANSWERS_ONLY in found.verdict.headline
    assert found.limits[-1] == answers(found)[0].rest == ANSWERS_ONLY
    alone = efface.audit_predictions(models["original"], models["retrained"], **ask)
    assert alone.verdict.advice.startswith("predictions of a model retrained")
    one = efface.audit_predictions(models["original"], models["retrained"], references[:1], **ask)
    assert one.verdict.advice == "predictions of four or more models retrained without the data"
    assert ANSWERS_ONLY not in alone.verdict.headline, "what it lacks first is a retrained model"
    # The original itself is found out, though nobody can say that nothing was done to its weights.
    untouched = efface.audit_predictions(models["original"], models["original"], references, **ask)
    assert (untouched.verdict.outcome, untouched.verdict.answer) == ("differs", "no")
    assert ANSWERS_ONLY not in untouched.verdict.headline


@pytest.mark.parametrize(("references", "level"), [(0, "a"), (1, "b"), (4, "c")])
def test_a_scikit_learn_model_in_a_few_lines(references, level):
    x, y = load_digits(return_X_y=True)
    parts = np.array(["retain", "held-out"])[np.arange(len(y)) % 4 // 3]
    parts[:200:4] = "forget"

    def answers(kept, seed):
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(kept))[:1000]
        return LogisticRegression(max_iter=30).fit(x[drawn] / 16, y[drawn]).predict_proba(x / 16)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        before, after = answers(parts != "held-out", 0), answers(parts == "retain", 1)
        retrained = [answers(parts == "retain", 2 + i) for i in range(references)]
    found = efface.audit_predictions(before, after, retrained, labels=y, parts=parts, settings=QUICK)
    assert (found.level, found.counts["forget"]) == (level, 50)
    assert found.row("candidate")["test_accuracy"].value > 0.9
    assert found.verdict.answer != "no difference found"


def test_repeated_runs_are_measured_as_a_method(world, answered):
    of, models, labels, parts = answered
    references = [of(m) for m in world.retrained(9)]
    found = efface.audit_predictions(
        models["original"],
        models["logit mask"],
        references[:6],
        repeats=references[6:],
        others={"tuned": models["fine-tuned"]},
        labels=labels,
        parts=parts,
        logits=True,
        settings=QUICK,
    )
    assert [row.name for row in found.rows] == ["original", "retrained", "tuned", "candidate"]
    assert found.row("candidate")["klom_forget"].measured


def test_the_request_is_what_the_column_says_or_fits_it(answered):
    _, models, labels, parts = answered
    ask = {"labels": labels, "logits": True, "settings": QUICK}
    table = models["original"], models["logit mask"]
    by_part = efface.audit_predictions(*table, parts=parts, **ask)
    assert by_part.forget_classes == ()
    assert any("Every training record of class 3 is to be forgotten" in note for note in by_part.notes)
    by_class = efface.audit_predictions(*table, parts=parts, request=efface.Request(classes=[3]), **ask)
    assert by_class.forget_classes == (3,)
    with pytest.raises(InputError, match=r"\(class 4\) means .* 0 of them the same"):
        efface.audit_predictions(*table, parts=parts, request=efface.Request(classes=[4]), **ask)
    neutral = ["train" if p != "held-out" else p for p in parts]
    with pytest.raises(InputError, match="nothing says what was to be forgotten"):
        efface.audit_predictions(*table, parts=neutral, **ask)
    by_ids = efface.audit_predictions(*table, parts=neutral, request=efface.Request(ids=["5", "6"]), **ask)
    assert by_ids.counts["forget"] == 2
    with pytest.raises(InputError, match="two rows are called 'original'"):
        efface.audit_predictions(*table, parts=parts, name="original", **ask)
    with pytest.raises(InputError, match="give a list of them"):
        efface.audit_predictions(*table, models["retrained"], parts=parts, **ask)


def test_labels_that_belong_to_other_records_are_noticed(answered):
    _, models, labels, parts = answered
    mixed = np.random.default_rng(0).permutation(labels)
    with pytest.warns(InputWarning, match="check that labels, ids and classes belong to the predictions"):
        efface.audit_predictions(
            models["original"], models["logit mask"], labels=mixed, parts=parts, logits=True, settings=QUICK
        )


def test_sealed_questions_are_asked_where_answers_are_enough(world, answered):
    of, models, labels, parts = answered
    references = [of(m) for m in world.retrained(5)]
    settings = QUICK.model_copy(update={"sealed": True})
    request = efface.Request(classes=[FORGOTTEN])
    found = efface.audit_predictions(
        models["original"],
        models["logit mask"],
        references,
        request=request,
        labels=labels,
        parts=parts,
        logits=True,
        settings=settings,
    )
    row = found.row("candidate")
    assert {k for k in ("kept_mass", "kept_lean", "kept_entropy") if row[k].measured} == {
        "kept_mass",
        "kept_lean",
        "kept_entropy",
    }
    for key in ("kept_data_margin", "block_probe", "head_bias", "head_norm", "neighbourhood", "path_distance"):
        assert "only its answers are known" in row[key].why
    assert isinstance(found.to_json(), str)
    assert Recorded(torch.zeros(1, 2)).state_dict().keys() == {"logits"}
