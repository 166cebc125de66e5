"""One small world for the audit's tests: digits, class 3 forgotten, a perceptron, and the models of a table."""

import copy
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from efface.auditing.assess import assess
from efface.auditing.rows import Row, Rows
from efface.data import Split, load
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe

FORGOTTEN = 3
RECIPE = Recipe(epochs=20, lr=0.05, batch_size=64, weight_decay=0)


def network(seed):
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def trained(part, seed, recipe=RECIPE):
    return fit(network(seed), part, recipe.but(seed=seed), Run(seed=seed), stage="train")


def masked(model, classes=(FORGOTTEN,)):
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied[-1].bias[list(classes)] -= 1e4
    return copied


@dataclass
class World:
    split: Split
    models: dict[str, nn.Module]
    made: list[nn.Module] = field(default_factory=list)

    def retrained(self, n):
        """The first n further retrained models, trained when first asked for."""
        while len(self.made) < n:
            self.made.append(trained(self.split.retain, 101 + len(self.made)))
        return self.made[:n]


def rows_of(models, *, candidate, references=(), shadows=(), seconds=None):
    """Rows by name; the original or the retrained model may be audited too, as a row "candidate" beside itself."""
    roles = {"original": "original", "retrained": "retrained", candidate: "candidate"}
    models, times = dict(models), seconds or {}
    if candidate in {"original", "retrained"}:
        roles = {"original": "original", "retrained": "retrained", "candidate": "candidate"}
        models["candidate"] = models[candidate]
    return Rows(
        tuple(Row(name, roles.get(name, "other"), model, times.get(name)) for name, model in models.items()),
        further=tuple(Row(f"retrained {i + 2}", "retrained", m) for i, m in enumerate(references)),
        repeats=tuple(Row(f"{candidate} {i + 2}", "candidate", m) for i, m in enumerate(shadows)),
    )


def assessed(models, split, run, *, candidate, references=(), shadows=(), seconds=None, **options):
    """What `assess` finds about these models."""
    rows = rows_of(models, candidate=candidate, references=references, shadows=shadows, seconds=seconds)
    return assess(rows, split, run, **options)


@pytest.fixture(scope="session")
def world():
    split = Split.of(load("digits"), Request(classes=(FORGOTTEN,)))
    original = trained(split.train, 0)
    models = {
        "original": original,
        "retrained": trained(split.retain, 100),
        "fine-tuned": fit(
            copy.deepcopy(original), split.retain, RECIPE.but(epochs=5, lr=0.01), Run(), stage="fine-tune"
        ),
        "logit mask": masked(original),
    }
    return World(split, models)
