"""Bad Teacher: answer forget samples like an untrained network, and the rest like the original."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Part, Split
from efface.errors import InputError
from efface.mechanisms.batch_size import fitting_batch
from efface.mechanisms.distillation import kl
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.predictions import logits_of
from efface.models.reset import reset
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["BadTeacher"]


@dataclass(frozen=True)
class BadTeacher(Method):
    """Distil two teachers: the incompetent one, of random weights, on D_f, and the original on a share of D_r.

    q_i = softmax(T_d(x_i) / T) for a sample to forget, softmax(T_s(x_i) / T) for a kept one
    L   = mean_i KL(q_i || softmax(S(x_i) / T)) [/ K]      over D_f and R, R = a random share of D_r drawn once

    No label is read. The student S starts as the original and trains with BatchNorm in train mode. There is no stopping
    rule, and items are driven below the accuracy that retraining leaves them.

    Source: Chundawat et al., "Can Bad Teaching Induce Forgetting?", AAAI 2023, arXiv 2205.08096, equation 5.

    Attributes:
        retain_share: Share of D_r in R.
        stratified: Draw R class by class (this reads the labels of D_r).
        epochs: Passes over D_f and R.
        optimiser: `adam` or `sgd` (momentum 0.9).
        lr: Constant learning rate.
        batch_size: Samples per step.
        min_steps: On small data the batch shrinks (not below 8) until a pass has this many steps; 0 never shrinks it.
        temperature: T.
        reduction: `elements` divides by K, `batch` does not.
        uniform: Replace the random network by the uniform distribution.
        freeze_batch_norm: Keep BatchNorm's running statistics.
    """

    retain_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    stratified: bool = False
    epochs: Annotated[float, Field(ge=0)] = 1.0
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(ge=0)] = 1e-4
    batch_size: Annotated[int, Field(ge=2)] = 256
    min_steps: Annotated[int, Field(ge=0)] = 60
    temperature: Annotated[float, Field(gt=0)] = 1.0
    reduction: Literal["elements", "batch"] = "elements"
    uniform: bool = False
    freeze_batch_norm: bool = False

    name: ClassVar[str] = "bad-teacher"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(N_F + 0.3 N_R), 1 epoch"
    memory: ClassVar[str] = "4 P + A: Adam; K answers per sample read"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "incompetent teacher, arXiv 2205.08096"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(0.5, 5.0),
        "lr": Axis(1e-05, 0.01, log=True),
        "temperature": Axis(0.5, 4.0, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if no randomly initialised copy of the model can be made."""
        if not self.uniform:
            try:
                reset(artifact.model, 0)
            except InputError as error:
                raise InputError(
                    f"bad-teacher needs a randomly initialised copy. {error} Or set uniform, or use scrub"
                ) from None

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the student of both teachers."""
        student, forget = run.copied(artifact.model), split.forget
        part = self.lesson(split, run)
        kept = logits_of(student, part.take(range(len(forget), len(part)))).to(run.device)
        classes = kept.shape[1]
        if self.uniform:
            gone = torch.zeros(len(forget), classes, device=run.device)
        else:
            gone = self._incompetent(artifact.model, part.take(range(len(forget))), run)
        answers = torch.cat([gone, kept])

        def loss(model: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
            mean = kl(answers[positions], model(x), self.temperature).mean()
            return mean / classes if self.reduction == "elements" else mean

        size = fitting_batch(len(part), self.batch_size, self.min_steps)
        recipe = artifact.record.recipe.bare(
            optimiser=self.optimiser, momentum=0.9, lr=self.lr, epochs=self.epochs, batch_size=size
        )
        fit(student, part, recipe, run, stage=self.name, loss=loss, freeze_batch_norm=self.freeze_batch_norm)
        if split.forget_classes:
            now, before = (
                logits_of(m, part.take(range(len(forget)))).to(run.device) for m in (student, artifact.model)
            )
            same = float((now.argmax(1) == before.argmax(1)).float().mean())
            if same > 0.5:
                run.fail(f"{self.name}: {same:.0%} of the forget data still gets the original's answer; raise lr")
        return student

    def lesson(self, split: Split, run: Run) -> Part:
        """Return D_f followed by R; the "label" of a sample is its position, which finds its teacher's answer."""
        forget, retain = split.forget, split.retain
        size, generator = round(self.retain_share * len(retain)), run.generator("bad-teacher/retained share")
        if self.stratified:
            shares = [
                retain.of_class(c).sample(max(1, round(self.retain_share * len(retain.of_class(c)))), generator)
                for c in sorted(set(retain.labels.tolist()))
            ]
            indices = np.sort(np.concatenate([share.indices for share in shares]))
        else:
            indices = retain.sample(size, generator).indices
        joined = Part("forget and retained share", forget.samples, np.concatenate([forget.indices, indices]))
        return joined.relabelled(torch.arange(len(joined)))

    def _incompetent(self, model: nn.Module, forget: Part, run: Run) -> Tensor:
        """Return T_d's logits on the forget data, (N_f, K)."""
        teacher = reset(model, run.generator("bad-teacher/incompetent teacher")).to(run.device)
        answers = logits_of(teacher, forget).to(run.device)
        p = (answers / self.temperature).softmax(1)
        entropy, most = float(torch.special.entr(p).sum(1).mean()), math.log(answers.shape[1])
        run.history.add(f"{self.name}/incompetent teacher", entropy=entropy, most=most)
        if entropy < 0.8 * most:
            run.note(
                f"{self.name}: the random teacher is far from ignorant (entropy {entropy:.2f} of {most:.2f} nats): "
                "it may name one wrong class for everything; try another seed, or uniform"
            )
        return answers
