"""What users write in Python is checked, and answered with a sentence."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

import efface
from efface.auditing.settings import AuditSettings
from efface.comparing import Plan
from efface.errors import InputError
from efface.methods.scrub import SCRUB


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: efface.Request(clases=[3]), "Request: there is no 'clases'. Did you mean 'classes'?"),
        (lambda: efface.Request(), "Request: a request names exactly one of classes"),
        (lambda: efface.Request(items=["a"]), "Request: items.0 must be a valid integer"),
        (lambda: efface.Recipe(lr="fast", epoch=3), "lr must be .*'fast'.*there is no 'epoch'. Did you mean 'epochs'"),
        (lambda: efface.Request(classes=None), "Request: classes must be a list .given: None."),
        (lambda: efface.Plan(), "Plan: name is missing"),
        (lambda: efface.Recipe().but(lr=-1), "lr must be greater than"),
        (lambda: efface.Recipe(augment={"crop": -1}), "Recipe: augment.crop must be greater"),
        (lambda: AuditSettings(resamples=1), "AuditSettings: resamples must be greater than or equal to 100"),
        (lambda: efface.ModelSpec(build=""), "ModelSpec: build must "),
        (lambda: SCRUB(lr=-1), "scrub: lr must be greater than or equal to 0"),
        (lambda: SCRUB(rate=1), "scrub has no hyper-parameter 'rate'.*Allowed: .*lr"),
        (lambda: Plan(name="x", methods=[{"method": "scrub", "setings": {}}]), "methods.0.setings"),
    ],
)
def test_a_value_that_does_not_fit_is_said_in_one_line(made, said):
    with pytest.raises(InputError, match=said) as caught:
        made()
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_message_does_not_repeat_a_whole_file(tmp_path):
    for text in ("[" * 5000, '{"classes": ["' + 5000 * "x" + '", null]}', json.dumps({"reason": 5000 * ["x"]})):
        (tmp_path / "request.json").write_text(text)
        with pytest.raises(InputError, match=r"request\.json") as caught:
            efface.Request.read(tmp_path / "request.json")
        assert len(str(caught.value)) < 600


def test_reading_json_still_raises_what_its_callers_turn_into_their_own_words():
    with pytest.raises(ValidationError):
        efface.Request.model_validate_json("{}")
