"""Class transport: the class is answered no more, its features are those of kept classes, the rest works."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.auditing.measures.separation import class_separation
from efface.data import Data, Split
from efface.errors import DataAccessError, UnsupportedRequestError
from efface.methods.applying import apply
from efface.methods.class_transport import ClassTransport
from efface.models.predictions import features_of
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import accuracy, logits


@pytest.mark.parametrize(("network", "head"), [("mlp", "fc2"), ("cnn", "9")])
def test_forgets_the_class_and_keeps_the_rest(
    trained: dict[str, Artifact], class_split: Split, network: str, head: str
) -> None:
    made = apply(ClassTransport(), Case(trained[network], class_split, Run(device="cpu"))).model
    assert accuracy(made, class_split.test_forget) == 0
    assert accuracy(made, class_split.test_retain) > accuracy(trained[network].model, class_split.test_retain) - 0.02
    whole = class_split.forget.joined(class_split.retain)
    before, after = (
        float(class_separation(features_of(m, whole, head), whole.labels, [0])[0])
        for m in (trained[network].model, made)
    )
    assert after < 0.8 * before


def test_more_weight_forgets_more(trained: dict[str, Artifact], class_split: Split) -> None:
    whole = class_split.forget.joined(class_split.retain)
    found = []
    for weight in (0.0, 0.3, 3.0):
        made = apply(ClassTransport(weight=weight), Case(trained["mlp"], class_split, Run(device="cpu"))).model
        found.append(float(class_separation(features_of(made, whole, "fc2"), whole.labels, [0])[0]))
    assert found == sorted(found, reverse=True)


def test_it_needs_both_parts_and_nothing_else(trained: dict[str, Artifact], class_split: Split) -> None:
    apply(ClassTransport(), Case(trained["mlp"], class_split.only(("forget", "retain"), "it"), Run(device="cpu")))
    with pytest.raises(DataAccessError):
        apply(ClassTransport(), Case(trained["mlp"], class_split.only(("retain",), "it"), Run(device="cpu")))


def test_several_classes(trained: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request(classes=(2, 7)))
    made = apply(ClassTransport(), Case(trained["mlp"], split, Run(device="cpu"))).model
    assert accuracy(made, split.test_forget) == 0
    assert accuracy(made, split.test_retain) > 0.9
    z = logits(made, split.retain)
    assert (z[:, [2, 7]].max(1).values < z.max(1).values).all()


def test_classes_without_a_record_left_are_neither_kept_nor_forgotten(
    trained: dict[str, Artifact], digits_data: Data
) -> None:
    """Their records were asked for one by one, by an earlier request."""
    for asked in ((2,), (2, 5)):
        earlier = Request(items=tuple(np.flatnonzero(digits_data.train_labels == 5).tolist()))
        split = Split.of(digits_data, Request(classes=asked), earlier=[earlier])
        made = apply(ClassTransport(), Case(trained["mlp"], split, Run(device="cpu"))).model
        assert accuracy(made, split.test.of_class(2)) == 0
        assert accuracy(made, split.test.of_class(0, 1, 3, 4)) > 0.9


def test_items_are_refused(trained: dict[str, Artifact], item_split: Split) -> None:
    with pytest.raises(UnsupportedRequestError, match="class-transport forgets classes"):
        apply(ClassTransport(), Case(trained["mlp"], item_split, Run(device="cpu")))


def test_no_layer_moves_without_weight(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(ClassTransport(weight=0.0, head_steps=0), Case(trained["mlp"], class_split, Run(device="cpu"))).model
    for name, p in made.named_parameters():
        before = trained["mlp"].model.get_parameter(name)
        assert torch.equal(p, before) if not name.startswith("fc2.") else torch.equal(p[1:], before[1:])
