"""SalUn: random labels, but only for the weights that the data to forget pulls at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.curvature.gradient import summed_gradient
from efface.data import Part, Split
from efface.mechanisms.relabelling import LabelSet, Order, relabelled
from efface.methods.method import Axis, Expense, Method, Needs
from efface.running.run import Run
from efface.training.loop import Trainer

__all__ = ["SalUn", "saliency_mask", "shrink_smallest"]

Hook = Callable[[nn.Module], None]


@dataclass(frozen=True)
class SalUn(Method):
    """Train on random labels for D_f and true ones for D_r, moving only the weights that are salient for D_f.

    g = sum over batches of D_f of grad CE at theta_0;   m_i = 1 iff |g_i| is among the floor(share n) largest of all;
    step: theta <- theta_0 + m (SGD step on CE - theta_0), each epoch D_f under labels y' and then D_r.

    `variant="soft"` needs no mask: after each step the share (1 - t/T) `share` of the smallest changes since the start
    of the epoch is soft-thresholded to zero.

    Source: Fan et al., ICLR 2024 (arXiv 2310.12508), OPTML-Group/Unlearn-Saliency.

    Attributes:
        share: Share of weights that may move (`hard`), or of changes that are undone at first (`soft`).
        epochs: Passes over both parts.
        lr: Constant learning rate of SGD with momentum 0.9.
        over: `all` classes, all `others` than the true one, or those of them that are `kept`.
        fresh: Draw labels anew in each epoch.
        order: Relabelled data before retained data in each epoch (`forget-first`), or `mixed` together.
        variant: Masked (`hard`) or proximal (`soft`).
        freeze: Keep unmasked weights `exact`ly, or mask the `gradient` alone.
        freeze_batch_norm: Keep BatchNorm's statistics.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    epochs: Annotated[int, Field(ge=0)] = 10
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    over: LabelSet = "kept"
    fresh: bool = True
    order: Order = "forget-first"
    variant: Literal["hard", "soft"] = "hard"
    freeze: Literal["exact", "gradient"] = "exact"
    freeze_batch_norm: bool = False

    name: ClassVar[str] = "salun"
    needs: ClassVar[Needs] = Needs(targets=("classes", "items"), forget=True, retain=True)
    cost: ClassVar[str] = "O(N_F + n log n + E (N_F + N_R)), few epochs"
    memory: ClassVar[str] = "9 P while the mask is ranked, then 4 P + A"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "arXiv 2310.12508"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "share": Axis(0.05, 1.0),
        "epochs": Axis(1, 10),
        "lr": Axis(1e-05, 0.1, log=True),
    }

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose salient weights learned random labels."""
        model = run.copied(artifact.model)
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        parameters = [p for p in model.parameters() if p.requires_grad]
        on_gradients: Hook | None = None
        on_step: Hook | None = None
        epoch_start = [p.detach().clone() for p in parameters]
        if self.variant == "hard":
            mask = saliency_mask(model, split.forget, parameters, self.share, recipe.batch_size, run.device)
            on_gradients, on_step = _hold(parameters, mask, epoch_start if self.freeze == "exact" else None)
        trainer = Trainer(
            model,
            relabelled(split, run, self.over, self.fresh, self.order),
            recipe,
            run,
            stage="random labels",  # the stage of the random-labels method: with share 1 the same batches, bit for bit
            freeze_batch_norm=self.freeze_batch_norm,
            on_gradients=on_gradients,
            on_step=on_step,
        )
        if self.variant == "soft":
            trainer.on_step = lambda _: shrink_smallest(
                parameters, epoch_start, self.share * (1 - trainer.step / trainer.total_steps)
            )
        for _ in run.track(range(self.epochs), "salun", self.epochs):
            if self.variant == "soft":
                torch._foreach_copy_(epoch_start, [p.detach() for p in parameters])
            trainer.advance(trainer.steps_per_epoch)
        return model.eval()


def saliency_mask(
    model: nn.Module, part: Part, parameters: list[nn.Parameter], share: float, size: int, device: torch.device | str
) -> list[Tensor]:
    """Return, per parameter, which of its entries are among the floor(share n) largest |g| of all parameters together.

    Ties go to the earlier entry, so that the mask of a smaller share is contained in that of a larger one.

    Args:
        model: From inputs to logits, on `device`.
        part: The data to forget with its true labels.
        parameters: What is ranked.
        share: In (0, 1].
        size: Samples per batch of the gradient.
        device: Where the model lives.
    """
    g = summed_gradient(model, part, parameters, size, device)
    flat = torch.cat([t.abs().flatten() for t in g])
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[torch.sort(flat, descending=True, stable=True).indices[: int(share * len(flat))]] = True
    return [m.view_as(p) for m, p in zip(chosen.split([p.numel() for p in parameters]), parameters, strict=True)]


def _hold(parameters: list[nn.Parameter], mask: list[Tensor], start: list[Tensor] | None) -> tuple[Hook, Hook | None]:
    """Return hooks that zero the gradients outside the mask and, given `start`, put these entries back after a step."""

    def zero_gradients(_: nn.Module) -> None:
        pairs = [(p.grad, m) for p, m in zip(parameters, mask, strict=True) if p.grad is not None]
        for gradient, m in pairs:
            gradient.mul_(m)

    def put_back(_: nn.Module) -> None:
        assert start is not None
        with torch.no_grad():
            for p, m, s in zip(parameters, mask, start, strict=True):
                p.copy_(torch.where(m, p, s))

    return zero_gradients, None if start is None else put_back


def shrink_smallest(parameters: list[nn.Parameter], start: list[Tensor], share: float) -> None:
    """Soft-threshold the change e = theta - start in place so that at least the share of smallest |e| becomes zero.

    e <- sign(e) max(|e| - kappa, 0), kappa the ceil(share n)-th smallest |e|; a share of zero or less changes nothing.

    Args:
        parameters: theta, all ranked together.
        start: Values to measure the change from.
        share: In (-inf, 1].
    """
    count = sum(p.numel() for p in parameters)
    rank = -int(-share * count // 1)
    if rank <= 0:
        return
    with torch.no_grad():
        change = torch.cat([(p - s).flatten() for p, s in zip(parameters, start, strict=True)])
        kappa = change.abs().kthvalue(min(rank, count)).values
        change = change.sign() * (change.abs() - kappa).clamp(min=0)
        pieces = change.split([p.numel() for p in parameters])
        for p, s, e in zip(parameters, start, pieces, strict=True):
            p.copy_(torch.where(e.view_as(p) == 0, s, s + e.view_as(p)))
