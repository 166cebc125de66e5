"""What the deeper questions look at in one model, once; kept on disk for references."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from efface.auditing.answers import Answers, checked_logits
from efface.auditing.kept import Found, depends_on, remembered
from efface.auditing.measures.accuracy import correct
from efface.auditing.measures.block_probe import standardised_probe
from efface.auditing.measures.head_row import row_z_scores
from efface.auditing.measures.kept_mass import kept_log_probabilities
from efface.auditing.measures.margins import margins
from efface.auditing.measures.neighbourhood import in_ball
from efface.auditing.scores.blocks import block_features
from efface.auditing.scores.relearning import RELEARNING
from efface.errors import InputError
from efface.models.mode import evaluating
from efface.models.predictions import pass_size
from efface.models.recorded import need_weights
from efface.running.seeding import seeded
from efface.training.loop import Trainer
from efface.training.recipe import Recipe

__all__ = ["DRAWS", "PROBES", "Looked", "tampered_rows"]

PROBES = ((1, 20), (10, 5), (200, 1))
"""Training records of each class and how often they are drawn: an easy probe finds anything, a hard one nothing."""

DRAWS = 5
"""Displacements of each record of the neighbourhood."""

RADIUS = 0.25
"""Of the neighbourhood, as a share of the forget inputs' root mean squared distance to their mean."""

LARGEST_MARGIN = 100.0


@dataclass(frozen=True)
class Looked:
    """What was seen in one model.

    Attributes:
        found: `margins` of the watched forget records after training on kept data, whether each was `recognised`, and
            the margins `before`;
            `bias`, `norm`: z-scores of the head's forgotten rows; `mass`: log-probabilities of kept classes;
            `blocks`: recall by probe, shape (probes, blocks), of so many `unseen` records; `near`: how many displaced
            copies of each watched record were recognised.
        missing: Why something of these is not there.
        blocks: Names of the blocks.
    """

    found: dict[str, Tensor]
    missing: dict[str, str]
    blocks: tuple[str, ...] = ()

    @classmethod
    def at(cls, answers: Answers, recipe: Recipe | None, folder: Path | None = None) -> Looked:
        """Look at one model.

        Args:
            answers: The model's.
            recipe: How the original was trained; None relearns by Adam.
            folder: Where to keep what was seen, and to take it from; None looks again.

        Raises:
            InputError: A kept file is damaged.
        """
        content = [
            *depends_on(answers),
            None if recipe is None else recipe.model_dump(mode="json"),
            PROBES,
            DRAWS,
            RADIUS,
            "margins before",
        ]
        found, about = remembered(folder, "deeper", content, lambda: cls._now(answers, recipe))
        return cls(found, about["missing"], tuple(about["blocks"]))

    @classmethod
    def _now(cls, answers: Answers, recipe: Recipe | None) -> Found:
        found: dict[str, Tensor] = {}
        missing: dict[str, str] = {}
        names: tuple[str, ...] = ()

        def blocks() -> dict[str, Tensor]:
            nonlocal names
            names, recalls = _block_recalls(answers)
            return {"blocks": recalls, "unseen": torch.tensor(len(answers.records.parts["probe_test"]))}

        looks: tuple[tuple[str, Callable[[], dict[str, Tensor]]], ...] = (
            ("margins", lambda: _after_kept_data(answers, recipe)),
            ("bias", lambda: {"bias": _row(answers, "bias")}),
            ("norm", lambda: {"norm": _row(answers, "norm")}),
            ("mass", lambda: {"mass": _mass(answers)}),
            ("blocks", blocks),
            ("near", lambda: {"near": _near(answers)}),
        )
        for key, look in looks:
            try:
                found |= {k: v.contiguous() for k, v in look().items()}
            except InputError as error:
                missing[key] = str(error)
        return found, {"missing": missing, "blocks": names}


def _after_kept_data(answers: Answers, recipe: Recipe | None) -> dict[str, Tensor]:
    """Train a copy on kept data alone, and ask it about the forget records."""
    records, steps = answers.records, answers.records.settings.kept_steps
    if steps == 0:
        raise InputError("left out by the settings")
    need_weights(answers.model, "training it further")
    by = RELEARNING if recipe is None else recipe.bare()
    run = records.run.child()
    # Frozen weights, too: else what a model can bring back would depend on what it was handed over with.
    trained = run.copied(answers.model).requires_grad_(True)
    Trainer(trained, records.split.retain, by, run, stage="audit/kept data", total_steps=steps).advance(steps)
    part = records.parts["forget"].take(records.watched)
    logits = checked_logits(trained, part, name=f"{answers.name!r} after kept data")
    known = margins(logits, part.labels).clamp(-LARGEST_MARGIN, LARGEST_MARGIN)
    before = answers.margin("forget")[records.watched].clamp(-LARGEST_MARGIN, LARGEST_MARGIN)
    return {"margins": known, "recognised": correct(logits, part.labels).double(), "before": before}


