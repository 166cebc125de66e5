"""Zero-shot forgetting by error-minimising and error-maximising noise: no real image is read, of any class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.mechanisms.class_noise import Aim, NoiseMix, class_noise
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["ZeroShotNoise"]


@dataclass(frozen=True)
class ZeroShotNoise(Method):
    """Do as UNSIR does, with learnt images of the kept classes standing in for the retained data.

    kept c:    N_c <- argmin_N + CE(f(N), c) + noise_weight ||N||^2
    forget c:  N_c <- argmin_N - CE(f(N), c) + noise_weight ||N||^2      all classes of both kinds in one batch
    impair:    CE over (N_c, c) of all classes;  repair: CE over (N_c, c) of the kept classes, fresh optimiser

    Only the weights, the input shape and the class numbers are used.

    Source: Chundawat, Tarun, Mandal, Kankanhalli, "Zero-Shot Machine Unlearning", IEEE TIFS 2023, arXiv 2201.05629
    (the min-max noise baseline).

    Attributes:
        noise_batch: Noise images learnt per class.
        noise_steps: Steps of Adam on the noise.
        noise_lr: Their learning rate.
        noise_weight: Pull towards small images (lambda).
        impair_lr: Adam's learning rate in the impair stage.
        impair_epochs: Passes over the noise of all classes.
        repair_lr: Adam's learning rate in the repair stage.
        repair_epochs: Passes over the noise of the kept classes.
        batch_size: Images per step.
        freeze_batch_norm: Keep BatchNorm's running statistics.
    """

    noise_batch: Annotated[int, Field(ge=1)] = 256
    noise_steps: Annotated[int, Field(ge=0)] = 40
    noise_lr: Annotated[float, Field(ge=0)] = 0.1
    noise_weight: Annotated[float, Field(ge=0)] = 0.1
    impair_lr: Annotated[float, Field(ge=0)] = 0.02
    impair_epochs: Annotated[float, Field(ge=0)] = 1.0
    repair_lr: Annotated[float, Field(ge=0)] = 0.01
    repair_epochs: Annotated[float, Field(ge=0)] = 1.0
    batch_size: Annotated[int, Field(ge=2)] = 256
    freeze_batch_norm: bool = True

    name: ClassVar[str] = "zero-shot-noise"
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(K T B), no data"
    memory: ClassVar[str] = "4 P + A: Adam; K B noise images"
    expense: ClassVar[Expense] = "training"
    source: ClassVar[str] = "zero-shot min-max noise, arXiv 2201.05629"
    makes_inputs: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "impair_lr": Axis(0.0001, 0.1, log=True),
        "repair_lr": Axis(0.0001, 0.1, log=True),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy that was impaired and repaired on noise alone."""
        model, gone, kept = run.copied(artifact.model), split.forget_classes, split.retain_classes
        classes = [*gone, *kept]
        aims: list[Aim] = ["maximise" if c in gone else "minimise" for c in classes]
        noise = class_noise(
            model,
            classes,
            aims,
            split.data.input_shape,
            run,
            batch=self.noise_batch,
            steps=self.noise_steps,
            lr=self.noise_lr,
            weight=self.noise_weight,
            stage="zero-shot/noise",
        )
        recipe = artifact.record.recipe.bare(optimiser="adam")
        stages = (
            ("impair", NoiseMix(noise, classes), self.impair_lr, self.impair_epochs),
            ("repair", NoiseMix(noise[len(gone) :], kept), self.repair_lr, self.repair_epochs),
        )
        for stage, mix, lr, epochs in stages:
            here = recipe.but(lr=lr, epochs=epochs, batch_size=self.batch_size)
            fit(model, mix, here, run, stage=f"zero-shot/{stage}", freeze_batch_norm=self.freeze_batch_norm)
        return model
