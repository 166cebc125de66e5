"""Random labels: what the four variants do to the data to forget (baselines.md sections 2 and 6)."""

from __future__ import annotations

import pytest
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.errors import DataAccessError, InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.methods.random_labels import RandomLabels
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import accuracy, logits


@pytest.mark.parametrize("order", ["mixed", "forget-first"])
@pytest.mark.parametrize("fresh", [False, True])
def test_forgets_the_class_and_keeps_the_rest(
    order: str, fresh: bool, trained: dict[str, Artifact], class_split: Split
) -> None:
    method = make("random-labels", {"epochs": 6, "order": order, "fresh": fresh})
    made = apply(method, Case(trained["mlp"], class_split, Run(seed=1, device="cpu"))).model
    assert accuracy(made, class_split.test_forget) < 0.1
    assert accuracy(made, class_split.test_retain) > 0.93


def test_trap_3_fresh_labels_flatten_predictions_more_than_fixed_ones(
    trained: dict[str, Artifact], item_split: Split
) -> None:
    """With fresh labels the expected target is uniform, with fixed ones it is a single wrong answer."""
    confidence = []
    for fresh in (False, True):
        method = RandomLabels(fresh=fresh, epochs=60, lr=0.05, retain_share=0)
        made = apply(method, Case(trained["mlp"], item_split, Run(seed=1, device="cpu"))).model
        confidence.append(float(F.softmax(logits(made, item_split.forget), 1).max(1).values.mean()))
    assert confidence[1] < confidence[0] - 0.2


def test_kept_does_not_teach_one_forgotten_class_as_another(trained: dict[str, Artifact], digits_data: Data) -> None:
    split = Split.of(digits_data, Request.of(classes=list(range(7))))
    made = {
        over: apply(RandomLabels(over=over, epochs=5), Case(trained["mlp"], split, Run(seed=1, device="cpu"))).model
        for over in ("kept", "others")
    }
    mass = {o: float(F.softmax(logits(m, split.forget), 1)[:, :7].sum(1).mean()) for o, m in made.items()}
    assert mass["kept"] < 0.1
    assert mass["others"] > 0.4  # six of the nine labels that are drawn are forgotten classes


def test_share_zero_declares_and_reads_no_retained_data(trained: dict[str, Artifact], class_split: Split) -> None:
    alone = RandomLabels(retain_share=0, epochs=1)
    assert alone.reads() == ("forget",)
    apply(alone, Case(trained["mlp"], class_split, Run(device="cpu")))  # apply restricts the split to what is declared
    with pytest.raises(DataAccessError):
        RandomLabels(epochs=1).forget(trained["mlp"], class_split.only(("forget",), "test"), Run(device="cpu"))


def test_amnesiac_is_a_setting_of_it(trained: dict[str, Artifact], class_split: Split) -> None:
    method = make("random-labels", {"fresh": "false", "optimiser": "adam", "lr": "1e-3", "epochs": "3"})
    made = apply(method, Case(trained["mlp"], class_split, Run(seed=1, device="cpu"))).model
    assert accuracy(made, class_split.forget) < accuracy(trained["mlp"].model, class_split.forget) - 0.5
    with pytest.raises(InputError, match="over"):
        make("random-labels", {"over": "none"})
