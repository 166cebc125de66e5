"""Boundary Shrink: every forget image is given to the class across its nearest decision boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.data.epoch import Epoch
from efface.mechanisms.batch_size import fitting_batch
from efface.mechanisms.forget_only import note_if_left, require_more_than_one
from efface.methods.boundary_shrink.attack import PixelSpace, attacked, curvature
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import fit

__all__ = ["BoundaryShrink"]


@dataclass(frozen=True)
class BoundaryShrink(Method):
    """Fine-tune on the forget images alone, labelled with the class that a small adversarial step leads to.

    x' = clip(x + eps sign(grad_x CE(f0(x), y)))      in pixels of [0, 1], f0 = the frozen original
    y' = argmax over kept classes of f0(x')           the nearest class, once per image
    L  = mean w CE(f(x), y') + curvature_weight/B ||kappa_f0(x) - kappa_f(x)||_2    on the B clean images of a batch

    with w = 1, or 3 sigmoid(slope (PM - 0.5)) where PM = (runner-up's probability) - (that of y') on x'.
    Source: Chen, Gao, Liu, Peng, Wang, "Boundary Unlearning", CVPR 2023, arXiv 2303.11570, section 4.2.

    Attributes:
        lr: Constant learning rate of SGD.
        momentum: Of SGD.
        epochs: Passes over D_f.
        batch_size: Images per step.
        min_steps: On small data the batch shrinks (not below 8) until a pass has this many steps; 0 never shrinks it.
        bound: eps, in pixels of [0, 1].
        attack: `fgsm`, one step of eps, or `pgd`, five of 8/255.
        avoid_true: Never choose a class that is to be forgotten.
        weighted: Weight images by how close x' is to its next boundary.
        slope: Steepness of the weights.
        curvature_weight: Weight of the curvature term (the paper's enhanced version: 0.7); doubles the cost.
        curvature_distance: Its h.
        freeze_batch_norm: Keep BatchNorm's running statistics.
    """

    lr: Annotated[float, Field(ge=0)] = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epochs: Annotated[float, Field(ge=0)] = 10.0
    batch_size: Annotated[int, Field(ge=2)] = 64
    min_steps: Annotated[int, Field(ge=0)] = 70
    bound: Annotated[float, Field(gt=0, le=1)] = 0.1
    attack: Literal["fgsm", "pgd"] = "fgsm"
    avoid_true: bool = True
    weighted: bool = False
    slope: Annotated[float, Field(gt=0)] = 5.0
    curvature_weight: Annotated[float, Field(ge=0)] = 0.0
    curvature_distance: Annotated[float, Field(gt=0)] = 0.9
    freeze_batch_norm: bool = False

    name: ClassVar[str] = "boundary-shrink"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True)
    cost: ClassVar[str] = "O(E N_F), 10 passes"
    memory: ClassVar[str] = "4 P + A: SGD and the original"
    expense: ClassVar[Expense] = "forget epochs"
    source: ClassVar[str] = "boundary unlearning, arXiv 2303.11570"
    makes_inputs: ClassVar[bool] = True
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "lr": Axis(1e-06, 0.001, log=True),
        "epochs": Axis(2.0, 20.0),
        "bound": Axis(0.02, 0.5),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if BatchNorm would have to normalise a single image."""
        require_more_than_one(self.name, artifact.model, split.forget, self.freeze_batch_norm, "logit-mask")

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose decision boundaries were drawn through the forgotten classes."""
        original, model, part = run.copied(artifact.model).eval(), run.copied(artifact.model), split.forget
        truth = part.labels.to(run.device)
        targets, sample_weights = self.neighbours(original, split, run)
        before = None if self.curvature_weight == 0 else self._curvatures(original, split, run)

        def loss(net: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
            error = F.cross_entropy(net(x), targets[positions], reduction="none")
            total = (sample_weights[positions] * error).mean()
            if before is None:
                return total
            now = curvature(net, x, truth[positions], self.curvature_distance, differentiable=True)
            return total + self.curvature_weight * (before[positions] - now).norm() / len(x)

        size = fitting_batch(len(part), self.batch_size, self.min_steps)
        recipe = artifact.record.recipe.bare(
            optimiser="sgd", momentum=self.momentum, lr=self.lr, epochs=self.epochs, batch_size=size
        )
        numbered = part.relabelled(torch.arange(len(part)))  # the "label" finds target, weight and curvature
        fit(model, numbered, recipe, run, stage=self.name, loss=loss, freeze_batch_norm=self.freeze_batch_norm)
        note_if_left(self.name, model, part, self.lr, run)
        return model

    def neighbours(self, original: nn.Module, split: Split, run: Run) -> tuple[Tensor, Tensor]:
        """Return the target class and the weight of every forget image, (N_f,) each, in the part's order."""
        part, space = split.forget, PixelSpace.of(split.forget, run.device)
        if not space.known:
            low, high = space.low.min(), (space.low + space.unit).max()
            run.note(f"{self.name}: pixel range taken from the forget data, {low:g} to {high:g}; bound is a share")
        steps, step = (5, 8 / 255) if self.attack == "pgd" else (1, None)
        targets: list[Tensor] = []
        sample_weights: list[Tensor] = []
        hits = 0
        for x, y in part.batches(Epoch(self.batch_size, device=run.device)):
            moved = attacked(original, x, y, space, self.bound, steps=steps, step=step)
            with torch.no_grad():
                answer = original(moved).float()
            hits += int((answer.argmax(1) != y).sum())
            choice = answer.clone()
            if self.avoid_true:
                choice[:, list(split.forget_classes)] = -torch.inf
            targets.append(choice.argmax(1))
            even = torch.ones(len(y), device=run.device)
            sample_weights.append(self.weight(answer, targets[-1]) if self.weighted else even)
        run.history.add(f"{self.name}/attack", success=hits / len(part))
        return torch.cat(targets), torch.cat(sample_weights)

    def weight(self, answer: Tensor, target: Tensor) -> Tensor:
        """Return 3 sigmoid(slope (PM - 0.5)) for logits (B, K) on x' and the target classes (B,)."""
        p = answer.softmax(1)
        own = p.gather(1, target[:, None])[:, 0]
        runner_up = p.scatter(1, target[:, None], -1.0).amax(1)
        return 3 * torch.sigmoid(self.slope * (runner_up - own - 0.5))

    def _curvatures(self, original: nn.Module, split: Split, run: Run) -> Tensor:
        batches = split.forget.batches(Epoch(self.batch_size, device=run.device))
        return torch.cat([curvature(original, x, y, self.curvature_distance).detach() for x, y in batches])
