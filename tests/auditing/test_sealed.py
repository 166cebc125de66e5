"""A sealed audit: what it adds, what it leaves alone, and that no search reads it."""

import ast
import copy
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from efface.auditing import sealed as module
from efface.auditing.answers import Answers
from efface.auditing.floors import Floors
from efface.auditing.questions import MEANING, SEALED
from efface.auditing.records import Records
from efface.auditing.result import Audit
from efface.auditing.rows import Row
from efface.auditing.scores import deeper, looked
from efface.auditing.scores.looked import tampered_rows
from efface.auditing.scores.score import Score
from efface.auditing.sealed import sealed_checks
from efface.auditing.settings import AuditSettings
from efface.auditing.table import Table
from efface.errors import InputError
from efface.running.run import Run
from tests.world import RECIPE, assessed

ROOT = Path(__file__).parents[2]
QUICK = {"relearn_cap": 0, "few_draws": 5, "resamples": 100, "kept_steps": 30}
OF_SEALED = {q.key for q in SEALED}


def _scored(value, low=1.0, high=2.0, why="of 5"):
    return Score(value=value, floor=1.5, floor_low=low, floor_high=high, why=why)


def _asked(value, *, by_class=True, control=None, **changed):
    scores = {q.measure: _scored(value) for q in SEALED} | changed
    return {c.key: c for c in sealed_checks(scores, by_class=by_class, control=control)}


def test_a_score_beyond_its_band_differs_on_the_sides_that_mean_something():
    low, within, high = _asked(0.9996), _asked(1.2345), _asked(2.0004)
    assert set(low) == {q.key for q in SEALED}
    for q in SEALED:
        assert (within[q.key].outcome, within[q.key].direction) == ("alike", "")
        assert within[q.key].finding == "1.23, one more retrained model 1 to 2 (of 5)"
        assert (within[q.key].question, within[q.key].measure) == (q.question, q.measure)
        for found, side in ((low[q.key], q.below), (high[q.key], q.above)):
            assert (found.outcome, found.direction) == (("differs", side) if side else ("alike", ""))
            assert found.finding.endswith(f"; {MEANING[side]}" if side else "(of 5)")
            assert (found.seen_below, found.seen_above) == (1.0 if q.below else None, 2.0 if q.above else None)
    for value in (1.0, 2.0):  # on the border
        assert {c.outcome for c in _asked(value).values()} == {"alike"}
    assert _asked(0.5, kept_lean=_scored(0.5, why=""))["lean"].finding == (
        f"0.5, one more retrained model 1 to 2; {MEANING['over']}"
    )


@pytest.mark.parametrize("missing", ["value", "floor_low", "floor_high"])
def test_a_score_without_a_band_is_not_assessed(missing):
    score = _scored(5.0, why="no spread").model_copy(update={missing: None})
    found = _asked(1.5, head_bias=score)["head-bias"]
    assert (found.outcome, found.finding, found.direction) == ("not assessed", "no spread", "")
    assert (found.seen_below, found.seen_above) == (None, None)


def test_items_are_not_asked_about_classes():
    of_items = _asked(1.5, by_class=False)
    assert set(of_items) == {"kept-data", "mass", "lean", "entropy", "near"}
    assert set(_asked(1.5, by_class=False, control=list(of_items.values()))) == set(of_items)


def test_a_question_that_passes_the_original_says_so():
    control = list(_asked(1.5, head_norm=_scored(7.0)).values())
    found = _asked(1.5, control=control)
    assert (found["head-norm"].outcome, found["head-norm"].told) == ("alike", True)
    assert (found["mass"].outcome, found["mass"].told) == ("not assessed", False)
    assert found["mass"].finding.startswith("cannot tell here: the original passes as well; 1.5, one more")
    assert found["head-bias"].finding.startswith("cannot tell here: the original with its bias lowered until the class")
    assert {c.told for c in _asked(1.5).values()} == {None}  # of the control itself nothing is known


@dataclass
class FakeLooked:
    """What "was seen" is which model it was seen in, and how."""

    name: str
    recipe: object = None
    folder: object = None
    found: dict = field(default_factory=lambda: {"bias": 0.0, "norm": 0.0})
    missing: dict = field(default_factory=dict)


