"""A model card: what the record and the audit say, for readers outside."""

from __future__ import annotations

import re

import pytest
import yaml

from efface.auditing.scores.written import value
from efface.data.counts import Counts
from efface.errors import InputError
from efface.models.checkpoints.card import MARK
from efface.report.card import model_card
from efface.report.contents import columns
from efface.request import Request

EVIL = "<script>alert(1)</script> | **x** [y](http://z)"


def test_it_says_what_the_record_and_the_audit_say(audit, record):
    card = model_card(record, audit)
    assert MARK in card
    assert "machine-unlearning" in yaml.safe_load(card.split("---")[1])["tags"]
    assert "was made to forget class" in card
    for said in (record.weights_after, record.method, *record.data.classes):
        assert str(said) in card.replace("\\", "")
    plain = card.replace("\\", "")
    assert audit.verdict.headline.split(".")[0] in plain
    row = next(line for line in card.splitlines() if line.startswith(f"| {audit.candidate} "))
    for measure in columns(audit).values():
        score = audit.row(audit.candidate)[measure.key]
        assert (value(score, measure) if score.measured else "–") in row
    assert all(limit.split(".")[0] in plain for limit in audit.limits)


def test_without_an_audit_it_says_that_nothing_is_known(record):
    card = model_card(record)
    assert card.count("It was not audited: how far it has forgotten") == 2
    assert "| Model |" not in card


def test_it_names_no_record_and_no_person(make_audit, record):
    asked = Request(ids=("secret/0017.jpg",), reason="ticket-812", requested_by="A. Person", ticket="ticket-812")
    base = make_audit("c")
    audit = base.model_copy(
        update={
            "request": asked.model_dump(mode="json"), "request_text": asked.describe(), "forget_classes": (),
            "counts": {"forget": 3, "retain": 9},
        }
    )  # fmt: skip
    counts = Counts(asked=3, found=3, forgotten=3)
    made = record.model_copy(update={"request": asked, "forgotten_ids": ("secret/0017.jpg",), "counts": counts})
    for card in (model_card(made), model_card(made, audit)):
        assert not re.search("secret|ticket-812|A. Person", card)
        assert "was made to forget 3 records" in card


def test_text_from_outside_stays_text(audit, record):
    data = record.data.model_copy(update={"classes": (EVIL, *record.data.classes[1:]), "source": EVIL})
    card = model_card(record.model_copy(update={"data": data}), audit)
    assert "<script>" not in card
    assert not re.search(r"(?<!\\)\]\(", card)


def test_another_models_audit_is_refused(audit, record):
    other = record.model_copy(update={"data": record.data.model_copy(update={"fingerprint": "other"})})
    with pytest.raises(InputError, match="not of the model whose record was given: The record names other data"):
        model_card(other, audit)
