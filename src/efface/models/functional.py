"""Call a module with other tensors in place of its parameters and buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["call_with"]


def call_with(model: nn.Module, values: Mapping[str, Tensor], *inputs: Any) -> Any:
    """Return model(*inputs) with some tensors replaced wherever the model uses them; the model stays as it is.

    `torch.func.functional_call` ties weights by name, and leaves a model damaged in which one *module* has two names
    (pytorch issue 164759). Here every place that holds a tensor is named once.

    Args:
        model: Any module.
        values: New tensors, by the first name of a parameter or buffer as `named_parameters` and `named_buffers` give
            it; others keep their own.
        inputs: What the model takes.
    """
    first = {id(t): name for named in (model.named_parameters(), model.named_buffers()) for name, t in named}
    everywhere = {
        f"{path}.{key}" if path else key: values[first[id(t)]]
        for path, module in model.named_modules()  # each module once
        for key, t in [*module._parameters.items(), *module._buffers.items()]
        if t is not None and first[id(t)] in values
    }
    return functional_call(model, everywhere, inputs, tie_weights=False)
