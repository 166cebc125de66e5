"""Fine-tuning away from the original's weights."""

from __future__ import annotations

import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.methods.applying import apply
from efface.methods.weight_distance import WeightDistance
from efface.running.run import Run
from tests.methods.conftest import accuracy


def rms(made: Artifact, given: Artifact) -> float:
    pairs = list(zip(made.model.parameters(), given.model.parameters(), strict=True))
    total = sum(float((p - q).detach().square().sum()) for p, q in pairs)
    return (total / sum(p.numel() for p, _ in pairs)) ** 0.5


def test_the_distance_grows_with_its_reward_and_use_stays(trained: dict[str, Artifact], class_split: Split) -> None:
    made = [
        apply(WeightDistance(distance=a), Case(trained["mlp"], class_split, Run(device="cpu")))
        for a in (0.0, 1.0, 10.0)
    ]
    distances = [rms(m, trained["mlp"]) for m in made]
    assert distances[0] < distances[1] < distances[2]
    assert distances[2] > 1.2 * distances[0]
    assert accuracy(made[1].model, class_split.test_retain) > 0.93


def test_one_step_of_descent_is_that_of_the_formula(trained: dict[str, Artifact], class_split: Split) -> None:
    """From the original itself the distance has no slope: the first step is plain fine-tuning's."""
    method = {"epochs": 0.001, "optimiser": "sgd", "lr": 0.1}
    first, second = (
        apply(WeightDistance(distance=a, **method), Case(trained["mlp"], class_split, Run(device="cpu")))  # type: ignore[arg-type]
        for a in (0.0, 10.0)
    )
    for p, q in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)
