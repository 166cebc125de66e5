import copy
import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from efface.auditing import assess as flow
from efface.auditing import table
from efface.auditing.catalogue import CANARY_MEASURES, MEASURES, SEALED_MEASURES
from efface.auditing.checks import Check, Standard
from efface.auditing.measures.agreement import agreement
from efface.auditing.measures.intervals import paired_gap
from efface.auditing.measures.js_divergence import js_divergence
from efface.auditing.result import Audit
from efface.auditing.rows import AS_LONG, Row, Rows
from efface.auditing.scores.score import Score
from efface.auditing.settings import AuditSettings
from efface.auditing.verdict import ANSWERS_ONLY, LEVELS, LIMITS, Verdict
from efface.data import Split, load
from efface.errors import InputError
from efface.models.predictions import logits_of
from efface.models.recorded import Recorded
from efface.request import Request
from efface.running.machine import Machine
from efface.running.run import Run
from efface.training.loop import fit
from tests.world import RECIPE, assessed, masked, trained


def _outcomes(audit):
    return {c.key: c.outcome for c in audit.verdict.checks}


def _directions(audit):
    return {c.direction for c in audit.verdict.checks if c.outcome == "differs"}


@pytest.fixture(scope="module")
def audits(world):
    """Level b for the original, a second retrained model, the logit mask, and a model that forgot too hard."""
    ascent = fit(
        copy.deepcopy(world.models["original"]),
        world.split.forget,
        RECIPE.but(epochs=20, lr=0.02),
        Run(),
        loss=lambda m, x, y: -nn.functional.cross_entropy(m(x), y).clamp(max=8),
    )
    candidates = {
        "original": world.models["original"],
        "second retrained": world.retrained(1)[0],
        "logit mask": world.models["logit mask"],
        "gradient ascent": ascent,
    }
    return {
        name: assessed({**world.models, name: model}, world.split, Run(), candidate=name, seconds={name: 0.5})
        for name, model in candidates.items()
    }


def test_original_fails(audits):
    verdict = audits["original"].verdict
    assert (verdict.outcome, verdict.answer) == ("nothing was done", "no")
    assert _directions(audits["original"]) == {"left"}
    outcomes = _outcomes(audits["original"])
    for key in ("forget", "forget-test", "probe-few", "separation", "relearn"):
        assert outcomes[key] == "differs"
    for key in ("test", "retain"):
        assert outcomes[key] == "alike"


def test_retrained_passes(audits):
    audit = audits["second retrained"]
    assert audit.verdict.outcome == "alike"
    told = {c.key: c.told for c in audit.verdict.checks}
    cannot_tell = {key for key, outcome in _outcomes(audit).items() if outcome == "not assessed"}
    assert set(_outcomes(audit).values()) <= {"alike", "not assessed"}
    assert cannot_tell == {key for key, t in told.items() if t is False}
    assert {k for k, t in told.items() if t} >= {"forget", "forget-test", "probe-few", "separation", "relearn"}
    assert (audit.verdict.useful, audit.verdict.answer) == ("alike", "no difference found")
    assert "Level (b)" in audit.verdict.headline
    assert audit.verdict.control is True
    assert any("tell the original" in s and "separation" in s for s in audit.verdict.sentences)


def test_logit_mask_passes_accuracy_and_fails_the_probe(audits):
    audit = audits["logit mask"]
    outcomes = _outcomes(audit)
    for key in ("test", "retain", "forget", "forget-test"):
        assert outcomes[key] == "alike"
    assert outcomes["probe-few"] == outcomes["separation"] == "differs"
    assert audit.verdict.outcome == "differs"
    assert "left" in _directions(audit)
    # Its features are the original's, bit by bit, and so are the probes.
    for key in ("probe_recall", "probe_recall_few", "separation", "probe_outputs"):
        assert audit.row("logit mask")[key].value == audit.row("original")[key].value


def test_an_over_unlearned_model_is_flagged(audits):
    audit = audits["gradient ascent"]
    assert audit.verdict.outcome == "differs"
    assert {"over", "worse"} <= _directions(audit)
    assert all(e.direction == "over" for e in audit.exposed)


def test_every_row_has_every_score_with_a_value_or_a_reason(audits):
    for audit in audits.values():
        assert audit.level == "b"
        for row in audit.rows:
            assert tuple(row.scores) == tuple(MEASURES)
            for score in row.scores.values():
                assert score.measured == (score.value is not None)
                assert score.measured or score.why
                if score.low is not None and score.high is not None:
                    assert score.low <= score.value <= score.high


