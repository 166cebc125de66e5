"""l1-sparse unlearning: fine-tune on what is kept while shrinking the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.head import head_of
from efface.running.run import Run
from efface.training.loop import Trainer

__all__ = ["L1Sparse", "prune_smallest"]


@dataclass(frozen=True)
class L1Sparse(Method):
    """Minimise CE(D_r) + gamma_t ||theta||_1 with gamma_t = gamma (1 - t / (T - T0)) for t < T - T0, and 0 after.

    A subgradient step never lands on zero, so that nothing becomes sparse: only with `proximal` do exact zeros appear.
    That is a soft threshold after each step in place of the sign in the gradient, by lr gamma_t / (1 - momentum), which
    is how far momentum would carry the sign. The data to forget is never read: the forgetting is a general loss of
    memorisation.

    With `prune` = s the network is pruned first (one-shot magnitude pruning): of all trained convolution weights
    together, the round(s n) smallest in magnitude are set to zero, and stay zero, because their gradients do. A sparse
    network forgets more readily, also without the penalty (`gamma=0` is then fine-tuning of the sparse network).
    Compare with a retrained network that is as sparse: a dense one is more accurate.

    Source: Jia et al., NeurIPS 2023 (arXiv 2304.04934), OPTML-Group/Unlearn-Sparse.

    Attributes:
        gamma: Weight of the penalty at the start; search 1e-5 to 1e-3 on validation data.
        epochs: Passes over the retained data (T).
        rest: How many of them, the last ones, are without penalty (T0).
        lr: Constant learning rate of SGD with momentum 0.9.
        scope: Which parameters are shrunk: `all` (normalisation, biases and head too), `conv` weights, `conv+head`.
        proximal: Soft threshold after the step.
        prune: Share s of the convolution weights that is set to zero first; 0 leaves all of them.
    """

    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    epochs: Annotated[int, Field(ge=0)] = 10
    rest: Annotated[int, Field(ge=0)] = 0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    scope: Literal["all", "conv", "conv+head"] = "all"
    proximal: bool = False
    prune: Annotated[float, Field(ge=0, lt=1)] = 0.0

    name: ClassVar[str] = "l1-sparse"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), retain=True)
    cost: ClassVar[str] = "O(E N_R), few epochs"
    memory: ClassVar[str] = "4 P + A: SGD and the signs"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2304.04934"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "gamma": Axis(1e-06, 0.01, log=True),
        "epochs": Axis(1, 10),
        "lr": Axis(0.0001, 0.1, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if scope or pruning finds no parameter, or all epochs are without penalty."""
        if self.rest >= self.epochs > 0:
            raise InputError(f"rest is {self.rest} of {self.epochs} epochs: no epoch with a penalty; use fine-tune")
        if not self.shrunk(artifact.model, split):
            raise InputError(
                f"l1-sparse with scope {self.scope!r} finds no parameter to shrink in this model; use scope='all', or "
                "fine-tune"
            )
        if self.prune and not _convolution_weights(artifact.model):
            raise InputError(
                f"l1-sparse with prune={self.prune} finds no convolution weight that is trained; use prune=0, and "
                "proximal=True for zeros in other layers"
            )

    def penalties(self) -> list[float]:
        """Return gamma_t for each epoch."""
        steps = self.epochs - self.rest
        return [self.gamma * (1 - t / steps) if t < steps else 0.0 for t in range(self.epochs)]

    def shrunk(self, model: nn.Module, split: Split) -> list[nn.Parameter]:
        """Return the trained parameters that the penalty acts on."""
        if self.scope == "all":
            return [p for p in model.parameters() if p.requires_grad]
        weights = _convolution_weights(model)
        if self.scope == "conv+head":
            weights += _trained_weights([head_of(model, split.data.input_shape)[1]])
        return weights

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy fine-tuned under the penalty."""
        model = run.copied(artifact.model)
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        shrunk = self.shrunk(model, split)
        pruned: list[tuple[nn.Parameter, Tensor]] = []
        if self.prune:
            weights = _convolution_weights(model)
            pruned = list(zip(weights, prune_smallest(weights, self.prune), strict=True))
            cut, total = sum(int(m.sum()) for _, m in pruned), sum(m.numel() for _, m in pruned)
            run.note(f"l1-sparse: {cut} of {total} convolution weights set to zero before forgetting")
        penalty = 0.0

        def change_gradients(_: nn.Module) -> None:
            if not self.proximal:
                gradients = [p.grad for p in shrunk if p.grad is not None]
                signs = [p.detach().sign() for p in shrunk if p.grad is not None]
                torch._foreach_add_(gradients, signs, alpha=penalty)
            for p, mask in pruned:  # zero weight, sign, decay and gradient: the momentum is zero too, and nothing moves
                if p.grad is not None:
                    p.grad.masked_fill_(mask, 0)

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
            on_gradients=change_gradients,
            on_step=threshold if self.proximal else None,
        )
        for epoch, penalty in enumerate(run.track(self.penalties(), "l1-sparse", self.epochs)):
            trainer.advance(trainer.steps_per_epoch)
            norm = float(sum(p.detach().abs().sum(dtype=torch.float64) for p in shrunk))
            zeros = sum(int((p == 0).sum()) for p in shrunk) / sum(p.numel() for p in shrunk)
            run.history.add("l1-sparse/norm", epoch=epoch + 1, penalty=penalty, l1_norm=norm, zero_share=zeros)
        return model.eval()


def prune_smallest(weights: list[nn.Parameter], share: float) -> list[Tensor]:
    """Set the round(share n) entries of smallest magnitude, all tensors ranked together, to zero in place.

    Equal magnitudes go by position, so that the number of zeros is exact and a pruned network pruned again by the same
    share keeps its zeros.

    Args:
        weights: n entries in all.
        share: In [0, 1).

    Returns:
        Per tensor, which of its entries were pruned (bool, of its shape).
    """
    magnitudes = torch.cat([w.detach().abs().flatten() for w in weights])
    chosen = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
    chosen[torch.sort(magnitudes, stable=True).indices[: round(share * len(magnitudes))]] = True
    masks = [m.view(w.shape) for m, w in zip(chosen.split([w.numel() for w in weights]), weights, strict=True)]
    with torch.no_grad():
        for w, mask in zip(weights, masks, strict=True):
            w.masked_fill_(mask, 0)
    return masks


def _convolution_weights(model: nn.Module) -> list[nn.Parameter]:
    return _trained_weights([m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)])


def _trained_weights(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [m.weight for m in modules if isinstance(m.weight, nn.Parameter) and m.weight.requires_grad]
