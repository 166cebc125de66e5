"""Kept answers are the model's own, and belong to its weights and to the samples."""

import pytest
import torch
from torch import nn

from efface.auditing import answers as module
from efface.auditing.answers import KeptAnswers
from efface.auditing.scores import features, relearning
from efface.errors import InputError
from efface.models.predictions import logits_of
from efface.running.run import Run
from tests.world import assessed


class Counted(nn.Sequential):
    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return super().forward(x)


def counted(seed: int) -> Counted:
    torch.manual_seed(seed)
    return Counted(nn.Flatten(), nn.Linear(64, 10))


def test_a_model_is_asked_once_about_a_part(world, tmp_path, monkeypatch):
    model, kept, part = counted(0), KeptAnswers(tmp_path / "answers"), world.split.test_forget
    first = kept.logits(model, part)
    torch.testing.assert_close(first, logits_of(model, part), rtol=0, atol=0)
    Counted.calls = 0
    torch.testing.assert_close(KeptAnswers(tmp_path / "answers").logits(model, part), first, rtol=0, atol=0)
    assert Counted.calls == 0
    assert not kept.logits(model, part.take([])).numel()


@pytest.mark.parametrize("change", ["weights", "indices", "samples"])
def test_anything_else_is_asked_anew(change, world, tmp_path):
    model, kept, part = counted(0), KeptAnswers(tmp_path), world.split.test_forget
    kept.logits(model, part)
    if change == "weights":
        with torch.no_grad():
            model[1].bias[0] += 1
    elif change == "indices":
        part = part.take(range(len(part) - 1, -1, -1))
    else:
        part = world.split.forget.take(range(len(part)))
    torch.testing.assert_close(kept.logits(model, part), logits_of(model, part), rtol=0, atol=0)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_named(world, tmp_path):
    model, kept, part = counted(0), KeptAnswers(tmp_path), world.split.test_forget
    kept.logits(model, part)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(InputError, match=r"is damaged.*delete it"):
        kept.logits(model, part)


def test_answers_that_cannot_be_kept_cost_time_only_and_are_said(world, tmp_path):
    (tmp_path / "file").touch()
    model, kept, part = counted(0), KeptAnswers(tmp_path / "file" / "answers"), world.split.test_forget
    with pytest.warns(UserWarning, match="answers cannot be kept in .*file"):
        found = kept.logits(model, part)
    torch.testing.assert_close(found, logits_of(model, part), rtol=0, atol=0)


def only_of_the_table(real, further):
    """The function, which must not be called on a further model again."""

    def asked(model, *args, **kwargs):
        assert id(model) not in further, "a further model was probed or relearnt again"
        return real(model, *args, **kwargs)

    return asked


def test_an_audit_with_kept_answers_says_the_same(world, tmp_path, monkeypatch):
    settings = {"split": world.split, "candidate": "logit mask", "references": world.retrained(4)}
    plain = assessed(world.models, run=Run(), **settings)
    first = assessed(world.models, run=Run(), **settings, kept=KeptAnswers(tmp_path))
    ask, further = module.checked_logits, {id(m) for m in settings["references"]}

    def not_again(model, part, **kwargs):
        assert id(model) not in further, "a further model was asked again"
        return ask(model, part, **kwargs)

    monkeypatch.setattr(module, "checked_logits", not_again)
    for place, name in ((features, "features_of"), (relearning, "relearn")):
        monkeypatch.setattr(place, name, only_of_the_table(getattr(place, name), further))
    again = assessed(world.models, run=Run(), **settings, kept=KeptAnswers(tmp_path))
    assert plain.rows == first.rows == again.rows
    assert plain.verdict == again.verdict


class Muted(nn.Sequential):
    """The same weights under the same names as the model it is made from, and another function of them."""

    def forward(self, x):
        return super().forward(x).index_fill(1, torch.tensor([3]), -1e4)


def test_a_row_of_the_same_weights_that_computes_something_else_is_asked_itself(world, tmp_path):
    models = {**world.models, "muted": Muted(*world.models["original"])}
    settings = {"split": world.split, "references": world.retrained(4), "kept": KeptAnswers(tmp_path)}
    assessed(world.models, run=Run(), candidate="logit mask", **settings)
    found = assessed(models, run=Run(), candidate="muted", **settings)
    assert found.row("muted").scores["forget_accuracy"].value == 0
    assert found.row("original").scores["forget_accuracy"].value > 0.9


def test_unusable_answers_are_refused_with_the_models_name(world):
    broken = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        broken[1].weight[0, 30] = torch.nan
    with pytest.raises(InputError, match="logits of the candidate on the test"):
        module.checked_logits(broken, world.split.test_forget, name="the candidate")
