"""Selective dampening: shrink the weights that matter more for the data to forget than for a reference set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.curvature.chunks import Batches, require_eval
from efface.curvature.fisher import fisher_diagonal
from efface.curvature.recording import trainable
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.running.run import Run

__all__ = [
    "Dampened",
    "Importances",
    "dampen",
    "dampen_by_contrast",
    "loss_free",
    "norm_parameters",
    "quantile_of_ratios",
]

Importances = dict[str, Tensor]


@dataclass(frozen=True)
class Dampened:
    """What dampening did.

    Attributes:
        selected: Number of selected weights by parameter name.
        sizes: Number of weights by parameter name.
        shrunk: Number of weights that are smaller now; selected ones with λ I >= I_F stay.
        largest_ratio: max I_F / I over all weights with I > 0; 0 when there is none.
        alpha: The threshold that was used.
    """

    selected: Mapping[str, int]
    sizes: Mapping[str, int]
    shrunk: int
    largest_ratio: float
    alpha: float

    @property
    def share(self) -> float:
        """Selected share of all weights considered."""
        return sum(self.selected.values()) / max(1, sum(self.sizes.values()))

    @property
    def shares(self) -> dict[str, float]:
        """Selected share by parameter name."""
        return {name: count / max(1, self.sizes[name]) for name, count in self.selected.items()}

    def words(self, name: str) -> str:
        """Say in one or two sentences what was selected, and why nothing was."""
        if self.shrunk == 0:
            text = f"{name}: the model is unchanged. The largest ratio of importances is {self.largest_ratio:.3g}, "
            if self.largest_ratio <= 1:
                return text + (
                    "so no weight matters more for the data to forget, which the model fits too well, than for the "
                    "reference; no alpha changes that. Use neg-grad-plus, scrub or retrain."
                )
            return text + (
                f"and only those above alpha = {self.alpha:.3g} are dampened. Choose alpha below "
                f"{self.largest_ratio:.3g}, or use assd, which finds its own threshold."
            )
        layer, most = max(self.shares.items(), key=lambda item: item[1])
        text = f"{name} dampened {self.share:.3%} of the weights; most in {layer} ({most:.2%})."
        if self.share > 0.05:
            text += " That is more than 5 %: expect kept classes to suffer; a larger alpha selects fewer."
        return text

    def report(self, name: str, run: Run) -> None:
        """Write the selected shares into the run's history, and the words into its notes; unchanged is a failure."""
        run.history.add(name, alpha=self.alpha, selected=self.share, largest_ratio=self.largest_ratio)
        run.history.add(f"{name} by layer", **self.shares)
        (run.note if self.shrunk else run.fail)(self.words(name))


def dampen(
    model: nn.Module, forget: Importances, reference: Importances, alpha: float, lam: float, skip: Iterable[str] = ()
) -> Dampened:
    """Multiply, in place, every selected weight by min(λ I[i] / I_F[i], 1); selected is I_F[i] > α I[i], strictly.

    The division happens inside the selection only, so 0/0 never arises; a weight with I = 0 < I_F becomes 0.

    Args:
        model: Its trainable parameters are changed; buffers are not.
        forget: I_F by parameter name, shaped like the parameters.
        reference: I, likewise, over the set that the weights shall go on serving.
        alpha: Threshold α; infinity selects nothing.
        lam: Dampening constant λ.
        skip: Names of parameters to leave alone.

    Returns:
        How many weights were selected, tensor by tensor.

    Source: Foster et al., arXiv 2308.07707, section 3.
    """
    left = frozenset(skip)
    selected, sizes, shrunk, largest = {}, {}, 0, 0.0
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            if name in left:
                continue
            f, r = forget[name], reference[name]
            mask = f > (alpha * r if alpha < float("inf") else alpha)
            factor = torch.where(mask, lam * r / torch.where(mask, f, 1.0), 1.0).clamp_(max=1)
            parameter.mul_(factor.to(parameter.dtype))
            shrunk += int((factor < 1).sum())
            selected[name], sizes[name] = int(mask.sum()), mask.numel()
            ratios = torch.where(r > 0, f / torch.where(r > 0, r, 1.0), 0.0)
            largest = max(largest, float(ratios.max()))
    return Dampened(selected, sizes, shrunk, largest, alpha)


