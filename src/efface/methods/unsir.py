"""UNSIR, called FastMU in the mnemonic-code paper: error-maximising noise, then impair, then repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Part, Split
from efface.data.epoch import Epoch
from efface.mechanisms.batch_size import fitting_batch
from efface.mechanisms.class_noise import NoiseMix, class_noise
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.batch_norm import batch_norms, recompute_statistics
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["UNSIR"]

CLEANING_STEPS = 50
"""Steps at momentum 0.1 after which half a percent of BatchNorm's old statistics is left (0.9^50)."""


@dataclass(frozen=True)
class UNSIR(Method):
    """Train on images that are surest not to be the class, labelled as the class; then repair on a retain subset.

    A  noise:   N_c <- argmin_N - CE(f(N), c) + noise_weight ||N||^2   for all forgotten classes c in one batch
    B  impair:  CE over {(n, c) : n in N_c} and S_r, high learning rate
    C  repair:  CE over S_r, fresh optimiser

    S_r is a random subset of the retained training samples with their labels; the forget samples are never read
    ("zero-glance"), but retained samples are, in B and in C.

    Source: Tarun, Chundawat, Mandal, Kankanhalli, arXiv 2111.08947, section IV, and the authors' notebook.

    Attributes:
        noise_batch: Noise images learnt per class.
        noise_steps: Steps of Adam on the noise; noise_lr: their learning rate.
        noise_weight: Pull towards small images (lambda).
        distinct_noise: How many of the images are used.
        noise_copies: How often each appears in B.
        retain_per_class: Size of S_r, per kept class; all if there are fewer.
        impair_lr: Adam's learning rate in B; impair_epochs: passes of B.
        repair_lr: Adam's learning rate in C; repair_epochs: passes of C.
        batch_size: Samples per step in B and C.
        min_steps: On small data the batch shrinks until each epoch has this many steps; 0 never shrinks it.
        train_mode_noise: Learn the noise in train mode.
        restore_statistics: Whether to compute BatchNorm's statistics anew on S_r at the end.
    """

    noise_batch: Annotated[int, Field(ge=1)] = 256
    noise_steps: Annotated[int, Field(ge=0)] = 40
    noise_lr: Annotated[float, Field(ge=0)] = 0.1
    noise_weight: Annotated[float, Field(ge=0)] = 0.1
    distinct_noise: Annotated[int, Field(ge=1)] = 3
    noise_copies: Annotated[int, Field(ge=1)] = 20
    retain_per_class: Annotated[int, Field(ge=1)] = 1000
    impair_lr: Annotated[float, Field(ge=0)] = 0.02
    impair_epochs: Annotated[float, Field(ge=0)] = 1.0
    repair_lr: Annotated[float, Field(ge=0)] = 0.01
    repair_epochs: Annotated[float, Field(ge=0)] = 1.0
    batch_size: Annotated[int, Field(ge=2)] = 256
    min_steps: Annotated[int, Field(ge=0)] = 30
    train_mode_noise: bool = False
    restore_statistics: Literal["auto", "always", "never"] = "auto"

    name: ClassVar[str] = "unsir"
    needs: ClassVar[Needs] = Needs(targets=("classes",), retain=True)
    cost: ClassVar[str] = "O(|F| T B + 2 |S_r|), 2 epochs on a subset"
    memory: ClassVar[str] = "4 P + A: Adam; B noise images per class"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "UNSIR (FastMU), arXiv 2111.08947"
    makes_inputs: ClassVar[bool] = True
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "impair_lr": Axis(0.0001, 0.1, log=True),
        "repair_lr": Axis(0.0001, 0.1, log=True),
        "noise_steps": Axis(10, 80),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy that was impaired on noise and repaired on a subset of the retained data."""
        model, classes = run.copied(artifact.model), split.forget_classes
        noise = class_noise(
            model,
            classes,
            ["maximise"] * len(classes),
            split.data.input_shape,
            run,
            batch=self.noise_batch,
            steps=self.noise_steps,
            lr=self.noise_lr,
            weight=self.noise_weight,
            train_mode=self.train_mode_noise,
            stage="unsir/noise",
        )[:, : self.distinct_noise]
        subset = self._subset(split, run)
        mix = NoiseMix(noise, classes, self.noise_copies, subset)
        run.note(
            f"unsir: {noise.shape[1]} distinct noise images per forgotten class, {mix.noise_samples} noise samples "
            f"among {len(mix)} in the impair epoch; {len(subset)} retained samples read"
        )
        recipe = artifact.record.recipe.bare(optimiser="adam")
        sizes = [fitting_batch(len(p), self.batch_size, self.min_steps) for p in (mix, subset)]
        impair = recipe.but(lr=self.impair_lr, epochs=self.impair_epochs, batch_size=sizes[0])
        repair = recipe.but(lr=self.repair_lr, epochs=self.repair_epochs, batch_size=sizes[1])
        fit(model, mix, impair, run, stage="unsir/impair")
        fit(model, subset, repair, run, stage="unsir/repair")
        short = self.repair_epochs * len(subset) < CLEANING_STEPS * sizes[1]
        if batch_norms(model) and (
            self.restore_statistics == "always" or (self.restore_statistics == "auto" and short)
        ):
            order = run.generator("unsir/statistics")
            recompute_statistics(model, subset.batches(Epoch(self.batch_size, device=run.device, generator=order)))
            run.note("unsir: BatchNorm's running statistics were computed anew on the retained samples read")
        return model

    def _subset(self, split: Split, run: Run) -> Part:
        """Draw S_r: so many samples of every kept class."""
        retain, generator = split.retain, run.generator("unsir/retain subset")
        labels = retain.labels.numpy()
        order = np.argsort(np.random.default_rng(generator.initial_seed()).random(len(labels)), kind="stable")
        order = order[np.argsort(labels[order], kind="stable")]
        ranked = labels[order]
        rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
        return retain.take(np.sort(order[rank < self.retain_per_class]))