def _row(answers: Answers, what: Literal["bias", "norm"]) -> Tensor:
    """Return the z-scores of the head's forgotten rows."""
    if not answers.records.by_class:
        raise InputError("the request names no class: single items have no row of the head")
    layer = _head(answers)
    if what == "bias" and layer.bias is None:
        raise InputError("the head has no bias")
    values = layer.weight.detach().norm(dim=1) if what == "norm" else layer.bias.detach()
    return row_z_scores(values, answers.records.split.forget_classes)


def _head(answers: Answers) -> nn.Linear:
    layer = answers.model.get_submodule(answers.layer)
    assert isinstance(layer, nn.Linear)
    return layer


def tampered_rows(original: Answers) -> dict[str, Tensor]:
    """Return the head's z-scores as they would be were the original's forgotten rows meddled with.

    The original's own rows are as training left them, so that they cannot show whether a question about the head sees
    meddling. `bias`: each forgotten class's lowered until only `reference_knows` of its forget records are answered
    with it; `norm`: the rows drawn anew, as the layer draws them.

    Args:
        original: The original's answers.

    Returns:
        What of these can be had.
    """
    records, layer = original.records, _head(original)
    gone = list(records.split.forget_classes)
    fresh = copy.deepcopy(layer)
    with seeded(records.run.number("audit/rows drawn anew")):
        fresh.reset_parameters()
    norms = layer.weight.detach().norm(dim=1).clone()
    norms[gone] = fresh.weight.detach().norm(dim=1)[gone]
    found = {"norm": row_z_scores(norms, gone)}
    if layer.bias is not None:
        logits, labels = original.logits["forget"].double(), original.labels["forget"]
        lowered = layer.bias.detach().cpu().double().clone()
        kept = logits.index_fill(1, torch.tensor(gone), -torch.inf).amax(1)
        for c in gone:
            lead = (logits[:, c] - kept)[labels == c]
            if len(lead):
                lowered[c] -= float(lead.quantile(1 - records.settings.reference_knows).clamp_min(0))
        found["bias"] = row_z_scores(lowered, gone)
    return found


def _mass(answers: Answers) -> Tensor:
    """Return the log-probabilities of the kept classes on the watched forget records."""
    logits = answers.logits["forget"][answers.records.watched]
    return kept_log_probabilities(logits, answers.records.split.forget_classes)


def _block_recalls(answers: Answers) -> tuple[tuple[str, ...], Tensor]:
    """Return the blocks' names, and the recall of the forgotten classes' unseen records, shape (probes, blocks)."""
    records = answers.records
    if not records.by_class:
        raise InputError("the request names no class: single items have no probe")
    train, test = records.parts["probe_train"], records.parts["probe_test"]
    if not len(test):
        raise InputError("the test data holds no record of the forgotten classes")
    need_weights(answers.model, "looking at its features")
    seen, unseen = (block_features(answers.model, part) for part in (train, test))
    y, z = train.labels, test.labels
    recalls = torch.zeros(len(PROBES), len(seen), dtype=torch.float64)
    for i, (size, draws) in enumerate(PROBES):
        generator = records.run.generator(f"audit/block probe {size}")
        for chosen in (_drawn(y, size, generator) for _ in range(draws)):
            for j, name in enumerate(seen):
                answered = standardised_probe(seen[name][chosen], y[chosen], unseen[name])
                recalls[i, j] += (answered == z).double().mean() / draws
    return tuple(seen), recalls


def _drawn(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return positions of as many records of each class; all of a class that has fewer."""
    order = torch.randperm(len(labels), generator=generator)
    return torch.cat([order[labels[order] == c][:size] for c in labels.unique()])


def _near(answers: Answers) -> Tensor:
    """Return how many displaced copies of each watched forget record are answered with its label."""
    need_weights(answers.model, "asking it about displaced inputs")
    records = answers.records
    x, y = records.parts["forget"].take(records.watched).tensors(records.run.device)
    if not x.is_floating_point():
        raise InputError("the inputs are no numbers that can be displaced")
    radius = RADIUS * float((x - x.mean(0)).flatten(1).pow(2).sum(1).mean().sqrt())
    hits = torch.zeros(len(y), dtype=torch.float64)
    generator = records.run.generator("audit/neighbourhood")
    with evaluating(answers.model), torch.no_grad():
        for _ in range(DRAWS):
            moved = x + in_ball(tuple(x.shape), radius, generator).to(x.device)
            batches = zip(moved.split(pass_size(x.device)), y.split(pass_size(x.device)), strict=True)
            hits += torch.cat([(answers.model(a).argmax(1) == b).double().cpu() for a, b in batches])
    return hits