@pytest.fixture
def looking(monkeypatch):
    """Look at models that are names; scores say what they were made from."""
    calls = []

    class Looked:
        @staticmethod
        def at(answers, recipe, folder=None):
            calls.append(answers.name)
            return FakeLooked(answers.name, recipe, folder, **answers.seen)

    def scores_of(mine, others, original, confidence, *, items=False):
        calls.append((mine.name, [o.name for o in others], original.name, confidence, items, dict(mine.found)))
        found = {q.measure: Score(value=len(mine.name) + mine.found.get("bias", 0.0)) for q in SEALED}
        return found | {"head_norm": Score.missing("no row") if mine.name == "original" else Score(value=1.0)}

    monkeypatch.setattr(module, "Looked", Looked)
    monkeypatch.setattr(module, "deeper_scores", scores_of)
    monkeypatch.setattr(module, "path_scores", lambda own, original: {"path_distance": Score(value=len(own.name))})
    monkeypatch.setattr(module, "tampered_rows", lambda original: {"bias": -9.0, "norm": 9.0})
    return calls


def looked_into(looking, *, retrained=True, further=2, by_class=True, record=True, folder=Path("kept"), original=None):
    """Every score of a small table, and the calls that it took."""
    looking.clear()
    records = SimpleNamespace(
        by_class=by_class,
        simultaneous_confidence=0.99,
        run=SimpleNamespace(track=lambda items, label, total=None: items),
    )

    def answers(name, **seen):
        return SimpleNamespace(name=name, seen=seen, records=records)

    first = answers("original", **(original or {}))
    theirs = [answers(f"retrained {k}") for k in range(further + retrained)]
    table = {"original": first} | ({theirs[0].name: theirs[0]} if retrained else {}) | {"mine": answers("mine")}
    asked = SimpleNamespace(table=table, original=first, everyone=theirs, retrained=theirs[0] if retrained else None)
    recipe = SimpleNamespace(recipe="how it was trained")
    rows = SimpleNamespace(original=SimpleNamespace(record=recipe if record else None))
    plain = Table({name: {"tow": Score(value=0.5)} for name in table}, Floors(), {})
    made = module.with_deeper(plain, rows, asked, records, folder)
    assert plain.meddled == {}
    return made, list(looking)


def test_each_model_is_looked_at_once_beside_the_other_retrained_ones(looking):
    made, calls = looked_into(looking)
    names = ["original", "retrained 0", "mine"]
    assert sorted(c for c in calls if isinstance(c, str)) == sorted([*names, "retrained 1", "retrained 2"])
    others = {c[0]: c[1] for c in calls if isinstance(c, tuple)}
    everyone = ["retrained 0", "retrained 1", "retrained 2"]
    assert others == {"original": everyone, "retrained 0": everyone[1:], "mine": everyone}
    assert {(c[2], c[3], c[4]) for c in calls if isinstance(c, tuple)} == {("original", 0.99, False)}
    for name in names:
        scores = made.scores[name]
        assert set(scores) == {"tow", "path_distance"} | {q.measure for q in SEALED}
        assert scores["tow"] == Score(value=0.5)
        entropy = scores["kept_entropy"]
        assert entropy.value == len(name)
        assert entropy.original == (None if name == "original" else len("original"))
        assert entropy.reference == (None if name == "retrained 0" else len("retrained 0"))
        assert scores["path_distance"].value == len(name)
    assert made.scores["mine"]["head_norm"].original is None  # it could not be measured there


def test_items_and_audits_without_a_retrained_model_are_looked_into_as_well(looking):
    made, calls = looked_into(looking, retrained=False, further=0, by_class=False)
    assert {c[4] for c in calls if isinstance(c, tuple)} == {True}
    assert made.scores["mine"]["kept_entropy"].reference is None
    assert made.meddled == {}


def test_what_is_seen_is_kept_of_further_retrained_models_only(looking, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        module.Looked,
        "at",
        lambda a, recipe, folder=None: seen.update({a.name: (recipe, folder)}) or FakeLooked(a.name),
    )
    looked_into(looking)
    recipe = "how it was trained"
    assert seen == {
        "original": (recipe, None), "retrained 0": (recipe, None), "mine": (recipe, None),
        "retrained 1": (recipe, Path("kept")), "retrained 2": (recipe, Path("kept")),
    }  # fmt: skip
    looked_into(looking, record=False, folder=None)
    assert set(seen.values()) == {(None, None)}


