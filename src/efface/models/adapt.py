"""A user's model as Efface works on it: unwrapped, in float32, from inputs to one tensor of logits."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from efface.errors import InputError
from efface.models.check import answer, check_model

__all__ = ["adapted", "cast_from"]


def adapted(
    model: nn.Module, input_shape: Sequence[int], num_classes: int, input_dtype: torch.dtype | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a model that maps inputs to (N, num_classes) logits in float32, with the user's own parameter names.

    Unwrapped are `torch.compile` (hooks do not fire in it), DataParallel and DistributedDataParallel. float64, bfloat16
    and half weights are cast in a copy. Of outputs that are objects with `.logits`, as those of Hugging Face, the
    logits are taken. Of one output z for two classes, trained with binary cross-entropy, the logits are (0, z): softmax
    over them is (1 - sigmoid(z), sigmoid(z)), and cross-entropy is binary cross-entropy. A text model of Hugging
    Face's whose configuration names a padding token gets an attention mask without it. All these are hooks of a copy,
    so that the names in its state dict stay the user's.

    Args:
        model: As it was handed over; it is not changed.
        input_shape: Shape of one input, without the batch axis.
        num_classes: How many classes the data has.
        input_dtype: Type of the data's inputs; None where it is not known.

    Returns:
        The model (the very same where nothing is to be done), and a sentence for each thing done.

    Raises:
        InputError: A scripted or traced model, lazy layers that hold no weights yet, or what `check_model` refuses.
    """
    notes: list[str] = []
    inner = _unwrapped(model)
    if inner is not model:
        notes.append(f"the model was taken out of its {type(model).__name__} wrapper")
    _check_kind(inner)
    copied = False
    foreign = [name for name in cast_from(inner) if name != "float32"]
    if foreign:
        inner, copied = copy.deepcopy(inner).to(torch.float32), True
        notes.append(f"weights of type {', '.join(f'torch.{name}' for name in foreign)} were cast to float32")
    padding = _padding_of(inner)
    if padding is not None:
        inner, copied = (inner if copied else copy.deepcopy(inner)), True
        inner.register_forward_pre_hook(_Masking(padding), with_kwargs=True)
        notes.append(f"the attention mask leaves out token {padding}, the padding")
    for hook, applies, note in _ADAPTERS:
        if applies(answer(inner, tuple(input_shape), input_dtype), num_classes):
            inner, copied = (inner if copied else copy.deepcopy(inner)), True
            inner.register_forward_hook(hook)
            notes.append(note)
    check_model(inner, input_shape, num_classes, input_dtype)
    return inner, tuple(notes)


def cast_from(model: nn.Module) -> list[str]:
    """Return the types of a model's weights if `adapted` casts some to float32, e.g. `bfloat16`; nothing otherwise."""
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return sorted(str(t).removeprefix("torch.") for t in types) if types - {torch.float32} else []


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside compiled and data-parallel wrappers."""
    while True:
        compiled_from = getattr(model, "_orig_mod", None)
        if isinstance(compiled_from, nn.Module):
            model = compiled_from
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def _check_kind(model: nn.Module) -> None:
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise InputError(
            f"The model {type(model).__name__} is scripted or traced: its layers cannot be watched and replaced as "
            "Efface needs. Give the Python module that it was made from, with its weights: "
            "module.load_state_dict(scripted.state_dict())."
        )
    values = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, value in values if is_lazy(value)]
    if empty:
        raise InputError(
            f"The model {type(model).__name__} has lazy layers that hold no weights yet: {', '.join(empty[:8])}. "
            "Run one batch through it, model(inputs), before handing it over; a model to forget from must be trained."
        )


class _Masking:
    """A forward pre-hook that adds `attention_mask` to token ids: 0 where the token is padding."""

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 1 or "attention_mask" in kwargs or args[0].is_floating_point():
            return None
        held = args[0] != self.padding
        held = held | ~held.any(dim=1, keepdim=True)  # attention over nothing would be NaN
        return args, {**kwargs, "attention_mask": held.long()}


def _padding_of(model: nn.Module) -> int | None:
    """Return the padding token of a model that takes an attention mask and does not get one yet."""
    padding = getattr(getattr(model, "config", None), "pad_token_id", None)
    if not isinstance(padding, int) or any(isinstance(h, _Masking) for h in model._forward_pre_hooks.values()):
        return None
    return padding if "attention_mask" in inspect.signature(model.forward).parameters else None


def _take_logits(_: nn.Module, __: Any, output: Any) -> Any:
    return output.logits


def _both_logits(_: nn.Module, __: Any, output: Tensor) -> Tensor:
    z = output.reshape(-1, 1)
    return torch.cat([torch.zeros_like(z), z], dim=1)


def _has_logits(output: object, _: int) -> bool:
    return not isinstance(output, Tensor) and isinstance(getattr(output, "logits", None), Tensor)


def _is_one_logit(output: object, num_classes: int) -> bool:
    return isinstance(output, Tensor) and num_classes == 2 and tuple(output.shape) in {(2,), (2, 1)}


_ADAPTERS: tuple[tuple[Callable[..., Any], Callable[[object, int], bool], str], ...] = (
    (_take_logits, _has_logits, "of the model's outputs, objects with several entries, the logits are taken"),
    (_both_logits, _is_one_logit, "the model's one output z for two classes is taken as the logits (0, z)"),
)
