"""Learning with selective forgetting: classes tied to codes at training, forgotten by dropping theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.record import Record
from efface.curvature import fisher_diagonal
from efface.data import ArraySamples, Augment, Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.codes import draw_codes
from efface.methods.lwsf.losses import additive_margin, elastic, even_out, masked_distillation, mixed
from efface.methods.method import Axis, Expense, Method, Needs, need_memory
from efface.models.batch_norm import recompute_statistics
from efface.models.mode import evaluating
from efface.models.unit_head import UnitHead, with_unit_head
from efface.running.run import Run
from efface.training.checkpoint import Draws
from efface.training.loop import Loss, fit
from efface.training.recipe import Recipe

__all__ = ["LwSF"]

HOW = "train with `efface train --method lwsf` (with --from to prepare a trained model), or use mnemonic or delete"

CODES, CLASSES = "lwsf/codes", "lwsf/classes"

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class LwSF(Method):
    """Tie every class to a code at training; forget by dropping its code and fine-tuning on the codes that are kept.

    Training, cosine head y = ĥ Ŵᵀ:  L = AM(y(x), c) + AM(y(λx + (1-λ)ξ_c), c), λ ~ U(0, 1), AM with scale s, margin m.
    Forgetting, on kept codes and mixtures u of two:  γ AM(y(ξ), c) + λ_lwf (LwF* + even-out)(u) + λ_ewc EWC*.
    LwF* holds the kept cosines where they were, even-out moves the deleted ones to 1/K, EWC* holds weights that kept
    codes need. No image is read. A published table has E_F 94 and A_R 44 (MNIST), 100 and 65 (CIFAR-10).

    Source: Shibata et al., IJCAI 2021, for tasks that follow one another; a single task is our adaptation, and so are
    `steps`, `lr`, `batch_size`. Codes are finished inputs (official: normalised like an image).

    Attributes:
        block: Training: side of the squares of equal pixels that codes consist of (official: 4 of 32, 16 of 224).
        scale: s.
        margin: m of AM.
        gamma: Forgetting: γ.
        lwf: Forgetting: λ_lwf.
        temperature: Forgetting: T of LwF* and even-out.
        ewc: Forgetting: λ_ewc; official: 100, which from codes alone diverges on small networks.
        ewc_deleted: Official leak: importance max(0, F_kept + this · F_deleted); 1 protects what should go.
        push_deleted: Official leak: weight of a loss on the deleted codes themselves, towards the uniform answer.
        steps: Forgetting: optimiser steps.
        lr: Forgetting: constant rate of SGD with momentum 0.9.
        batch_size: Forgetting: codes drawn per step, and as many mixtures.
    """

    block: Annotated[int, Field(ge=1)] = 4
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    margin: NonNegative = 0.35
    gamma: NonNegative = 10.0
    lwf: NonNegative = 5.0
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    ewc: NonNegative = 0.0
    ewc_deleted: NonNegative = 0.0
    push_deleted: NonNegative = 0.0
    steps: Annotated[int, Field(ge=1)] = 200
    lr: NonNegative = 3e-3
    batch_size: Annotated[int, Field(ge=2)] = 128

    name: ClassVar[str] = "lwsf"
    needs: ClassVar[Needs] = Needs(targets=("classes",), prepared="a cosine head and codes mixed into its training")
    cost: ClassVar[str] = "O(S B) inputs, S = 200 steps, no data"
    memory: ClassVar[str] = "6 P + A: SGD, teacher, importances and start"
    expense: ClassVar[Expense] = "forget epochs"
    space: ClassVar[Mapping[str, Axis]] = {
        "lr": Axis(1e-4, 3e-2, log=True),
        "gamma": Axis(1.0, 100.0, log=True),
        "lwf": Axis(0.1, 20.0, log=True),
    }
    at_training: ClassVar[tuple[str, ...]] = ("block",)
    source: ClassVar[str] = "LSF, IJCAI 2021; single-task rows: arXiv 2306.05670"
    makes_inputs: ClassVar[bool] = True

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Give the model a cosine head, train it on images and mixtures, and return it with the codes.

        BatchNorm sees images and mixtures as one batch in training; its statistics are then taken anew from images.
        """
        model, head = with_unit_head(model, torch.zeros(2, *split.data.input_shape, device=run.device))
        classes = sorted({*split.forget_classes, *split.retain_classes})
        codes, numbers = self._draw(classes, split, run)
        placed = torch.zeros(len(split.data.classes), *codes.shape[1:])
        placed[numbers] = codes
        placed = placed.to(run.device)
        generator = run.generator("lwsf/mixing")

        def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            share = torch.rand(len(x), generator=generator).to(x.device)
            inputs = torch.cat([x, mixed(x, placed[y], share)])
            cosines = network(inputs) / head.linear.weight.norm(dim=1)
            return sum(additive_margin(part, y, self.scale, self.margin) for part in cosines.chunk(2))  # type: ignore[return-value]

        fit(model, split.train, recipe, run, loss=loss, carried=Draws(generator))
        _at_length(head, self.scale)
        recompute_statistics(model, split.train.batches(Epoch(recipe.batch_size, run.device)))
        with evaluating(model), torch.no_grad():
            known = float((model(placed[numbers]).argmax(1).cpu() == numbers).float().mean())
        run.history.add("lwsf/codes", accuracy=known)
        run.note(f"lwsf: {known:.0%} of {len(codes)} codes recognised after training")
        return model, {CODES: codes, CLASSES: numbers}

    def rebuild(self, model: nn.Module, record: Record) -> nn.Module:
        """Return the network with its cosine head."""
        if record.action != "train":
            return model
        like = next(model.parameters())
        return with_unit_head(model, torch.zeros(2, *record.data.input_shape, device=like.device))[0]

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if there are no codes, none for a class, or none for any other."""
        codes = need_memory(artifact, CODES, self, HOW)
        coded = set(need_memory(artifact, CLASSES, self, HOW).tolist())
        if tuple(codes.shape[1:]) != split.data.input_shape:
            raise InputError(f"the codes have shape {tuple(codes.shape[1:])}, inputs {split.data.input_shape}; {HOW}")
        if bare := [split.data.classes[c] for c in split.forget_classes if c not in coded]:
            raise NotPreparedError(f"this artifact has no code for class {', '.join(bare)}; {HOW}")
        if not coded & set(split.retain_classes):
            raise NotPreparedError(f"this artifact has no code for any retained class; {HOW}")

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy fine-tuned on kept codes; reads no data."""
        teacher = run.copied(artifact.model).eval()
        model = run.copied(artifact.model)
        example = torch.zeros(2, *split.data.input_shape, device=run.device)
        (_, frozen), (_, head) = (with_unit_head(m, example) for m in (teacher, model))
        length = frozen.linear.weight.norm(dim=1)
        _at_length(head, 1.0)
        x, y = artifact.memory[CODES].to(run.device), artifact.memory[CLASSES].to(run.device)
        kept = torch.zeros(len(split.data.classes), device=run.device)
        kept[list(split.retain_classes)] = 1
        stays = kept[y] == 1
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        importance = self._importance(teacher, model, x, y, stays, float(length[0].detach())) if self.ewc else {}
        generator = run.generator("lwsf/mixtures")
        deleted = x[torch.isin(y, torch.tensor(split.forget_classes, device=run.device))]

        def loss(network: nn.Module, codes: Tensor, labels: Tensor) -> Tensor:
            other = torch.randperm(len(codes), generator=generator).to(codes.device)
            share = torch.rand(len(codes), generator=generator).to(codes.device)
            u = torch.cat([codes, mixed(codes, codes[other], share)])
            with torch.no_grad():
                before = teacher(u) / length
            cosines = network(u) / head.linear.weight.norm(dim=1)
            total = self.gamma * additive_margin(cosines[: len(codes)], labels, self.scale, self.margin)
            total = total + self.lwf * (
                masked_distillation(before, cosines, kept, self.scale, self.temperature)
                + even_out(cosines, kept, self.scale, self.temperature)
            )
            if importance:
                total = total + self.ewc * elastic(model, start, importance)
            if self.push_deleted:
                answers = network(deleted) / head.linear.weight.norm(dim=1)
                total = total - self.push_deleted * answers.log_softmax(1).mean(1).sum()
            return total

        _fit_codes(self, model, x[stays], y[stays], artifact.record.recipe, run, loss, Draws(generator))
        _at_length(head, self.scale)
        with torch.no_grad():
            right = model(x).argmax(1) == y
        run.note(
            f"lwsf: after {self.steps} steps {float(right[stays].float().mean()):.0%} of the kept codes are recognised "
            f"and {float(right[~stays].float().mean()):.0%} of the dropped ones"
        )
        return model

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Keep the codes of the classes that remain."""
        memory = super().memory_after(artifact, model, split)
        stays = torch.tensor([c not in split.forget_classes for c in memory[CLASSES].tolist()])
        return {**memory, **{k: memory[k][stays] for k in (CODES, CLASSES)}}

    def _draw(self, classes: list[int], split: Split, run: Run) -> tuple[Tensor, Tensor]:
        """Return codes (K, *input_shape) of squares of equal pixels, uniform in [0, 1], and their classes."""
        shape, generator = split.data.input_shape, run.generator("lwsf/codes")
        if len(shape) != 3:
            return draw_codes(classes, shape, generator)
        channels, height, width = shape
        coarse = (channels, -(-height // self.block), -(-width // self.block))
        codes, numbers = draw_codes(classes, coarse, generator)
        fine = codes.repeat_interleave(self.block, dim=2).repeat_interleave(self.block, dim=3)
        return fine[..., :height, :width].contiguous(), numbers

    def _importance(
        self, teacher: nn.Module, model: nn.Module, x: Tensor, y: Tensor, stays: Tensor, length: float
    ) -> dict[str, Tensor]:
        """Return F_kept, or max(0, F_kept + ewc_deleted F_deleted), for the parameters as `model` holds them."""
        weights = [stays.double(), (~stays).double()]
        names = [n for n, p in model.named_parameters() if p.requires_grad]
        means = fisher_diagonal(teacher, x, y, sample_weights=weights, parameters=names, dtype=torch.float32).means()
        found = {n: (means[0][n] + self.ewc_deleted * means[1][n]).clamp(min=0) for n in names}
        # The head is trained at rows of length 1, where its gradient is `length` times what it is at the teacher's.
        _, head = with_unit_head(model, x[:2])
        for n, p in model.named_parameters():
            if p is head.linear.weight and n in found:
                found[n] = found[n] * length**2
        return found


def _at_length(head: UnitHead, length: float) -> None:
    """Scale every row of the head's weight to a length; the cosines stay."""
    with torch.no_grad():
        head.linear.weight.copy_(length * nn.functional.normalize(head.linear.weight, dim=1))


def _fit_codes(
    method: LwSF, model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, run: Run, loss: Loss, draws: Draws
) -> nn.Module:
    """Fine-tune on codes drawn evenly for the method's steps; BatchNorm's statistics stay."""
    codes = ArraySamples(x.cpu(), y.cpu())
    part = Part("codes", codes, np.resize(np.arange(len(codes)), method.steps * method.batch_size))
    recipe = recipe.but(
        optimiser="sgd", momentum=0.9, nesterov=False, lr=method.lr, weight_decay=0.0, schedule="constant",
        epochs=1, batch_size=method.batch_size, augment=Augment(),
    )  # fmt: skip
    return fit(model, part, recipe, run, stage="lwsf", loss=loss, freeze_batch_norm=True, carried=draws)
