"""Training that ends while its loss still falls."""

import pytest

import efface
from efface.training.convergence import still_falling
from efface.training.recipe import Recipe


@pytest.mark.parametrize(
    ("losses", "changes", "unfinished"),
    [
        ([2.0, 1.9, 1.8], {}, True),
        ([2.0, 1.9, 1.89], {}, False),  # half a percent an epoch
        ([2.0, 0.25, 0.2], {}, False),  # little of log 10 is left
        ([1.9], {}, False),  # one epoch tells nothing
        ([1.8, 1.9], {}, False),
        ([2.0, 1.9, 1.8], {"schedule": "cosine"}, False),  # falls to the end by itself
        ([2.0, 1.9, 1.8], {"epochs": 2.5}, False),  # the last row is of half an epoch
    ],
)
def test_only_a_loss_that_falls_at_a_constant_rate_and_is_large_counts(losses, changes, unfinished) -> None:
    rows = [{"stage": "train", "epoch": i, "loss": loss} for i, loss in enumerate(losses)]
    found = still_falling(rows, Recipe().but(**changes), 10)
    assert (found is not None) == unfinished


def test_the_record_of_an_original_says_so_and_that_of_a_finished_one_does_not() -> None:
    data = efface.load_data("digits")
    short = efface.train("mlp", data, recipe=efface.Recipe(lr=0.01, epochs=3, batch_size=128))
    assert any("still fell" in note and "epochs=3, lr=0.01" in note for note in short.record.notes)
    longer = efface.train("mlp", data, recipe=efface.Recipe(lr=0.2, epochs=40, batch_size=64))
    assert not any("still fell" in note for note in longer.record.notes)