def test_the_original_is_scored_again_with_its_head_meddled_with(looking):
    made, calls = looked_into(looking)
    of_original = [c for c in calls if isinstance(c, tuple) and c[0] == "original"]
    assert [c[5] for c in of_original] == [{"bias": 0.0, "norm": 0.0}, {"bias": -9.0, "norm": 9.0}]
    assert [c[1] for c in of_original] == [["retrained 0", "retrained 1", "retrained 2"]] * 2
    assert set(made.meddled) == {q.measure for q in SEALED if q.meddled} == {"head_bias", "head_norm"}
    assert made.meddled["head_bias"].value == len("original") - 9
    # A head without a bias has no bias to meddle with.
    _, calls = looked_into(looking, original={"found": {"norm": 0.0}, "missing": {"bias": "no bias"}})
    assert [c[5] for c in calls if isinstance(c, tuple) and c[0] == "original"][1] == {"norm": 9.0}
    neither = {"found": {}, "missing": {"bias": "no row", "norm": "no row"}}
    assert looked_into(looking, original=neither)[0].meddled == {}
    assert looked_into(looking, by_class=False)[0].meddled == {}


def _audit(world, candidate, n=5, *, sealed=True, **options):
    models = {k: world.models[k] for k in ("original", "retrained")} | {"candidate": candidate}
    settings = AuditSettings(sealed=sealed, **QUICK | options.pop("settings", {}))
    known = {"candidate": "candidate", "references": world.retrained(n), "settings": settings}
    return assessed(models, world.split, Run(seed=7, device="cpu"), **known, **options)


@pytest.fixture(scope="module", autouse=True)
def few_probes():
    """Fewer draws than an audit makes: what they find is tested with the measure."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (deeper, looked):
            patch.setattr(place, "PROBES", ((1, 3), (10, 2), (200, 1)))
        yield


@pytest.fixture(scope="module")
def another(world):
    """The audit of one more retrained model."""
    return _audit(world, world.retrained(6)[-1])


@pytest.fixture(scope="module")
def lowered(world):
    """The fine-tuned model with a bias lowered by hand."""
    model = copy.deepcopy(world.models["fine-tuned"])
    with torch.no_grad():
        model[-1].bias[3] -= 30
    return model


@pytest.fixture(scope="module")
def sealed(world, lowered):
    return _audit(world, lowered)


@pytest.mark.seconds
def test_it_adds_its_questions_and_changes_no_other_score(world, lowered, sealed):
    plain = _audit(world, lowered, sealed=False)
    assert {c.key for c in sealed.verdict.checks} - {c.key for c in plain.verdict.checks} == OF_SEALED
    assert set(plain.measures) == set(plain.rows[0].scores)
    assert set(sealed.measures) == set(sealed.rows[0].scores)
    for row in plain.rows:
        for key, score in row.scores.items():
            assert sealed.row(row.name)[key].value == score.value


def test_a_lowered_bias_over_an_original_is_found_out(sealed):
    checks = {c.key: c for c in sealed.verdict.checks}
    assert (checks["head-bias"].outcome, checks["head-bias"].direction) == ("differs", "over")
    assert sealed.row("candidate")["head_bias"].original == sealed.row("original")["head_bias"].value
    assert sealed.row("original")["path_distance"].value == 0
    # Fine-tuning moved it by 0.3, the bias by 30.
    assert sealed.row("candidate")["path_distance"].value == pytest.approx(30, rel=0.01)
    assert sealed.row("candidate")["path_barrier"].value < sealed.row("retrained")["path_barrier"].value


def test_the_question_about_the_bias_can_tell_although_the_original_passes_it(another, sealed):
    """The original's bias is as training left it; a lowered one is what the question has to find, and does."""
    checks = {c.key: c for c in another.verdict.checks}
    band = sealed.row("original")["head_bias"]
    assert band.floor_low <= band.value <= band.floor_high
    assert (checks["head-bias"].outcome, checks["head-bias"].told) == ("alike", True)


