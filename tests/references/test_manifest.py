"""What a folder of references is for: which differences refuse it, and how a series grows."""

from __future__ import annotations

import json

import pytest
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import given
from efface.artifact.record import describe_data
from efface.data import Data, Split, load
from efface.errors import InputError
from efface.models.spec import ModelSpec
from efface.references.jobs import Repeat, Retraining
from efface.references.manifest import MANIFEST, Manifest, Series, grown, write_manifest
from efface.references.references import References, load_references
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

RECIPE = Recipe(epochs=3)
REQUEST = Request(items=(1, 2, 3), reason="she asked")


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def original(digits: Data) -> Artifact:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return given(model, Split.of(digits), RECIPE, Run(seed=1, device="cpu"), spec=ModelSpec(build="mlp"))


def split_of(digits: Data, request: Request = REQUEST, **options) -> Split:
    return Split.of(digits, request, **options)


def having_forgotten(original: Artifact, request: Request):
    """The original's record after a request of an earlier day."""
    step = original.record.model_copy(update={"request": request, "action": "forget"})
    return original.record.model_copy(update={"parent": step})


def test_a_manifest_says_what_all_models_share(digits, original):
    split, earlier = split_of(digits), Request(items=(7,))
    made = Manifest.of(having_forgotten(original, earlier), split, 5)
    assert made.data == describe_data(split)
    assert (made.model, made.recipe, made.request, made.seed) == (ModelSpec(build="mlp"), RECIPE, REQUEST, 5)
    assert made.request_fingerprint == split.resolved.fingerprint
    assert made.earlier == (earlier,)
    assert made.series == {}


def test_an_audit_of_the_same_records_is_served_and_others_are_refused_by_name(digits, original):
    made = Manifest.of(original.record, split_of(digits), 0)
    made.check(original.record, split_of(digits, Request(items=(3, 2, 1))), "here")
    with pytest.raises(InputError, match=r"the references in here were trained for something else; different: request"):
        made.check(original.record, split_of(digits, Request(items=(1, 2))), "here")
    other = original.record.model_copy(update={"recipe": RECIPE.but(epochs=4), "model": ModelSpec(build="lenet5")})
    with pytest.raises(
        InputError, match=r"model \(mlp\(\) instead of lenet5\(\)\), recipe's epochs \(3\.0 instead of 4"
    ):
        made.check(other, split_of(digits), "here")
    foreign = original.record.model_copy(update={"data": original.record.data.model_copy(update={"fingerprint": "f"})})
    with pytest.raises(InputError) as error:
        made.check(foreign, split_of(digits, Request(items=(9,))), "here")
    assert "different: data (" in str(error.value)  # of other data, records by number mean nothing


def test_what_was_forgotten_before_may_be_divided_otherwise_unless_the_folder_is_to_grow(digits, original):
    """A model without items 1 to 5 is the same, whether they were asked for at once or on two days."""
    first = Request(items=(4, 5), reason="first")
    made = Manifest.of(having_forgotten(original, first), split_of(digits, earlier=(first,)), 0)
    at_once = split_of(digits, Request(items=(1, 2, 3, 4, 5)))
    made.check(original.record, at_once, "here")
    with pytest.raises(InputError) as error:
        made.check(original.record, at_once, "here", growing=True)
    assert "earlier requests ([{'items': [4, 5]}] instead of [])" in str(error.value)
    same = having_forgotten(original, Request(items=(4, 5), reason="in other words"))
    made.check(same, split_of(digits, earlier=(first,)), "here", growing=True)
    with pytest.raises(InputError, match="different: request"):
        made.check(same, split_of(digits, Request(items=(1,)), earlier=(first,)), "here", growing=True)


def test_a_series_grows_and_never_shrinks_and_keeps_its_settings(digits, original, tmp_path):
    empty = Manifest.of(original.record, split_of(digits), 0)
    jobs = {
        "reference": [Retraining(k, 10 + k) for k in range(2)],
        "unlearned-ssd": [Repeat(0, 7, "ssd", {"alpha": 2})],
    }
    made = grown(empty, jobs | {"shadow-ssd": []}, tmp_path)
    assert made.series == {
        "reference": Series(seeds=(10, 11)),
        "unlearned-ssd": Series(method="ssd", settings={"alpha": 2}, seeds=(7,)),
    }
    assert empty.series == {}
    more = grown(made, {"reference": [Retraining(k, 10 + k) for k in range(4)]}, tmp_path)
    assert more.series["reference"].seeds == (10, 11, 12, 13)
    assert more.series["unlearned-ssd"] == made.series["unlearned-ssd"]
    assert grown(more, jobs, tmp_path) == more
    with pytest.raises(InputError) as error:
        grown(more, {"unlearned-ssd": [Repeat(0, 7, "ssd", {"alpha": 3})]}, tmp_path)
    assert f"{tmp_path} already holds unlearned-ssd with the settings {{'alpha': 2}}, not {{'alpha': 3}}" in (
        str(error.value)
    )


def test_a_manifest_is_written_where_it_is_read(digits, original, tmp_path):
    made = grown(Manifest.of(original.record, split_of(digits), 3), {"reference": [Retraining(0, 10)]}, tmp_path)
    folder = tmp_path / "a" / "b"
    write_manifest(folder, made)
    write_manifest(folder, made)
    assert load_references(folder).manifest == made
    assert json.loads((folder / MANIFEST).read_text())["seed"] == 3
    assert (folder / MANIFEST).read_text().startswith('{\n  "schema_version": 1')


def test_a_folder_knows_what_is_finished_and_which_audits_it_serves(digits, original, tmp_path):
    made = grown(Manifest.of(original.record, split_of(digits), 3), {"reference": [Retraining(0, 10)]}, tmp_path)
    write_manifest(tmp_path, made)
    found = load_references(tmp_path)
    assert (len(found), list(found), found.finished("shadow-ssd")) == (0, [], [])
    with pytest.raises(InputError, match=r"no reference in .* is finished yet; let `train --references` end"):
        found.check(original.record, split_of(digits))
    assert found.serves(split_of(digits, Request(items=(3, 2, 1))))
    assert not found.serves(split_of(digits, Request(items=(1, 2))))
    assert not found.serves(Split.of(digits))
    assert (found.like, found.trust, found.keep_answers) == (None, False, True)
    assert found.answers == tmp_path / "answers"
    assert References(tmp_path, made, keep_answers=False).answers is None
    assert found.unlearned("ssd", {}) == []
    like = nn.Linear(1, 1)
    trusted = load_references(tmp_path, like, trust=True)
    assert (trusted.like, trusted.trust) == (like, True)


def test_what_is_no_folder_of_references_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError) as error:
        load_references(tmp_path / "none")
    assert str(error.value) == (
        f"{tmp_path / 'none'} is no folder of references: it has no references.json. Make one with `efface train "
        "--from ORIGINAL --references N --classes ... --out FOLDER`"
    )
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match=r"references\.json is damaged: "):
        load_references(tmp_path)