def test_scores_stand_beside_original_and_reference(audits):
    audit = audits["logit mask"]
    score = audit.row("logit mask")["test_accuracy"]
    assert score.original == audit.row("original")["test_accuracy"].value
    assert score.reference == audit.row("retrained")["test_accuracy"].value
    assert score.gap == pytest.approx(score.value - score.reference)
    assert score.floor is None  # one retrained model has no floor
    assert not audit.row("logit mask")["quality"].measured
    assert not audit.row("retrained")["rmia_auc"].measured


def test_json_goes_both_ways(audits):
    for audit in audits.values():
        assert Audit.from_json(audit.to_json()) == audit
        json.loads(audit.to_json(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))


def test_an_audit_shows_itself_shortly(audits):
    audit = audits["logit mask"]
    assert len(repr(audit)) < 300
    assert "'logit mask', asked to forget class 3 (digits); level (b); did it forget? no" in repr(audit)
    assert str(audit) == audit.verdict.headline
    hostile = audit.model_copy(update={"data": "<script>"})._repr_html_()
    assert "<script>" not in hostile
    assert "&lt;script&gt;" in hostile
    assert hostile.count("<tr>") == 1 + len(audit.rows)


def test_an_audit_is_a_table_with_every_score(audits):
    audit = audits["logit mask"]
    frame = audit.to_frame()
    assert len(frame) == len(audit.rows) * len(MEASURES)
    assert dict(zip(frame.row, frame.role, strict=True)) == {
        "original": "original", "retrained": "retrained", "fine-tuned": "other", "logit mask": "candidate",
    }  # fmt: skip
    wide = frame.pivot(index="row", columns="score", values="value")
    for row in audit.rows:
        for key, score in row.scores.items():
            value = wide.loc[row.name, key]
            assert value == score.value or (score.value is None and value != value)
    assert frame.value.dtype == frame.floor_high.dtype == "float64"


def test_an_audits_figures_are_the_reports(audits):
    from matplotlib.figure import Figure

    from efface.auditing.figures import illustrations

    audit = audits["logit mask"]
    figures = audit.figures()
    assert list(figures) == list(illustrations(audit))
    assert {"classes", "confusion", "margins", "relearning"} <= set(figures)
    assert all(isinstance(figure, Figure) for figure in figures.values())


def test_plots_count_every_record(audits, world):
    audit = audits["logit mask"]
    assert sum(audit.plots.forget_answers["logit mask"]) == len(world.split.forget)
    assert audit.plots.forget_answers["logit mask"][3] == 0
    assert sum(map(sum, audit.plots.confusion["original"])) == len(world.split.test)
    by_hand = [float(c[i]) / sum(c) for i, c in enumerate(audit.plots.confusion["original"])]
    assert audit.plots.per_class["original"] == pytest.approx(by_hand)


def test_attacks_state_the_least_rate_that_few_records_support(audits, world):
    score = audits["original"].row("original")["population_tpr"]
    assert f"the least that {len(world.split.test_forget)} unseen records support" in score.why


