"""One forward pass that remembers, for every layer with a closed form, its input and hands over its output gradient.

The gradient is taken by a hook on the output *tensor*, registered before anything downstream can change that tensor in
place; autograd then delivers the gradient of the value as the layer produced it (in-place ReLU, `+=`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from efface.curvature.layer_gradients import closed_form
from efface.errors import InputError

__all__ = ["Recorder", "Visit", "trainable"]

Visit = Callable[[nn.Module, Tensor, Tensor], None]
"""Called as visit(layer, input, output gradient), layer by layer, while the backward pass runs."""


def trainable(model: nn.Module, only: frozenset[str] | None = None) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name, each once (shared ones under their first name).

    Args:
        model: Any module.
        only: Restrict to these names.

    Raises:
        InputError: A name in `only` that is no trainable parameter, or nothing trainable at all.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if only is not None:
        unknown = sorted(only - set(found))
        if unknown:
            raise InputError(f"{unknown[0]!r} is no trainable parameter of the model. Allowed: {', '.join(found)}.")
        found = {name: parameter for name, parameter in found.items() if name in only}
    if not found:
        raise InputError("The model has no trainable parameter. Set requires_grad_(True) on those you mean.")
    return found


class Recorder:
    """Forward hooks on the layers with a closed form, and the backward pass that never forms a parameter gradient.

    A parameter used by two modules, by a module called twice, or outside its module needs the sum of its contributions
    before the square; it is found by counting its uses in the autograd graph and listed in `rest`.

    Args:
        model: In eval mode; its weights, buffers and flags are left as they are.
        wanted: Trainable parameters to cover, by name.

    Attributes:
        held: Bytes that autograd kept of the first chunk.
        handed: Bytes of the output gradients that `visit` gets for a chunk as large as the first, if it keeps them.
    """

    def __init__(self, model: nn.Module, wanted: Mapping[str, nn.Parameter]) -> None:
        self.model = model
        self.wanted = dict(wanted)
        names = {id(parameter): name for name, parameter in wanted.items()}
        owners = Counter(
            id(parameter)
            for module in model.modules()
            for parameter in module._parameters.values()
            if parameter is not None
        )
        self.layers: dict[nn.Module, dict[str, str]] = {}
        for module in model.modules():
            own = {key: names[id(p)] for key, p in module._parameters.items() if p is not None and id(p) in names}
            if own and closed_form(module) is not None and all(owners[id(module._parameters[key])] == 1 for key in own):
                self.layers[module] = own
        covered = {name for own in self.layers.values() for name in own.values()}
        self.rest: set[str] = set(self.wanted) - covered
        self.held = self.handed = 0
        self._visit: Visit | None = None
        self._roots: list[Tensor] = []
        self._checked = False
        self._handles: list[Any] = []
        self._frozen: list[nn.Parameter] = []

    def __enter__(self) -> Self:
        # What is not wanted would only lengthen the backward pass; the flags are restored on the way out.
        wanted = {id(parameter) for parameter in self.wanted.values()}
        self._frozen = [p for p in self.model.parameters() if p.requires_grad and id(p) not in wanted]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        for module in self.layers:
            self._handles.append(module.register_forward_hook(self._record, prepend=True, with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._roots.clear()
        for parameter in self._frozen:
            parameter.requires_grad_(True)

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor | None:
        if not out.requires_grad:  # the layer's wanted parameters moved to `rest`, or gradients are off
            return None
        a = args[0] if args else kwargs["input"]
        version, root = a._version, not a.requires_grad
        a = a.detach()

        def receive(g: Tensor) -> None:
            if self._visit is None or module not in self.layers:
                return
            if a._version != version:
                raise InputError(
                    f"The input of a {type(module).__name__} was changed in place after the layer read it. "
                    "Set inplace=False on the module that does so."
                )
            self._visit(module, a, g)

        if not self._checked:
            self.handed += out.numel() * out.element_size()
        out.register_hook(receive)
        if not root:
            return None
        # The engine stops at the roots: the clone keeps what follows from changing them in place.
        self._roots.append(out)
        return out.clone()

    def forward(self, x: Tensor) -> Tensor:
        """Run the model on a chunk and return its logits (b, K), ready for `backward`.

        Raises:
            InputError: Outputs that are not (b, K) logits, or a wanted parameter that receives no gradient.
        """
        self._roots.clear()
        with torch.enable_grad():
            logits = self._forward_checked(x) if not self._checked else self.model(x)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(f"The model returned {shape} for {len(x)} samples, expected logits ({len(x)}, classes).")
        if not self._checked:
            self._sort_out(logits)
            self._checked = True
        return logits

    def backward(self, losses: Tensor, visit: Visit, *, again: bool = False) -> None:
        """Send the sum of the per-sample losses back and call `visit` for every recorded layer.

        Args:
            losses: Per-sample losses (b,) made from the last `forward`.
            visit: What to do with (layer, input, output gradient).
            again: Keep the graph for another call.
        """
        self._visit = visit
        # Parameters without closed form are targets too, so that layers fed by them alone (a class token) are reached.
        targets = [*self._roots, *(self.wanted[name] for name in sorted(self.rest))]
        try:
            if targets and losses.requires_grad:
                torch.autograd.grad(losses.sum(), targets, retain_graph=again, allow_unused=True)
        finally:
            self._visit = None

    def _forward_checked(self, x: Tensor) -> Tensor:
        """Run the first forward pass, measuring the bytes autograd keeps (to size the next chunks)."""
        seen: dict[int, int] = {}
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}

        def pack(t: Tensor) -> Tensor:
            storage = t.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return t

        with saved_tensors_hooks(pack, lambda t: t):
            logits: Tensor = self.model(x)
        self.held = sum(seen.values())
        return logits

    def _sort_out(self, logits: Tensor) -> None:
        uses = _uses(logits)
        for name, parameter in self.wanted.items():
            if uses[id(parameter)] == 0:
                raise InputError(
                    f"Parameter {name!r} receives no gradient: the logits do not depend on it. "
                    "Freeze it with requires_grad_(False), or leave it out with parameters=[...]."
                )
        for module, own in list(self.layers.items()):
            if any(uses[id(self.wanted[name])] != 1 for name in own.values()):
                self.rest |= set(own.values())
                del self.layers[module]


def _uses(logits: Tensor) -> Counter[int]:
    """Count, for every parameter, the places where it enters the graph of `logits`."""
    uses: Counter[int] = Counter()
    seen, stack = set(), [logits.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if following is not None and hasattr(following, "variable"):
                uses[id(following.variable)] += 1
            else:
                stack.append(following)
    return uses