def test_a_question_about_the_head_that_would_miss_meddling_cannot_tell(another):
    made = another.row("original")
    scores = {q.measure: made[q.measure] for q in SEALED}
    blind = scores | {"head_bias": scores["head_bias"].model_copy(update={"floor_low": -1e9, "floor_high": 1e9})}
    check = {c.key: c for c in sealed_checks(blind, by_class=True, control=sealed_checks(blind, by_class=True))}
    assert (check["head-bias"].outcome, check["head-bias"].told) == ("not assessed", False)
    assert "the original with its bias lowered until the class is not answered passes as well" in (
        check["head-bias"].finding
    )


def test_tampered_rows_are_the_originals_but_for_what_was_done(world):
    records = Records.drawn(world.split, AuditSettings(), Run(device="cpu"))
    original = Answers.of(Row("original", "original", world.models["original"]), records)
    found = tampered_rows(original)
    assert set(found) == {"bias", "norm"}
    # Lowered by what the tampered z-score says, the class is answered for one record in twenty.
    head = copy.deepcopy(world.models["original"])
    kept = [c for c in range(10) if c != 3]
    with torch.no_grad():
        spread = head[-1].bias.double()[kept].std()
        head[-1].bias[3] = head[-1].bias[kept].mean() + float(found["bias"][0] * spread)
    left = Answers.of(Row("lowered", "other", head), records).accuracy("forget")
    assert left == pytest.approx(0.05, abs=0.02)


def test_it_survives_json(sealed):
    assert Audit.from_json(sealed.to_json()) == sealed


def test_one_more_retrained_model_passes(another):
    assert {c.key for c in another.verdict.checks if c.outcome == "differs"} & OF_SEALED == set()


@pytest.mark.seconds
def test_below_four_retrained_models_nothing_passes(world, lowered):
    checks = [c for c in _audit(world, lowered, 1).verdict.checks if c.key in OF_SEALED]
    assert {c.outcome for c in checks} == {"not assessed"}
    assert all("retrained models" in c.finding for c in checks)


@pytest.mark.seconds
def test_what_was_seen_in_references_is_kept_and_a_damaged_file_is_refused(world, lowered, sealed, tmp_path):
    from efface.auditing.answers import KeptAnswers

    again = [_audit(world, lowered, kept=KeptAnswers(tmp_path)) for _ in range(2)]
    files = sorted(tmp_path.glob("deeper-*.safetensors"))
    assert len(files) == 5
    for found in again:
        assert found.row("candidate").scores == sealed.row("candidate").scores
    files[0].write_bytes(b"no tensors")
    with pytest.raises(InputError, match="is damaged"):
        _audit(world, lowered, kept=KeptAnswers(tmp_path))


def test_the_import_contract_keeps_searches_away():
    """The modules of the contract are those that the sealed part is made of, and no search imports one."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c["name"] == "What stops or chooses reads no sealed question")
    assert contract["source_modules"] == ["efface.searching"]
    forbidden = set(contract["forbidden_modules"])
    assert {"efface.auditing.sealed", "efface.auditing.scores.deeper", "efface.auditing.scores.looked"} <= forbidden
    for path in (ROOT / "src" / "efface" / "searching").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        assert not {n.module for n in nodes if isinstance(n, ast.ImportFrom)} & forbidden
        assert "sealed" not in {n.arg for n in nodes if isinstance(n, ast.keyword)}, "a search opens no sealed question"


@pytest.mark.seconds
def test_the_judge_cannot_be_made_to_ask_a_sealed_question(world, monkeypatch):
    """It asks all of the audit's own questions, and none of these: whoever looks at them here stops the test."""
    from efface.artifact.case import Case
    from efface.auditing import assess as flow
    from efface.searching.judge import Judge

    def opened(*_):
        raise AssertionError("a search read a sealed question")

    monkeypatch.setattr(flow, "with_deeper", opened)
    case = Case.of(
        world.models["original"], world.split.data, world.split.request, device="cpu", recipe=RECIPE, validation=0.1
    )
    judge = Judge(case, [world.models["retrained"], *world.retrained(3)])
    keys = judge._differences(world.models["logit mask"])
    assert keys
    assert not set(keys) & OF_SEALED
