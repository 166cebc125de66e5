"""MSG: initialise anew the weights whose forget and retain gradients cancel, then repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.curvature.gradient import summed_gradient
from efface.data import Split
from efface.errors import InputError
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.head import head_of
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import Trainer

__all__ = ["MSG"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class MSG(Method):
    """Mixed saliency by gradient: damage the weights that matter least for telling D_f from D_r, and repair on D_r.

    g = sum over batches of grad CE(R) - sum over batches of grad CE(D_f),   R a random part of D_r, |R| = |D_f|;
    per layer, S = the share of entries with the *smallest* |g|; W[S] <- Kaiming normal (fan-out, ReLU);
    then CE on D_r with gradients times 1 on S and `damping` elsewhere; normalisation and head learn undamped.
    Epoch e of E has the rate lr min(e / h, (E + 1 - e) / (E + 1 - h)), h = ceil(E / 2).

    Source: second place of the NeurIPS 2023 unlearning challenge, as specified by xcadet/deepunlearn (arXiv
    2410.01276).

    Attributes:
        share: Share of each layer's weights to initialise anew, in [0, 1].
        epochs: Passes over the retained data.
        lr: Largest learning rate of SGD with momentum 0.9.
        damping: Factor on the gradients of the weights that were kept.
        weight_decay: L2 penalty, not damped.
        batch_size: Samples per step and per gradient batch.
        linear: Treat hidden linear layers like convolutions; the original has no rule for them.
    """

    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    epochs: Annotated[int, Field(ge=0)] = 5
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    damping: Annotated[float, Field(ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    batch_size: Annotated[int, Field(ge=1)] = 64
    linear: bool = True

    name: ClassVar[str] = "msg"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(2 N_F + E N_R), E = 5"
    memory: ClassVar[str] = "5 P + A: SGD, gradient sums, factors"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "NeurIPS 2023 unlearning challenge, 2nd place; arXiv 2410.01276"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "share": Axis(0.05, 0.6),
        "epochs": Axis(1, 8),
        "lr": Axis(1e-05, 0.01, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the model has no layer that the rule applies to."""
        if not self.weights(artifact.model, split):
            raise InputError(
                "msg finds no trainable convolution or hidden linear layer to initialise anew; use scrub or fine-tune"
            )

    def weights(self, model: nn.Module, split: Split) -> list[nn.Parameter]:
        """Return the weights that may be initialised anew: of convolutions and hidden linear layers, in order."""
        found: list[nn.Parameter] = []
        last = None
        if self.linear and any(isinstance(m, nn.Linear) for m in model.modules()):
            last = head_of(model, split.data.input_shape)[1]
        for module in model.modules():
            eligible = isinstance(module, _CONVOLUTIONS) or (self.linear and isinstance(module, nn.Linear))
            if eligible and module is not last:
                weight = module.weight
                if isinstance(weight, nn.Parameter) and weight.requires_grad:
                    found.append(weight)
        return found

    def smallest(self, gradient: Tensor) -> Tensor:
        """Return which entries of a layer's g are the round(share n) smallest by magnitude; ties go to the earlier."""
        chosen = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
        order = torch.sort(gradient.abs().flatten(), stable=True).indices
        chosen[order[: round(self.share * gradient.numel())]] = True
        return chosen.view_as(gradient)

    def damage(self, model: nn.Module, split: Split, run: Run) -> tuple[list[nn.Parameter], list[Tensor]]:
        """Initialise the chosen weights of `model` anew in place; return all eligible weights and what was chosen."""
        weights = self.weights(model, split)
        some = split.retain.sample(len(split.forget), run.generator("msg/retain sample"))
        kept = summed_gradient(model, some, weights, self.batch_size, run.device)
        lost = summed_gradient(model, split.forget, weights, self.batch_size, run.device)
        chosen = [self.smallest(r - f) for r, f in zip(kept, lost, strict=True)]
        with seeded(run.number("msg/new weights")), torch.no_grad():
            for weight, where in zip(weights, chosen, strict=True):
                fresh = nn.init.kaiming_normal_(torch.empty(weight.shape), mode="fan_out", nonlinearity="relu")
                weight.copy_(torch.where(where, fresh.to(weight), weight))
        return weights, chosen

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a damaged and repaired copy."""
        model = run.copied(artifact.model)
        weights, chosen = self.damage(model, split, run)
        factors = [torch.where(where, 1.0, self.damping) for where in chosen]

        def damp(_: nn.Module) -> None:
            for weight, factor in zip(weights, factors, strict=True):
                if weight.grad is not None:
                    weight.grad.mul_(factor)

        recipe = artifact.record.recipe.but(
            optimiser="sgd",
            momentum=0.9,
            lr=self.lr,
            epochs=self.epochs,
            schedule="constant",
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
        )
        trainer = Trainer(model, split.retain, recipe, run, stage="msg", on_gradients=damp)
        for rate in run.track(self.rates(), "msg", self.epochs):
            trainer.set_rate(rate)
            trainer.advance(trainer.steps_per_epoch)
        return model.eval()

    def rates(self) -> list[float]:
        """Return the learning rate of each epoch: up to `lr` in equal steps by the middle, then down towards 0."""
        rise = (self.epochs + 1) // 2
        fall = self.epochs + 1 - rise
        return [self.lr * min(e / rise, (self.epochs + 1 - e) / fall) for e in range(1, self.epochs + 1)]
