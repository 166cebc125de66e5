"""Kept answers are the model's own, and belong to its weights and to the samples."""

import dataclasses
import math
import warnings

import pytest
import torch
from torch import nn

from efface.auditing import answers as module
from efface.auditing.answers import AllAnswers, Answers, KeptAnswers
from efface.auditing.measures.margins import margins
from efface.auditing.records import Records
from efface.auditing.rows import Row, Rows
from efface.auditing.scores import features, relearning
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.errors import InputError
from efface.models.predictions import logits_of
from efface.request import Request
from efface.running.run import Run
from tests.world import assessed

QUICK = AuditSettings(few_draws=2, resamples=100, relearn_cap=5, probe_per_class=20)


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


def test_that_answers_cannot_be_kept_is_said_once_for_a_folder(world, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="answers cannot be kept"):
        module.keep(tmp_path / "file" / "answers" / "one", b"")
    with warnings.catch_warnings(record=True) as said:  # Python has forgotten by now what it has said
        warnings.simplefilter("always")
        module.keep(tmp_path / "file" / "answers" / "two", b"")
    assert not said


def only_of_the_table(real, further):
    """The function, which must not be called on a further model again."""

    def asked(model, *args, **kwargs):
        assert id(model) not in further, "a further model was probed or relearnt again"
        return real(model, *args, **kwargs)

    return asked


@pytest.mark.seconds
def test_an_audit_with_kept_answers_says_the_same(world, tmp_path, monkeypatch):
    settings = {"split": world.split, "candidate": "logit mask", "references": world.retrained(4), "settings": QUICK}
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


@pytest.mark.seconds
def test_a_row_of_the_same_weights_that_computes_something_else_is_asked_itself(world, tmp_path):
    models = {**world.models, "muted": Muted(*world.models["original"])}
    settings = {
        "split": world.split,
        "references": world.retrained(4),
        "kept": KeptAnswers(tmp_path),
        "settings": QUICK,
    }
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


# --- by hand --------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """From the position, which is the input, to given logits; counts how often it is asked."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("table", logits)
        self.asked = 0

    def forward(self, x):
        self.asked += 1
        return self.table[x[:, 0].long()]


def small(request):
    train, test = (
        ArraySamples(places[:, None].float(), places % 3) for places in (torch.arange(12), 11 - torch.arange(12))
    )
    split = Split.of(Data("small", train, test, tuple("abc")), request, 0.0)
    return Records.drawn(split, AuditSettings(), Run(device="cpu"))


def fixed(width=3, seed=0):
    return Fixed(torch.randn(12, width, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("by_class", [True, False])
def test_every_part_is_answered_and_unseen_records_are_those_like_the_forgotten_ones(by_class):
    records = small(Request(classes=(1,)) if by_class else Request(items=(0, 4)))
    model = fixed()
    own = Answers.of(Row("mine", "candidate", model), records)
    assert set(own.logits) == set(own.labels) == {"forget", "retain", "test_retain", "test_forget", "held_out"}
    for name in ("forget", "retain", "test_retain", "test_forget"):
        part = records.parts[name]
        places = part.tensors()[0][:, 0].long()
        assert torch.equal(own.logits[name].reshape(len(part), 3), model.table[places])
        assert own.labels[name].tolist() == part.labels.tolist()
    like = "test_forget" if by_class else "test_retain"
    assert own.logits["held_out"] is own.logits[like]
    assert own.labels["held_out"] is own.labels[like]
    right = own.logits["forget"].argmax(1) == own.labels["forget"]
    assert own.correct("forget").tolist() == right.tolist()
    assert own.accuracy("forget") == pytest.approx(float(right.double().mean()))
    ours, theirs = own.attack_margins
    assert torch.equal(ours, own.margin("forget")[records.members])
    assert torch.equal(theirs, own.margin("held_out")[records.others])


def test_beside_single_records_unseen_ones_stand_with_every_label_and_beside_classes_with_their_own():
    model = fixed()
    own = Answers.of(Row("mine", "candidate", model), small(Request(items=(0, 4))))
    logits = own.logits["held_out"]
    every = [margins(logits, torch.full((len(logits),), label)) for label in range(3)]
    assert torch.equal(own.unseen_margins.sort().values, torch.cat(every).sort().values)
    own = Answers.of(Row("mine", "candidate", model), small(Request(classes=(1,))))
    assert torch.equal(own.unseen_margins, own.margin("held_out"))


def test_of_many_labels_nine_wrong_ones_are_taken():
    logits = torch.randn(4, 30)
    own = Answers.of(Row("mine", "candidate", fixed()), small(Request(items=(0, 4))))
    wide = dataclasses.replace(own, logits={"held_out": logits}, labels={"held_out": torch.tensor([0, 7, 25, 29])})
    assert wide.unseen_margins.shape == (40,)
    taken = [[(y + k) % 30 for k in range(10)] for y in (0, 7, 25, 29)]
    expected = torch.stack([margins(logits[[i] * 10], torch.tensor(labels)) for i, labels in enumerate(taken)])
    assert torch.equal(wide.unseen_margins, expected.T.flatten())


def test_of_an_empty_part_nothing_is_known():
    own = Answers.of(Row("mine", "candidate", fixed()), small(Request(items=(0, 4))))
    assert len(own.labels["test_forget"]) == 0
    assert own.margin("test_forget").shape == (0,)
    assert own.margin("test_forget").dtype == torch.float64
    assert math.isnan(own.accuracy("test_forget"))


def test_another_number_of_outputs_is_refused_by_the_models_name():
    with pytest.raises(InputError) as error:
        Answers.of(Row("mine", "candidate", fixed(5)), small(Request(classes=(1,))))
    assert str(error.value) == (
        "The model 'mine' has 5 outputs, but small has 3 classes; give a model with one output per class, in the "
        "data's order."
    )


@pytest.mark.parametrize("retrained", [True, False])
def test_each_model_is_asked_once_and_the_original_serves_all(retrained, tmp_path):
    models = {name: fixed(seed=k) for k, name in enumerate(("original", "retrained", "mine", "more", "again"))}
    roles = {"original": "original", "retrained": "retrained", "mine": "candidate"}
    rows = Rows(
        tuple(Row(n, r, models[n]) for n, r in roles.items() if retrained or n != "retrained"),
        further=(Row("more", "retrained", models["more"]),) if retrained else (),
        repeats=(Row("again", "candidate", models["again"]),),
    )
    records = small(Request(classes=(1,)))
    found = AllAnswers.of(rows, records, KeptAnswers(tmp_path))
    assert list(found.table) == [row.name for row in rows]
    assert found.original is found.table["original"]
    assert found.candidate is found.table["mine"]
    assert found.retrained is (found.table["retrained"] if retrained else None)
    assert [a.name for a in found.further] == (["more"] if retrained else [])
    assert [a.name for a in found.repeats] == ["again"]
    assert [a.name for a in found.everyone] == (["retrained", "more"] if retrained else [])
    assert found.original.original is None
    for own in (found.candidate, *found.further, *found.repeats):
        assert own.original is found.original
    assert models["original"].asked == models["mine"].asked == models["again"].asked == 4  # once for each part
    # Kept are further models' answers, of four parts each; rows of the table are always asked.
    assert len(list(tmp_path.iterdir())) == 4 * len([*found.further, *found.repeats])
    AllAnswers.of(rows, records, KeptAnswers(tmp_path))
    assert (models["mine"].asked, models["again"].asked) == (8, 4)
