"""ERM-KTP: a mask of channels per class at training, and a student without the forgotten classes' channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.methods.erm_ktp.maps import knowledge, last_map, watching
from efface.methods.erm_ktp.mask import LearntMask, density, masking, penalty, prohibition
from efface.methods.method import Axis, Expense, Method, Needs, need_memory
from efface.models.head import head, head_of
from efface.models.mode import evaluating
from efface.models.reset import reset
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["ErmKtp"]

HOW = "train with `efface train --method erm-ktp`; a plainly trained network has no mask, use delete or retrain for it"

MASK = "erm/mask"

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ErmKtp(Method):
    """Learn which channels serve which class; forget by teaching a fresh student all but those of the forgotten ones.

    Training (ERM): CE(W(M_y ⊙ φ) + b, y) + λ R(M) in one epoch of three, plain CE in the others, M (C, K) in [0, 1];
    R(M) = ReLU(‖M‖₁ - 0.1 C K) + 0.1 sum_{i<j} <M_i, M_j>; after every step M[c] ← clamp(M[c] / max M[c], 0, 1).
    Forgetting (KTP): P[c] = 1 iff M[c, f] = 0 for all f to forget;  W' = W diag(P), W'[f] = 0, b'[f] = 0, frozen;
    student θ_s from random weights:  mean (A_s - P ⊙ A)² + mean (pool A_s - P ⊙ pool A)²  over retained images.
    A is the map whose global average enters the head; without one, both terms are of the features. No label is read.
    Logits to forget are 0, not -inf: where all others are negative, a forgotten class still wins.

    Source: Lin et al., CVPR 2023. Ours: a teacher in eval mode (official: batch statistics), `mask_lr`, a cosine.

    Attributes:
        reg: Training: λ.
        target: Training: density of the mask above which mass costs.
        orthogonality: Training: weight of the classes' overlap.
        period: Training: one epoch in so many uses the mask (the last of each).
        mask_lr: Training: constant rate of M (official: that of the network, 0.1).
        epochs: Forgetting: passes over the retained images, as a share of training's.
        lr: Forgetting: rate of the student, falling by a cosine (official: in steps).
        weight_decay: Forgetting: L2 penalty of the student; None: the recipe's (official: 5e-4, as at training). The
            loss is a mean over channels and positions: without BatchNorm above the weights it can lose to the penalty.
        least_allowed: Forgetting: smallest share of channels that must stay allowed.
        leak_map0: Official leak (ResNet-20): the first term's map is taken before the prohibition.
    """

    reg: NonNegative = 1e-3
    target: Share = 0.1
    orthogonality: NonNegative = 0.1
    period: Annotated[int, Field(ge=1)] = 3
    mask_lr: NonNegative = 0.1
    epochs: Annotated[float, Field(gt=0, le=1)] = 1.0
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    weight_decay: NonNegative | None = None
    least_allowed: Share = 0.3
    leak_map0: bool = False

    name: ClassVar[str] = "erm-ktp"
    needs: ClassVar[Needs] = Needs(targets=("classes",), retain=True, prepared="a mask of channels per class")
    cost: ClassVar[str] = "O(E N_R), 1.3 of retraining"
    memory: ClassVar[str] = "4 P + 2 A: SGD and a teacher"
    expense: ClassVar[Expense] = "training"
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(0.1, 1.0),
        "lr": Axis(1e-3, 30.0, log=True),
        "weight_decay": Axis(0.0, 5e-4),
    }
    at_training: ClassVar[tuple[str, ...]] = ("reg", "target", "orthogonality", "period", "mask_lr")
    source: ClassVar[str] = "CVPR 2023, pp. 20147-20155"
    moves_batch_norm: ClassVar[bool] = True

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train with the mask on in one epoch of `period`, and return the network, which does not need it, and M."""
        part = split.train
        _, layer = head_of(model, split.data.input_shape)
        learnt = LearntMask(layer.in_features, len(split.data.classes), self.mask_lr, run.device)
        mask, per_epoch = learnt.mask, _steps(len(part), recipe.batch_size)

        def masked() -> bool:
            return learnt.seen // per_epoch % self.period == self.period - 1

        def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            if not masked():
                return F.cross_entropy(network(x), y, label_smoothing=recipe.label_smoothing)
            with masking(layer, mask, y):
                answers = network(x)
            fitting = F.cross_entropy(answers, y, label_smoothing=recipe.label_smoothing)
            return fitting + self.reg * penalty(mask, self.target, self.orthogonality)

        def on_step(_: nn.Module) -> None:
            if masked():
                learnt.step()
            learnt.seen += 1
            if learnt.seen % per_epoch == 0:
                learnt.course.append([density(mask), float((mask == 0).float().mean())])

        fit(model, part, recipe, run, loss=loss, on_step=on_step, carried=learnt)
        for dense, zeros in learnt.course:
            run.history.add("erm", density=dense, zeros=zeros)
        run.note(f"erm-ktp: mask of density {density(mask):.2f}, {float((mask == 0).float().mean()):.0%} exact zeros")
        return model, {MASK: mask.detach().cpu()}

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if there is no mask, too few channels would be left, or no fresh student can be made."""
        mask = need_memory(artifact, MASK, self, HOW)
        allowed = float(prohibition(mask, split.forget_classes).mean())
        if allowed < self.least_allowed:
            raise InputError(
                f"only {allowed:.0%} of the channels serve none of the classes to forget, least_allowed is "
                f"{self.least_allowed:.0%}: the student would know little of the rest. Train longer or with larger reg "
                f"or mask_lr, so that the mask has zeros; or use delete or retrain"
            )
        try:
            reset(artifact.model, 0)
        except InputError as error:
            raise InputError(f"erm-ktp trains a fresh student. {error} Or use delete") from None

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the student of the allowed channels."""
        teacher, part = run.copied(artifact.model).eval(), split.retain
        student = run.copied(reset(artifact.model, run.number("erm-ktp/initial weights")))
        x, _ = next(part.take(range(min(8, len(part)))).batches(Epoch(8, run.device)))
        name, layer = head(student, x)
        where = last_map(teacher, name, x)
        allowed = prohibition(artifact.memory[MASK], split.forget_classes).to(run.device)
        _take_head(layer, teacher.get_submodule(name), allowed, split.forget_classes)
        for own, given in zip(student.parameters(), artifact.model.parameters(), strict=True):
            if not given.requires_grad and not any(own is p for p in layer.parameters()):
                own.data.copy_(given)
        learns = [p for p in student.parameters() if p.requires_grad and not any(p is q for q in layer.parameters())]
        if not learns:
            raise InputError("erm-ktp: every parameter below the head is frozen (requires_grad); nothing can be taught")
        recipe = artifact.record.recipe
        decay = recipe.weight_decay if self.weight_decay is None else self.weight_decay
        recipe = recipe.but(lr=self.lr, weight_decay=decay, epochs=self.epochs * recipe.epochs, schedule="cosine")

        with watching(teacher, name, where) as theirs, watching(student, name, where) as ours:

            def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
                network(x)
                area, features = ours.pop()
                with torch.no_grad():
                    teacher(x)
                    area_0, features_1 = knowledge(theirs, allowed, masked_map=not self.leak_map0)
                return F.mse_loss(area, area_0) + F.mse_loss(features, features_1)

            fit(student, part, recipe, run, stage="erm-ktp", loss=loss, parameters=learns)
        _note_zero_wins(student, part.sample(1000, run.generator("erm-ktp/watched")).tensors(run.device)[0], split, run)
        run.note(f"erm-ktp: {float(allowed.mean()):.0%} of {len(allowed)} channels allowed; transfer by the "
                 f"{'features' if where is None else 'map ' + where}")  # fmt: skip
        return student

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Keep the mask of the allowed channels; forbidden ones are dead, and marked as serving every class."""
        memory = super().memory_after(artifact, model, split)
        dead = prohibition(memory[MASK], split.forget_classes)[:, None] == 0
        return {**memory, MASK: memory[MASK].masked_fill(dead, 1.0)}


def _take_head(layer: nn.Linear, original: nn.Module, allowed: Tensor, classes: tuple[int, ...]) -> None:
    """Write W diag(P) and b into a head, with zeros for the classes to forget."""
    assert isinstance(original, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(original.weight * allowed)
        layer.weight[list(classes)] = 0
        if layer.bias is not None:
            layer.bias.copy_(original.bias)
            layer.bias[list(classes)] = 0


def _note_zero_wins(student: nn.Module, x: Tensor, split: Split, run: Run) -> None:
    with evaluating(student), torch.no_grad():
        wins = float(torch.isin(student(x).argmax(1).cpu(), torch.tensor(split.forget_classes)).float().mean())
    if wins:
        run.note(f"erm-ktp: on {wins:.1%} of {len(x)} retained images the logit 0 of a forgotten class is the largest")


def _steps(samples: int, batch: int) -> int:
    """Return the steps of an epoch, as `Trainer` counts them: a last batch of one sample is dropped."""
    whole, rest = divmod(samples, batch)
    return max(whole + (rest > 1), 1)
