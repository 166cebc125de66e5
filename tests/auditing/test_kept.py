"""What was found out about a model is found once, as long as nothing that it depends on changes."""

import dataclasses

import pytest
import torch

from efface.auditing.answers import AllAnswers
from efface.auditing.kept import depends_on, remembered
from efface.auditing.records import Records
from efface.auditing.scores.features import Probed
from efface.auditing.scores.relearning import Relearned
from efface.auditing.settings import AuditSettings
from efface.errors import InputError
from efface.running.run import Run
from tests.world import rows_of

SETTINGS = AuditSettings(few_draws=3, resamples=100, relearn_cap=4, probe_per_class=20)


def found(calls):
    def find():
        calls.append(1)
        return {"x": torch.arange(3.0)}, {"words": "héllo", "n": 0.1}

    return find


def test_it_is_found_once_for_the_same_content_and_again_without_a_folder(tmp_path):
    calls: list[int] = []
    for _ in range(2):
        tensors, about = remembered(tmp_path / "new", "thing", [1, "a", {"b": 2}], found(calls))
        assert torch.equal(tensors["x"], torch.arange(3.0))
        assert about == {"words": "héllo", "n": 0.1}
    assert len(calls) == 1
    remembered(tmp_path / "new", "thing", [1, "a", {"b": 3}], found(calls))
    remembered(tmp_path / "new", "other", [1, "a", {"b": 2}], found(calls))
    remembered(None, "thing", [1, "a", {"b": 2}], found(calls))
    assert len(calls) == 4


def test_a_damaged_file_is_named_and_nothing_is_found(tmp_path):
    remembered(tmp_path, "thing", [], found([]))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"thing-.*is damaged.*delete it"):
        remembered(tmp_path, "thing", [], found([]))


@pytest.fixture(scope="module")
def answers(world):
    models = {k: world.models[k] for k in ("original", "retrained", "logit mask")}
    return AllAnswers.of(rows_of(models, candidate="logit mask"), Records.drawn(world.split, SETTINGS, Run()))


def test_a_key_changes_with_weights_settings_and_seed(answers):
    own = answers.retrained
    assert depends_on(own) == depends_on(own) != depends_on(answers.candidate)
    for change in ({"settings": SETTINGS.model_copy(update={"few_draws": 4})}, {"run": Run(seed=1)}):
        other = dataclasses.replace(own, records=dataclasses.replace(own.records, **change))
        assert depends_on(other) != depends_on(own)


def test_probes_and_relearning_come_back_as_they_were(answers, tmp_path):
    own, before = answers.retrained, answers.original
    first, back, anew = (Probed.of(own, folder) for folder in (tmp_path, tmp_path, None))
    for other in (back, anew):
        assert (other.missing, other.few) == (first.missing, first.few)
        assert first.hits.keys() == other.hits.keys()
        assert all(torch.equal(first.hits[k], other.hits[k]) for k in first.hits)
    courses = [Relearned.of(own, before, folder=folder) for folder in (tmp_path, tmp_path, None)]
    assert courses[0] == courses[1] == courses[2]
    assert courses[0].course is not None
    left_out = dataclasses.replace(own, records=dataclasses.replace(own.records, settings=AuditSettings(relearn_cap=0)))
    assert Relearned.of(left_out, before, folder=tmp_path).missing == "left out by the settings"