def quantile_of_ratios(forget: Importances, reference: Importances, q: float, skip: Iterable[str] = ()) -> float:
    """Return the q-th percentile of I_F[i] / I[i] over all weights; ratios that are NaN or infinite are left out.

    The order statistic below the percentile is taken, so that (up to ties) 100 - q percent of the ratios lie above it.
    One partition, not a sort; no limit on the number of weights.

    Args:
        forget: I_F by parameter name.
        reference: I by parameter name.
        q: In [0, 100].
        skip: Names of parameters to leave out.

    Raises:
        InputError: No weight has a finite ratio.
    """
    left = frozenset(skip)
    ratios = torch.cat([(forget[n] / reference[n]).flatten() for n in forget if n not in left])
    ratios = ratios[ratios.isfinite()]
    if len(ratios) == 0:
        raise InputError(
            "no weight has a finite ratio of importances, because the kept data has none anywhere (a saturated model); "
            "use lfssd, which does not read the loss, or fine-tune"
        )
    below = min(len(ratios) - 1, int(q / 100 * (len(ratios) - 1)))
    return float(ratios.kthvalue(below + 1).values)


def loss_free(model: nn.Module, batches: Batches) -> Importances:
    """Return the loss-free importances of every trainable parameter: no label is read.

    I[i] = mean over batches of |∂/∂θ_i (mean over the batch of ‖z‖²)|, z the logits. The absolute value is taken of the
    batch's mean gradient, so gradients of opposite sign cancel within a batch; batches of one sample do not cancel.

    Args:
        model: In eval mode.
        batches: Pairs of inputs and labels; labels are ignored.

    Raises:
        InputError: Train mode, no batch, a parameter that receives no gradient, or logits that are not finite.

    Source: Foster et al., arXiv 2402.19308, and the code change given with it.
    """
    require_eval(model)
    wanted = trainable(model)
    sums = {name: torch.zeros(p.shape, dtype=torch.float64, device=p.device) for name, p in wanted.items()}
    count = 0
    for x, _ in batches:
        with torch.enable_grad():
            loss = model(x).float().square().sum(1).mean()
            gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        if not bool(loss.isfinite()):
            raise InputError("the logits are not finite; check the inputs for NaN and the weights for divergence")
        for name, gradient in zip(wanted, gradients, strict=True):
            if gradient is None:
                raise InputError(f"parameter {name!r} receives no gradient; freeze it with requires_grad_(False)")
            sums[name].add_(gradient.abs())
        count += 1
    if count == 0:
        raise InputError("the set of samples is empty; pass at least one batch")
    return {name: value / count for name, value in sums.items()}


def norm_parameters(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters of normalisation layers (their scales and shifts)."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, kinds)
        for name, _ in module.named_parameters(recurse=False)
    )


def dampen_by_contrast(model: nn.Module, forget: Part, retain: Part, strength: float, run: Run) -> None:
    """Shrink every weight by how much more the forget data depends on it: theta <- (1 - s q) theta, in place.

    q = max(0, (I_F - I_R) / (I_F + I_R)), I the mean squared per-sample gradient (empirical Fisher) of each part.

    Args:
        model: In eval mode; frozen parameters stay.
        forget: Samples to forget.
        retain: Samples to keep.
        strength: s.
        run: Device.
    """
    epoch = Epoch(1024, device=run.device)
    gone, kept = (fisher_diagonal(model, part.batches(epoch)).mean() for part in (forget, retain))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in gone and p.requires_grad:
                total = gone[name] + kept[name]
                q = ((gone[name] - kept[name]) / total.clamp(min=torch.finfo(total.dtype).tiny)).clamp(min=0)
                p.mul_((1 - strength * q).to(p))
