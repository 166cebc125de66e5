"""What a model answers on a part: the one place that asks it, in eval mode and without augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.errors import InputError
from efface.models.mode import evaluating
from efface.running.seeding import seeded

__all__ = ["accuracy_of", "as_naming_the_commonest", "features_of", "logits_of", "pass_size"]


def logits_of(model: nn.Module, part: Part, *, name: str = "the model", batch_size: int | None = None) -> Tensor:
    """Return the logits of every sample of a part, in order.

    The model is used on the device where it is, in eval mode (each module's own mode is put back afterwards).

    Args:
        model: Any module from inputs to logits.
        part: What it is asked; may be empty.
        name: What the model is called, for the message.
        batch_size: Samples per forward pass; by default what the device likes.

    Returns:
        Shape (len(part), classes), float32 (float64 if the model computes in it), on the CPU.

    Raises:
        InputError: If the model returns anything else than one tensor.
    """
    if len(part) == 0:
        return torch.empty(0, 0)
    passes = _passes(model, part, name, batch_size)
    return torch.cat([z.cpu() if z.dtype == torch.float64 else z.float().cpu() for z, _ in passes])


def accuracy_of(model: nn.Module, part: Part, *, name: str = "the model", batch_size: int | None = None) -> float:
    """Return the share of a part whose largest logit is its label's; the arguments are those of `logits_of`.

    Raises:
        InputError: The part is empty, or the model returns anything else than one tensor.
    """
    if len(part) == 0:
        raise InputError(f"the {part.name} part is empty; it has no accuracy")
    right = [(z.argmax(1) == y).sum() for z, y in _passes(model, part, name, batch_size)]
    return int(torch.stack(right).sum()) / len(part)


def as_naming_the_commonest(accuracy: float, labels: Tensor) -> float | None:
    """Return the share of the commonest class if an accuracy is hardly above it (by less than three deviations).

    Args:
        accuracy: Of a model on some records.
        labels: Theirs, int64.
    """
    commonest = int(labels.bincount().max()) / len(labels)
    return commonest if accuracy <= commonest + 3 * (commonest * (1 - commonest) / len(labels)) ** 0.5 else None


def _passes(model: nn.Module, part: Part, name: str, batch_size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (outputs, labels) of one pass, on the model's device."""
    device = _device(model)
    # A model (or a data set) that draws answers alike each time, and the caller's random numbers stay.
    with evaluating(model), torch.no_grad(), seeded(0):
        for x, y in part.batches(Epoch(batch_size or pass_size(device), device=device)):
            z = model(x)
            if not isinstance(z, Tensor):
                raise InputError(f"{name} returned {type(z).__name__}; an audit needs one tensor of logits.")
            yield z, y


def _device(model: nn.Module) -> torch.device:
    first = next(model.parameters(), None)
    return first.device if first is not None else torch.device("cpu")


def features_of(model: nn.Module, part: Part, layer: str, *, batch_size: int | None = None) -> Tensor:
    """Return what enters a layer for every sample of a part, in order.

    Args:
        model: Any module from inputs to logits; used as in `logits_of`.
        part: What it is asked.
        layer: Name of the layer, as `efface.models.head.head` returns it.
        batch_size: Samples per forward pass; by default what the device likes.

    Returns:
        Shape (len(part), features), float32, on the CPU.

    Raises:
        InputError: If the model has no such layer or does not use it.
    """
    device = _device(model)
    modules = dict(model.named_modules())
    if layer not in modules:
        raise InputError(f"The model has no layer {layer!r}; its layers are {', '.join(n for n in modules if n)}.")
    caught: list[Tensor] = []
    hook = modules[layer].register_forward_pre_hook(lambda _, args: caught.append(args[0].detach()))
    found: list[Tensor] = []
    try:
        with evaluating(model), torch.no_grad(), seeded(0):
            for x, _ in part.batches(Epoch(batch_size or pass_size(device), device=device)):
                caught.clear()
                model(x)
                if len(caught) != 1:
                    raise InputError(f"Layer {layer!r} was called {len(caught)} times for one batch; once is expected.")
                found.append(caught[0].reshape(len(x), -1).float().cpu())
    finally:
        hook.remove()
    return torch.cat(found)


def pass_size(device: torch.device | str) -> int:
    """Return how many samples a forward pass takes: on a CPU few enough that activations stay near the caches."""
    return 128 if torch.device(device).type == "cpu" else 1000
