"""Recipes: copies with changes."""

from efface.data import Augment
from efface.training.recipe import Recipe


def test_a_bare_copy_has_nothing_beside_the_loss_and_keeps_the_rest() -> None:
    rich = Recipe(
        optimiser="adam", lr=0.3, nesterov=True, weight_decay=0.1, schedule="cosine", epochs=7, batch_size=5,
        augment=Augment(crop=2, flip=True), label_smoothing=0.2, clip_norm=1.0, seed=4, precision="bf16-mixed",
    )  # fmt: skip
    kept = {"optimiser": "adam", "momentum": 0.9, "batch_size": 5, "seed": 4, "precision": "bf16-mixed"}
    assert rich.bare(lr=0.1, epochs=2) == Recipe(
        lr=0.1, epochs=2, weight_decay=0, schedule="constant", augment=Augment(), **kept
    )
