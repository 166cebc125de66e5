"""The last k layers of a network, and training of these alone: what CF-k and EU-k share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from efface.data.part import Part
from efface.errors import InputError
from efface.models.head import head_of
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["fit_only", "last_layers"]


def last_layers(model: nn.Module, k: int, input_shape: tuple[int, ...], include_head: bool = True) -> list[str]:
    """Return the names of the modules that make up the last k weight layers, in the order of registration.

    A weight layer is a module with parameters of its own of at least two axes; modules with one-axis parameters
    (normalisation) that are registered after it belong to it.

    Args:
        model: Any module.
        k: How many weight layers.
        input_shape: Shape of one input, to find the head.
        include_head: Count the head; otherwise it is left out.

    Raises:
        InputError: There are fewer than k, or the head is to be left out and is not a linear layer.
    """
    without = None
    if not include_head:
        without, _ = head_of(model, input_shape)
    layers: list[list[str]] = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if not own or name == without:
            continue
        if any(p.ndim >= 2 for p in own) or not layers:
            layers.append([name])
        else:
            layers[-1].append(name)
    if k > len(layers):
        raise InputError(
            f"the last {k} layers are asked for, but the model has {len(layers)}; allowed: 1 to {len(layers)}. "
            "To train all of them, use fine-tune (from the old weights) or retrain (from new ones)"
        )
    return [name for layer in layers[len(layers) - k :] for name in layer]


def fit_only(model: nn.Module, names: list[str], part: Part, recipe: Recipe, run: Run, *, stage: str) -> nn.Module:
    """Train the named modules in place with cross-entropy; all others keep parameters, buffers and eval mode.

    Parameters that were frozen before stay frozen, and gradients are switched on again afterwards.

    Args:
        model: Any module.
        names: The modules to train.
        part: Where batches come from.
        recipe: How to train.
        run: Device, precision, randomness, history.
        stage: Name for history and progress.

    Raises:
        InputError: As `fit`.
    """
    chosen = {model.get_submodule(name) for name in names}
    inside = {id(p) for module in chosen for p in module.parameters(recurse=False)}
    outside = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    still = [module for module in model.modules() if module not in chosen and not any(module.children())]

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        for module in still:  # the training loop has put everything into train mode
            module.eval()
        return F.cross_entropy(network(x), y, label_smoothing=recipe.label_smoothing)

    for p in outside:
        p.requires_grad_(False)
    try:
        return fit(model, part, recipe, run, stage=stage, loss=loss)
    finally:
        for p in outside:
            p.requires_grad_(True)
