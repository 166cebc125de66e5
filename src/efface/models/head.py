"""The head of a classifier: the linear layer whose output is the logits, and the features that enter it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from efface.errors import InputError, nearest
from efface.models.ensemble import Ensemble
from efface.models.mode import evaluating
from efface.models.recorded import need_weights
from efface.running.seeding import seeded

__all__ = ["Penultimate", "features", "head", "head_of", "penultimate", "zero_inputs"]


class Penultimate(NamedTuple):
    """What the last layer sees and says, for N samples: all on the CPU.

    Attributes:
        features: (N, d) float32, the inputs of the head.
        labels: (N,) int64.
        logits: (N, C) float32, the outputs of the model.
    """

    features: torch.Tensor
    labels: torch.Tensor
    logits: torch.Tensor


def head(model: nn.Module, example_input: torch.Tensor) -> tuple[str, nn.Linear]:
    """Return the name and the module of the linear layer whose output is the logits.

    Found by running the model once in eval mode: the last linear layer called whose output holds the same numbers, in
    the same order, as the model's own output; so a `flatten` or `squeeze` after it does no harm.

    Args:
        model: Any module from inputs to logits; its modes and weights stay as they are.
        example_input: One or more inputs, (N, ...), on the model's device.

    Raises:
        InputError: The model returns something other than one tensor, or its logits do not come from a linear layer.
    """
    need_weights(model, "looking at its features")
    with evaluating(model), torch.no_grad(), seeded(0), _linear_calls(model) as calls:
        output = _logits(model, example_input)
    name = _producer(calls, output, model)
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return name, layer


def head_of(model: nn.Module, input_shape: Sequence[int]) -> tuple[str, nn.Linear]:
    """Return the head as `head` does, found with `zero_inputs`."""
    return head(model, zero_inputs(model, input_shape))


def zero_inputs(model: nn.Module, input_shape: Sequence[int]) -> torch.Tensor:
    """Return two zero inputs that the model takes, on its device: floats, or else token ids (int64).

    Args:
        model: Any module; it is run in eval mode.
        input_shape: Shape of one input, without the batch axis.

    Raises:
        InputError: The model takes neither.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
    zeros = torch.zeros(2, *input_shape, device=like.device, dtype=like.dtype)
    failure: Exception | None = None
    with evaluating(model), torch.no_grad(), seeded(0):
        for example in (zeros, zeros.long()):
            try:
                model(example)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                failure = failure or error
            else:
                return example
    raise InputError(
        f"This {type(model).__name__} takes no inputs of shape {tuple(input_shape)}: {failure}. Choose a model for "
        "such inputs."
    ) from failure


def features(model: nn.Module, x: torch.Tensor, layer: str | None = None) -> torch.Tensor:
    """Return what enters the head for inputs `x`, in the model's present mode; differentiable where gradients are on.

    Args:
        model: Any module from inputs to logits.
        x: Inputs (N, ...), on the model's device.
        layer: The head's name, as `head` returns it; without it, the head is found in the same forward pass.

    Returns:
        (N, d) features.

    Raises:
        InputError: As `head`.
    """
    with _linear_calls(model, layer) as calls:
        output = _logits(model, x)
    if layer is not None and layer not in calls:
        raise InputError(f"No linear layer named {layer!r} was called. {nearest(layer, _linear_names(model))}")
    return calls[layer or _producer(calls, output, model)][0].reshape(len(x), -1)


def penultimate(model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Penultimate:
    """Return features, labels and logits of every sample, in eval mode; the model's modes are restored afterwards.

    Args:
        model: Any module from inputs to logits.
        batches: Pairs of inputs (n, ...), on the model's device, and labels (n,).

    Returns:
        The three, concatenated over the batches, on the CPU.

    Raises:
        InputError: As `head`; or there is no batch.
    """
    found: list[Penultimate] = []
    name: str | None = None
    with evaluating(model), torch.no_grad():
        for x, y in batches:
            if name is None:
                name, _ = head(model, x[:2])
            with _linear_calls(model, name) as calls:
                output = _logits(model, x)
            entered = calls[name][0].reshape(len(x), -1)
            found.append(Penultimate(entered.float().cpu(), y.cpu(), output.float().cpu()))
    if not found:
        raise InputError("There is no sample to compute features of: give at least one batch of (inputs, labels).")
    return Penultimate(*(torch.cat(column) for column in zip(*found, strict=True)))


def _linear_names(model: nn.Module) -> list[str]:
    """Return the names of all linear layers."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


@contextmanager
def _linear_calls(model: nn.Module, only: str | None = None) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Record (input, output) of every linear layer's latest call, in the order of the calls, while the block runs."""
    calls: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and only in (None, name):

            def record(_: nn.Module, args: tuple, output: torch.Tensor, name: str = name) -> None:
                calls.pop(name, None)
                # A copy of the output: an in-place operation after the layer would make it equal to anything.
                calls[name] = (args[0], output.detach().clone())

            handles.append(module.register_forward_hook(record))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run the model and insist on one tensor."""
    output = model(x)
    if not isinstance(output, torch.Tensor):
        raise InputError(
            f"A model must map inputs to one tensor of logits; this one returned {type(output).__name__}. "
            "Wrap it in a module that returns the logits alone."
        )
    return output


def _producer(calls: dict[str, tuple[torch.Tensor, torch.Tensor]], output: torch.Tensor, model: nn.Module) -> str:
    """Return the name of the last linear layer whose output is `output`."""
    if isinstance(model, Ensemble):
        raise InputError(
            f"an ensemble of {len(model.members)} members has no single head, so its features are not assessed; "
            "ask its members (`model.members`) one by one"
        )
    given = output.detach()
    for name, (_, result) in reversed(calls.items()):
        if _same(result, given):
            return name
    last = next(reversed(calls), None)
    if last is None:
        raise InputError(
            f"The logits of this {type(model).__name__} do not come from a linear layer: none was called. "
            "Efface needs a torch.nn.Linear as the last layer here; a 1 x 1 convolution before global averaging is the "
            "same function as a linear layer after it."
        )
    result = calls[last][1]
    one_output = given.shape[-1:] == (2,) and result.shape[-1:] == (1,)
    if one_output and _same(result, given[..., 1]) and not given[..., 0].any():
        raise InputError(
            f"This {type(model).__name__} has one output for two classes, so that no class has a row of weights of its "
            "own in its last layer. Give it two outputs and train them by cross-entropy, or use what needs no such "
            "row: retrain, fine-tune, gradient-ascent, ssd"
        )
    reason = f"the last one called, {last!r}, has another output of shape {tuple(result.shape)}"
    for word, function in (("log-softmax", torch.log_softmax), ("softmax", torch.softmax)):
        if result.dim() > 0 and _same(function(result, dim=-1), given):
            reason = f"a {word} follows the last one, {last!r}; return its output, the logits, instead"
    raise InputError(
        f"The output of this {type(model).__name__}, of shape {tuple(given.shape)}, is not the output of any of its "
        f"{len(calls)} linear layers: {reason}."
    )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Say whether two tensors hold the same numbers in the same order, up to rounding where the precision differs."""
    if a.numel() != b.numel() or not (a.is_floating_point() and b.is_floating_point()):
        return False
    coarse = 0.0 if a.dtype == b.dtype else max(torch.finfo(a.dtype).eps, torch.finfo(b.dtype).eps)
    return torch.allclose(a.reshape(-1).float(), b.reshape(-1).float(), rtol=coarse, atol=coarse, equal_nan=True)