@pytest.mark.seconds
def test_models_and_global_randomness_stay_as_they_are(world):
    models = {k: world.models[k] for k in ("original", "retrained")}
    before = {k: copy.deepcopy(m.state_dict()) for k, m in models.items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = assessed(models, world.split, Run(seed=3), candidate="original")
    assert torch.equal(torch.rand(3), expected)
    for k, m in models.items():
        assert all(torch.equal(v, before[k][n]) for n, v in m.state_dict().items())
    second = assessed(models, world.split, Run(seed=3), candidate="original")
    assert first.rows == second.rows
    assert first.verdict == second.verdict


@pytest.mark.seconds
def test_without_a_reference_nothing_passes(world):
    models = {k: world.models[k] for k in ("original", "logit mask", "fine-tuned")}
    mask = assessed(models, world.split, Run(), candidate="logit mask")
    assert mask.level == "a"
    assert mask.reference is None
    assert mask.verdict.outcome == "not assessed"
    assert "sanity checks only" in mask.verdict.headline
    tuned = assessed(models, world.split, Run(), candidate="fine-tuned")
    assert tuned.verdict.outcome == "differs"
    assert tuned.exposed == ()


@pytest.mark.seconds
def test_level_c_has_floors_and_judges_by_them(world):
    references = world.retrained(8)
    shadows = [masked(trained(world.split.train, 200 + i, RECIPE.but(epochs=4))) for i in range(2)]
    audit = assessed(
        {**world.models, "ninth": references[7]},
        world.split,
        Run(),
        candidate="logit mask",
        references=references[:7],
        shadows=shadows,
    )
    assert audit.level == "c"
    assert audit.references == 8
    row = audit.row("logit mask")
    for key in ("test_accuracy", "rmia_auc", "separation", "probe_recall_few", "relearn_steps", "forget_js"):
        assert row[key].floor_low <= row[key].floor <= row[key].floor_high
    assert audit.row("retrained")["rmia_auc"].measured
    # What compares two models has its floor from every pair of the eight, not from the seven pairs with one of them.
    logits = [logits_of(m, world.split.forget) for m in (world.models["retrained"], *references[:7])]
    pairs = list(itertools.combinations(logits, 2))
    assert row["forget_js"].floor == pytest.approx(sum(float(js_divergence(*p).mean()) for p in pairs) / 28)
    assert row["forget_agreement"].floor == pytest.approx(sum(float(agreement(*p).double().mean()) for p in pairs) / 28)
    assert row["forget_shift"].floor == pytest.approx(0.5)
    assert audit.row("retrained")["forget_shift"].measured
    # A further retrained model lies inside most floors; the mask outside of what tells it apart.
    ninth = audit.row("ninth")
    assert ninth["separation"].floor_low < ninth["separation"].value < ninth["separation"].floor_high
    assert row["separation"].value > row["separation"].floor_high
    assert row["klom_forget"].value > row["klom_forget"].floor_high
    assert audit.verdict.outcome == "differs"
    assert "standard deviations" in audit.exposed[0].measure


@pytest.mark.seconds
def test_of_many_retrained_models_the_first_few_are_paired(world, monkeypatch):
    monkeypatch.setattr(table, "PAIRED", 3)
    models = {k: world.models[k] for k in ("original", "retrained")}
    options = {"candidate": "original", "settings": AuditSettings(relearn_cap=0, few_draws=2, resamples=100)}
    row = assessed(models, world.split, Run(), references=world.retrained(4), **options).row("original")
    logits = [logits_of(m, world.split.forget) for m in (world.models["retrained"], *world.retrained(2))]
    pairs = [float(js_divergence(*p).mean()) for p in itertools.combinations(logits, 2)]
    assert row["forget_js"].floor == pytest.approx(sum(pairs) / 3)


@pytest.mark.seconds
def test_items_are_compared_with_unseen_records_of_all_classes(world):
    split = Split.of(world.split.data, Request(items=tuple(range(0, 1300, 13))))
    original, retrained, second = (trained(p, s) for p, s in ((split.train, 0), (split.retain, 1), (split.retain, 2)))
    models = {"original": original, "retrained": retrained, "second": second}
    audit = assessed(models, split, Run(), candidate="second", settings=AuditSettings(exposed=3))
    # Digits are hardly memorised: the original passes as well, so passing shows nothing, and the verdict says so.
    about = {c.outcome for c in audit.verdict.checks if c.key not in {"test", "retain"}}
    assert about == {"not assessed"}
    assert audit.verdict.outcome == "not assessed"
    assert audit.verdict.control is False
    assert "Nothing about these records could be told from the original" in audit.verdict.headline
    assert not audit.row("second")["probe_recall"].measured
    assert audit.row("second")["forget_accuracy"].value > 0.8
    assert len(audit.exposed) == 3
    assert {e.id for e in audit.exposed} <= set(range(0, 1300, 13))
    assert audit.forget_classes == ()


def test_bad_input_is_refused_before_work(world):
    models = world.models
    with pytest.raises(InputError, match=r"0 rows of .*'logit mask' have the role 'candidate'"):
        assessed(models, world.split, Run(), candidate="logit-mask")
    only = {"original": models["original"]}
    with pytest.raises(InputError, match="0 rows of 'original', 'candidate' have the role 'retrained'; give one"):
        assessed(only, world.split, Run(), candidate="original", references=[models["retrained"]])
    swapped = copy.deepcopy(models["original"])
    with torch.no_grad():
        for p in swapped[-1].parameters():
            p.copy_(p[[0, 1, 2, 3, 4, 6, 5, 7, 8, 9]].clone())
    with pytest.raises(InputError, match=r"\(5 as output 6, 6 as output 5\)"):
        assessed({"original": swapped}, world.split, Run(), candidate="original")


def test_held_out_data_without_the_class_is_said(world, tmp_path):
    x, y = world.split.train.tensors()
    z, w = world.split.test_retain.tensors()
    path = tmp_path / "digits.npz"
    import numpy as np

    np.savez(path, x_train=x.numpy(), y_train=y.numpy(), x_test=z.numpy(), y_test=w.numpy())
    split = Split.of(load("arrays", path), Request(classes=(3,)))
    audit = assessed(
        {"original": world.models["original"], "retrained": world.models["retrained"]},
        split,
        Run(),
        candidate="original",
        settings=AuditSettings(relearn_cap=0),
    )
    row = audit.row("original")
    assert "lacks class 3" in row["population_auc"].why
    assert not row["probe_recall"].measured
    assert row["forget_accuracy"].measured
    assert _outcomes(audit)["record"] == "not assessed"


def _answered(model, part):
    x, y = part.tensors()
    with torch.no_grad():
        return model.eval()(x).argmax(1) == y


@pytest.mark.parametrize("items", [False, True])
def test_gaps_are_judged_at_bonferronis_share_of_the_questions_asked(world, items):
    """The retrained model's retained accuracy against one that knows less: paired, at 1 - 0.05 / questions."""
    split = Split.of(world.split.data, Request(items=tuple(range(0, 1300, 13)))) if items else world.split
    weak = trained(split.retain, 3, RECIPE.but(epochs=1))
    models = {"original": world.models["original"], "retrained": world.models["retrained"], "weak": weak}
    audit = assessed(models, split, Run(), candidate="weak", settings=AuditSettings(relearn_cap=0, resamples=100))
    questions = len(audit.verdict.checks)
    assert questions == (8 if items else 12)
    ours, theirs = (_answered(models[n], split.retain) for n in ("weak", "retrained"))
    expected = paired_gap(ours, theirs, 1 - 0.05 / questions)
    score = audit.row("weak")["retain_accuracy"]
    assert expected.low < expected.value < 0
    assert (score.gap, score.gap_low, score.gap_high) == pytest.approx(tuple(expected), abs=1e-12)


def test_relearning_aims_five_points_below_the_original_on_the_forget_records(audits, world):
    """The forget records fit into one batch, so that relearning is plain full-batch Adam."""
    x, y = world.split.forget.tensors()
    assert len(y) <= 256
    aim = float(_answered(world.models["original"], world.split.forget).double().mean()) - 0.05
    model = copy.deepcopy(world.models["retrained"])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = 0
    while float(_answered(model, world.split.forget).double().mean()) < aim:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
        steps += 1
    assert audits["logit mask"].row("retrained")["relearn_steps"].value == steps > 20


def test_relearning_is_compared_in_steps_and_capped_where_it_is_known_to_differ(audits):
    audit = audits["gradient ascent"]
    theirs = audit.row("retrained")["relearn_steps"].value
    for row in audit.rows:
        steps, index = row.scores["relearn_steps"], row.scores["ain"]
        assert steps.gap == steps.value - theirs
        assert index.value == pytest.approx(steps.value / theirs)
    # Twice the steps and twice three more still pass as noise: one step beyond is the cap.
    curve = audit.plots.relearning["gradient ascent"]
    assert curve[-1] < audits["original"].plots.relearning["original"][0] - 0.05
    assert audit.row("gradient ascent")["relearn_steps"].value == 2 * (theirs + 3) + 1 == len(curve) - 1


# --- the flow, by hand ----------------------------------------------------------------------------------------------


def order(table):
    """An original whose answers are these counts: rows are labels, columns outputs."""
    counts = torch.tensor(table)
    labels = torch.arange(len(counts)).repeat_interleave(counts.sum(1))
    answers = torch.cat([torch.arange(counts.shape[1]).repeat_interleave(row) for row in counts])
    logits = nn.functional.one_hot(answers, counts.shape[1]).float()
    half = torch.arange(len(labels)) % 2 == 0
    return SimpleNamespace(
        name="original",
        logits={"retain": logits[half], "forget": logits[~half]},
        labels={"retain": labels[half], "forget": labels[~half]},
        records=SimpleNamespace(split=SimpleNamespace(data=SimpleNamespace(classes=("a", "b", "c")))),
    )


def refusal(table):
    """What is said against an original whose answers are these counts; nothing if it is taken as it is."""
    try:
        flow._same_class_order(order(table))
    except InputError as error:
        return str(error)
    return ""


def test_outputs_in_another_order_are_refused_and_named():
    assert refusal([[1, 9, 0], [9, 1, 0], [0, 0, 10]]) == (
        "The model 'original' is right on 40% of its training data, but on 93% with its outputs reordered (a as output "
        "1, b as output 0); its class order is not the data's. Reorder the head's rows or the classes."
    )


@pytest.mark.parametrize(
    "table",
    [
        [[10, 0, 0], [0, 10, 0], [0, 0, 10]],
        [[18, 0, 0], [0, 0, 2], [0, 0, 0]],  # 90 % right, and 100 % in another order
        [[0, 4, 1], [4, 0, 1], [0, 0, 0]],  # 80 % in another order
        [[2, 6, 0], [6, 2, 0], [2, 2, 0]],
    ],
)
def test_an_original_that_is_hardly_better_or_poor_in_another_order_is_taken_as_it_is(table):
    assert refusal(table) == ""


def test_further_questions_are_asked_where_they_are_open(monkeypatch):
    asked = []
    monkeypatch.setattr(
        flow, "canary_checks", lambda scores, control: asked.append(("canaries", scores, control)) or ("c",)
    )
    monkeypatch.setattr(
        flow,
        "sealed_checks",
        lambda scores, *, by_class, control: asked.append(("sealed", scores, by_class, control)) or ("s",),
    )
    scores = SimpleNamespace(scores={"mine": {"x": 1, "y": 2}}, meddled={"y": 3})

    def records(canaries, sealed):
        settings = SimpleNamespace(sealed=sealed)
        return SimpleNamespace(with_canaries=canaries, settings=settings, by_class=True)

    assert flow._further("mine", scores, records(False, False)) == ()
    assert flow._further("mine", scores, records(True, False), ["k"]) == ("c",)
    assert flow._further("mine", scores, records(False, True), ["k"]) == ("s",)
    assert flow._further("mine", scores, records(True, True), meddled=True) == ("c", "s")
    plain, meddled = {"x": 1, "y": 2}, {"x": 1, "y": 3}
    assert asked == [
        ("canaries", plain, ["k"]),
        ("sealed", plain, True, ["k"]),
        ("canaries", plain, None),
        ("sealed", meddled, True, None),
    ]


@pytest.fixture
def verdict(monkeypatch):
    """Conclude at a level from checks that say what they were made from; recorded answers have checks left open."""

    def concluded(level, unfit="", *, recorded=False):
        floors = SimpleNamespace()
        asked = SimpleNamespace(settings=AuditSettings(), by_class=True, simultaneous_confidence=0.99)
        rows = SimpleNamespace(
            level=level, candidate=SimpleNamespace(name="mine"), original=SimpleNamespace(name="original")
        )
        ours = SimpleNamespace(model=Recorded(torch.zeros(1, 2)) if recorded else nn.Identity())
        answers = SimpleNamespace(candidate=ours, original="theirs")
        table = SimpleNamespace(scores={"mine": "our scores", "original": "their scores"}, floors=floors)
        for name, function in {
            "unchanged": lambda a, b: (a, b) == (ours, "theirs"),
            "unfit": lambda *_: unfit,
            "_further": lambda row, *_, meddled=False: (f"further of {row}{' meddled' if meddled else ''}",),
            "checks_against_original": lambda s, settings, *, by_class: ((s, settings, by_class),),
            "checks_against_floor": lambda s, standard, *, by_class, control=None: ((s, standard, by_class, control),),
            "not_assessed": lambda checks, why: ("not assessed", checks, why),
            "_open": lambda checks, control: ("open", checks, control),
            "about_the_records": lambda *_: "about",
            "canaries_instead": lambda _: "instead",
            "conclude": lambda *given, **named: (given, named),
        }.items():
            monkeypatch.setattr(flow, name, function)
        return flow._verdict(rows, answers, table, asked), Standard(level, floors, asked.settings, 0.99)

    return concluded


@pytest.mark.parametrize("recorded", [True, False])
def test_level_a_asks_what_needs_no_retrained_model(recorded, verdict):
    (given, named), _ = verdict("a", recorded=recorded)
    assert given == ("a", "mine", (("our scores", AuditSettings(), True), "further of mine"))
    assert named == {"unchanged": True, "recorded": recorded}


@pytest.mark.parametrize("level", ["b", "c"])
def test_levels_above_ask_the_original_first_as_a_control(level, verdict):
    (given, named), standard = verdict(level)
    control = (("their scores", standard, True, None),)
    checks = (("our scores", standard, True, control), "further of mine")
    both = (*control, "further of original")
    assert given == (level, "mine", checks, both)
    assert named == {"unchanged": True, "about": "about", "instead": "instead", "recorded": False}
    (given, named), _ = verdict(level, recorded=True)
    assert given[2][0] == "open"
    assert (len(given[2][1]), len(given[2][2])) == (2, 2)
    assert named == {"unchanged": True, "about": "about", "instead": "", "recorded": True}
    (given, named), standard = verdict(level, unfit="no reference")
    control = (("their scores", standard, True, None),)
    checks = (("our scores", standard, True, control), "further of mine")
    assert given == (level, "mine", ("not assessed", checks, "no reference"))
    assert named == {"unchanged": True, "unfit": "no reference"}


def test_what_recorded_answers_cannot_be_asked_stays_open():
    """The control was not asked either: whether it can tell is not known, which is no pass."""

    def check(key, outcome, told):
        return Check(key=key, question="?", outcome=outcome, finding="", measure="tow", told=told)

    control = [
        check("probe", "not assessed", None),
        check("single", "not assessed", False),
        check("test", "alike", None),
    ]
    asked = [check(key, "not assessed", False) for key in ("probe", "single", "test", "other")]
    found = flow._open(asked, control)
    assert [(c.key, c.told) for c in found] == [("probe", None), ("single", False), ("test", False), ("other", False)]
    assert [c.outcome for c in found] == ["not assessed"] * 4


@pytest.mark.parametrize("missing", [None, "row", "level", "unfit", "records"])
def test_the_row_of_retraining_for_as_long_is_asked_the_same_questions(missing, monkeypatch):
    asked = SimpleNamespace(settings=AuditSettings(), by_class=True, simultaneous_confidence=0.99)
    rows = SimpleNamespace(level="a" if missing == "level" else "b", original=SimpleNamespace(name="original"))
    answers = SimpleNamespace(
        table={} if missing == "row" else {AS_LONG: "its answers"},
        original=SimpleNamespace(labels={"test_retain": [] if missing == "records" else [1]}),
    )
    table = SimpleNamespace(scores={AS_LONG: "its scores", "original": "their scores"}, floors=None)
    monkeypatch.setattr(
        flow, "checks_against_floor", lambda s, standard, *, by_class, control=None: ((s, by_class, control),)
    )
    monkeypatch.setattr(flow, "_further", lambda row, *rest, meddled=False: ((row, rest[2:], meddled),))
    monkeypatch.setattr(flow, "standing", lambda *given: given)
    verdict = SimpleNamespace(unfit="no reference" if missing == "unfit" else "", checks="ours")
    found = flow._as_long(rows, answers, table, asked, verdict)
    if missing:
        assert found is None
        return
    control = (("their scores", True, None),)
    theirs = (("its scores", True, control), (AS_LONG, ((("original", (), True),),), False))
    assert found == (rows, answers, "ours", theirs, AuditSettings().confidence)


@pytest.mark.parametrize("asked", [(), ("canaries",), ("sealed",), ("canaries", "sealed")])
@pytest.mark.parametrize("folder", ["a folder", None])
def test_an_audit_is_put_together_from_answers_asked_once(asked, folder, monkeypatch):
    """Each step is handed what those before it made; a part is its name and what it was made from."""
    settings = SimpleNamespace(sealed="sealed" in asked, exposed=7)
    records = SimpleNamespace(settings=settings, with_canaries="canaries" in asked)
    answers = SimpleNamespace(original="o", candidate="c", everyone=["r", "c", "f"], table={"x": "o", "y": "c"})
    kept = None if folder is None else SimpleNamespace(folder=folder)
    rows = SimpleNamespace(original=SimpleNamespace(name="before"), candidate=SimpleNamespace(name="after"))
    split, run, checked = SimpleNamespace(forget_classes=(3,)), Run(device="cpu"), []

    def table_of(*given):
        assert given == (rows, answers, records, "thirds", folder)
        return SimpleNamespace(relearned="relearned", steps=[])

    def more(name, *expected):
        def step(table, *given):
            assert given == expected
            return SimpleNamespace(relearned="relearned", steps=[*table.steps, name])

        return step

    def drawn(*given):
        assert given == (split, AuditSettings(), run)
        return records

    def asked_of(*given):
        assert given == (rows, records, kept)
        return answers

    found = SimpleNamespace(verdict="its verdict", model_copy=lambda *, update: update)
    for name, stub in {
        "Records": SimpleNamespace(drawn=drawn),
        "AllAnswers": SimpleNamespace(of=asked_of),
        "_same_class_order": checked.append,
        "Table": SimpleNamespace(of=table_of),
        "with_canaries": more("canaries", answers, records),
        "with_deeper": more("sealed", rows, answers, records, folder),
        "_audit": lambda r, k, table, verdict: checked.append((r, k, verdict, table.steps)) or found,
        "_as_long": lambda *given: given,
        "most_exposed": lambda *given: given,
        "plots": lambda *given, **named: (given, named),
    }.items():
        monkeypatch.setattr(flow, name, stub)
    last = {}
    monkeypatch.setattr(flow, "_verdict", lambda r, a, table, k: last.update(table=table) or (r, a, k))
    made = flow.assess(rows, split, run, thirds="thirds", history=["a step"], kept=kept)
    assert checked == ["o", (rows, records, (rows, answers, records), list(asked))]
    assert made["as_long"] == (rows, answers, last["table"], records, "its verdict")
    assert made["exposed"] == ("c", ["r", "f"], 7)
    assert made["plots"] == (
        (["o", "c"], "relearned", ["a step"]), {"between": ("before", "after"), "forgotten": (3,)},
    )  # fmt: skip
    assert 0 <= made["seconds"] < 60


def test_settings_are_handed_on(monkeypatch):
    def drawn(split, settings, run):
        raise LookupError(settings)

    monkeypatch.setattr(flow, "Records", SimpleNamespace(drawn=drawn))
    with pytest.raises(LookupError, match="exposed=3"):
        flow.assess("rows", "split", "run", settings=AuditSettings(exposed=3))


@pytest.mark.parametrize(
    ("canaries", "sealed", "recorded"), [(False, False, False), (True, False, True), (True, True, False)]
)
def test_what_was_asked_of_which_models_is_written_down(canaries, sealed, recorded):
    split = Split.of(load("digits"), Request(classes=(3,)), validation=0.1)
    settings = AuditSettings(sealed=sealed, exposed=4)
    records = SimpleNamespace(
        split=split, settings=settings, with_canaries=canaries, run=Run(seed=9, device="cpu"), notes=("a",)
    )
    model = Recorded(torch.zeros(1, 10)) if recorded else nn.Identity()
    rows = Rows(
        (Row("before", "original", model), Row("anew", "retrained", model), Row("after", "candidate", model)),
        further=(Row("anew 2", "retrained", model),) * 3,
        notes=("b",),
    )
    scores = {name: {"tow": Score(value=i / 2)} for i, name in enumerate(("before", "anew", "after"))}
    verdict = Verdict(level="c", outcome="alike", headline="h", sentences=(), checks=())
    made = flow._audit(rows, records, SimpleNamespace(scores=scores), verdict)
    assert (made.level, made.level_text, made.references) == ("c", LEVELS["c"], 4)
    assert (made.candidate, made.original, made.reference) == ("after", "before", "anew")
    assert (made.data, made.data_fingerprint, made.classes) == ("digits", split.data.fingerprint, split.data.classes)
    assert made.forget_classes == (3,)
    assert made.request == Request(classes=(3,)).model_dump(mode="json")
    assert (made.request_text, made.request_fingerprint) == (split.request_text, split.resolved.fingerprint)
    assert made.counts == {
        name: len(getattr(split, name))
        for name in ("forget", "retain", "validation_retain", "validation_forget", "test_retain", "test_forget")
    }
    assert {row.name: row.scores for row in made.rows} == scores
    assert set(made.measures) == {
        *MEASURES, *(CANARY_MEASURES if canaries else ()), *(SEALED_MEASURES if sealed else ()),
    }  # fmt: skip
    assert (made.verdict, made.settings, made.seed) == (verdict, settings.model_dump(mode="json"), 9)
    assert made.notes == ("a", "b")
    assert made.limits == ((*LIMITS, ANSWERS_ONLY) if recorded else LIMITS)
    assert made.answers_only == recorded
    assert made.machine == Machine.here(torch.device("cpu"))
