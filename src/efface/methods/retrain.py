"""Retraining without the data: the reference that every other method is measured against."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.methods.method import Expense, Method, Needs
from efface.models.ensemble import Ensemble
from efface.models.reset import reset
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["Retrain"]


@dataclass(frozen=True)
class Retrain(Method):
    """Train from new random weights on the retained data with the artifact's own recipe.

    Where training went on from an artifact (`train --from`), all its trainings are done again, one after another. The
    number of outputs stays: a forgotten class keeps its logit, which never gets a positive sample. The recipe's
    epochs stay too, so there are fewer steps (|D_r| < |D|). Initial weights and order come from the run's seed, which
    should differ from the original's: two models with one seed are closer to each other than retraining is to itself.
    Frozen parameters (`requires_grad` off) keep their values: training never wrote the data into them.

    Source: the definition of exact unlearning, e.g. Bourtoule et al. 2021 (arXiv 1912.03817), section III.
    """

    name: ClassVar[str] = "retrain"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R)"
    memory: ClassVar[str] = "3 P + A: SGD with momentum"
    expense: ClassVar[Expense] = "training"
    source: ClassVar[str] = "definition of exact unlearning; arXiv 1912.03817"
    moves_batch_norm: ClassVar[bool] = True
    apart: ClassVar[bool] = True

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the recipe trains nothing: a model of random weights is no reference."""
        if not any(recipe.epochs for recipe in artifact.record.trainings):
            raise InputError(
                "the original's recipe says epochs=0, so retraining would return random weights; give the recipe by "
                "which the original was trained (recipe=..., or --recipe where its weights are handed over)"
            )

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a fresh network trained on the retained data; an ensemble is trained as its own method does it."""
        if isinstance(artifact.model, Ensemble):
            return self._apart(artifact, split, run)
        model = self.fresh(artifact.model, run)
        for recipe in artifact.record.trainings:
            model = fit(model, split.retain, recipe, run, stage=self.name)
        return model

    def _apart(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return an ensemble that the method of the original trained on the retained data, from this run's seed."""
        from efface.methods.catalogue import make  # which reads this file

        step = next((r for r in reversed(artifact.record.chain) if r.action == "train"), None)
        if step is None:
            raise InputError("how this ensemble was trained is not recorded; give an artifact that Efface trained")
        return make(step.method, step.settings).train(artifact.model, split, artifact.record.recipe, run)[0]

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Return nothing: codes and the like belong to a training that this model never had."""
        return {}

    @staticmethod
    def fresh(model: nn.Module, run: Run) -> nn.Module:
        """Return a copy with new random weights from the run's seed; frozen parameters keep their values."""
        fresh = run.copied(reset(model, run.number("retrain/initial weights")))
        with torch.no_grad():
            for parameter, original in zip(fresh.parameters(), model.parameters(), strict=True):
                if not original.requires_grad:
                    parameter.copy_(original)
        return fresh
