"""l1-sparse unlearning: fine-tune on what is kept while shrinking the weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from efface.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.methods.method import Expense, Method, Needs
from efface.models.head import head
from efface.run import Run
from efface.training import Trainer

__all__ = ["L1Sparse"]


@dataclass(frozen=True)
class L1Sparse(Method):
    """Minimise CE(D_r) + gamma_t ||theta||_1 with gamma_t = gamma (1 - t / (T - T0)) for t < T - T0, and 0 after.

    A subgradient step never lands on zero, so that nothing becomes sparse: only with `proximal` do exact zeros appear.
    That is a soft threshold after each step in place of the sign in the gradient, by lr gamma_t / (1 - momentum), which
    is how far momentum would carry the sign. The data to forget is never read: the forgetting is a general loss of
    memorisation.

    Source: Jia et al., NeurIPS 2023 (arXiv 2304.04934), OPTML-Group/Unlearn-Sparse: rate, epochs, scope and schedule.
    Its parser's default for gamma, 0.2, belongs to other methods and destroys any network; ours is the paper's value
    for items. Deviation: the sign is added to the gradient in place, without a graph, and only where a parameter is
    trained. The artifact's recipe gives batch size, augmentation and weight decay.

    Attributes:
        gamma: Weight of the penalty at the start; search 1e-5 to 1e-3 on validation data.
        epochs: Passes over the retained data (T).
        rest: How many of them, the last ones, are without penalty (T0).
        lr: Constant learning rate of SGD with momentum 0.9.
        scope: Which parameters are shrunk: `all` (normalisation, biases and head too), `conv` weights, `conv+head`.
        proximal: Soft threshold after the step.
    """

    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    epochs: Annotated[int, Field(ge=0)] = 10
    rest: Annotated[int, Field(ge=0)] = 0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    scope: Literal["all", "conv", "conv+head"] = "all"
    proximal: bool = False

    name: ClassVar[str] = "l1-sparse"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), few epochs"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2304.04934"
    moves_batch_norm: ClassVar[bool] = True

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if the scope holds no parameter, or all epochs are without penalty."""
        if self.rest >= self.epochs > 0:
            raise InputError(f"rest is {self.rest} of {self.epochs} epochs: no epoch with a penalty; use fine-tune")
        if not self.shrunk(artifact.model, split):
            raise InputError(
                f"l1-sparse with scope {self.scope!r} finds no parameter to shrink in this model; use scope='all', or "
                "fine-tune"
            )

    def penalties(self) -> list[float]:
        """Return gamma_t for each epoch."""
        steps = self.epochs - self.rest
        return [self.gamma * (1 - t / steps) if t < steps else 0.0 for t in range(self.epochs)]

    def shrunk(self, model: nn.Module, split: Split) -> list[nn.Parameter]:
        """Return the trained parameters that the penalty acts on."""
        if self.scope == "all":
            return [p for p in model.parameters() if p.requires_grad]
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        modules: list[nn.Module] = [m for m in model.modules() if isinstance(m, kinds)]
        if self.scope == "conv+head":
            device = next(model.parameters()).device
            modules.append(head(model, torch.zeros(2, *split.data.input_shape, device=device))[1])
        return [m.weight for m in modules if isinstance(m.weight, nn.Parameter) and m.weight.requires_grad]

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy fine-tuned under the penalty."""
        model = run.copied(artifact.model)
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        shrunk = self.shrunk(model, split)
        penalty = 0.0

        def add_sign(_: nn.Module) -> None:
            gradients = [p.grad for p in shrunk if p.grad is not None]
            signs = [p.detach().sign() for p in shrunk if p.grad is not None]
            torch._foreach_add_(gradients, signs, alpha=penalty)

        def threshold(_: nn.Module) -> None:
            with torch.no_grad():
                for p in shrunk:
                    p.copy_(nn.functional.softshrink(p, self.lr * penalty / (1 - recipe.momentum)))

        trainer = Trainer(
            model,
            split.retain,
            recipe,
            run,
            stage="l1-sparse",
            on_gradients=None if self.proximal else add_sign,
            on_step=threshold if self.proximal else None,
        )
        for epoch, penalty in enumerate(run.track(self.penalties(), "l1-sparse", self.epochs)):
            trainer.advance(trainer.steps_per_epoch)
            norm = float(sum(p.detach().abs().sum(dtype=torch.float64) for p in shrunk))
            zeros = sum(int((p == 0).sum()) for p in shrunk) / sum(p.numel() for p in shrunk)
            run.history.add("l1-sparse/norm", epoch=epoch + 1, penalty=penalty, l1_norm=norm, zero_share=zeros)
        return model.eval()
