"""Mean inputs of every layer per class: what `class-means` and `project-distil` know a class by.

mu_c of a layer is the mean of its inputs over the records of class c: for a convolution the mean patch under its
kernel, for tokens the mean token. Of attention, the inputs of all four projections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.curvature.layer_gradients import conv_patches
from efface.models.mode import evaluating

__all__ = ["LayerMeans", "Tap", "class_means", "entering", "taps"]

_MEANS, _CLASSES, _WEIGHTS = "class-means/layer/", "class-means/classes", "class-means/weights"


class Tap(NamedTuple):
    """A matrix of weights and the place where its inputs are seen.

    Attributes:
        name: The layer's name; attention adds `.query`, `.key`, `.value` or `.out_proj`.
        parameter: Full name of the parameter.
        rows: Which of the parameter's rows; all of them where the inputs are the same.
        groups: Of a grouped convolution, otherwise 1.
    """

    name: str
    parameter: str
    rows: slice
    groups: int = 1


def taps(model: nn.Module) -> list[Tap]:
    """Return every linear, convolutional and attention projection of a model, in the order of its modules."""
    found: list[Tap] = []
    inside = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    for name, module in model.named_modules():
        dot = f"{name}." if name else ""
        if isinstance(module, nn.MultiheadAttention):
            found += _attention_taps(module, dot)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and id(module) not in inside:
            groups = 1 if isinstance(module, nn.Linear) else module.groups
            found.append(Tap(name, f"{dot}weight", slice(None), groups))
    return found


def _attention_taps(module: nn.MultiheadAttention, dot: str) -> list[Tap]:
    made = []
    for i, (which, letter) in enumerate((("query", "q"), ("key", "k"), ("value", "v"))):
        if module.in_proj_weight is None:  # keys or values have a width of their own
            made.append(Tap(f"{dot}{which}", f"{dot}{letter}_proj_weight", slice(None)))
        else:
            rows = slice(i * module.embed_dim, (i + 1) * module.embed_dim)
            made.append(Tap(f"{dot}{which}", f"{dot}in_proj_weight", rows))
    return [*made, Tap(f"{dot}out_proj", f"{dot}out_proj.weight", slice(None))]


@dataclass(frozen=True, eq=False)
class LayerMeans:
    """Mean input of every tap for some classes; itself knowledge of these classes.

    Attributes:
        classes: Class numbers, in the order of the rows.
        of: Tap's name -> (classes, G, d) float32 on the CPU; G = 1 but for grouped convolutions.
        weights: SHA-256 of the weights that the inputs were seen under, if known.
    """

    classes: tuple[int, ...]
    of: dict[str, Tensor]
    weights: str = ""

    def rows(self, tap: str, classes: Sequence[int]) -> Tensor:
        """Return the means (len(classes), G, d) of some classes, float64.

        Raises:
            KeyError: A class or a tap has none.
        """
        at = {c: i for i, c in enumerate(self.classes)}
        return self.of[tap][[at[c] for c in classes]].double()

    def without(self, classes: Iterable[int]) -> LayerMeans:
        """Return the means of the other classes."""
        kept = [i for i, c in enumerate(self.classes) if c not in set(classes)]
        of = {name: mean[kept].clone() for name, mean in self.of.items()}
        return LayerMeans(tuple(self.classes[i] for i in kept), of, self.weights)

    def memory(self) -> dict[str, Tensor]:
        """Return the tensors that an artifact's memory keeps; nothing without classes."""
        if not self.classes:
            return {}
        return {
            **{_MEANS + name: mean for name, mean in self.of.items()},
            _CLASSES: torch.tensor(self.classes),
            _WEIGHTS: torch.frombuffer(bytearray.fromhex(self.weights), dtype=torch.uint8),
        }

    @classmethod
    def recalled(cls, memory: Mapping[str, Tensor]) -> LayerMeans | None:
        """Return what `memory` put there, or None."""
        if _CLASSES not in memory:
            return None
        of = {name.removeprefix(_MEANS): mean for name, mean in memory.items() if name.startswith(_MEANS)}
        weights = bytes(memory[_WEIGHTS].tolist()).hex()
        return cls(tuple(memory[_CLASSES].tolist()), of, weights)

    @staticmethod
    def forgotten(memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return an artifact's memory without any class means."""
        return {name: value for name, value in memory.items() if not name.startswith("class-means/")}


def class_means(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: Sequence[int], weights: str = ""
) -> LayerMeans:
    """Return the mean input of every tap that is called, per class, in eval mode: one forward pass.

    Args:
        model: Any module, on the device of the batches; its modes are restored.
        batches: Pairs of inputs and labels.
        classes: Class numbers wanted; samples of others are skipped. A class without a sample gets no row.
        weights: SHA-256 of the model's weights, to be kept beside the means.

    Returns:
        Means summed in float64. A tap that some class's samples did not reach is left out.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    size = max(classes) + 1
    wanted = torch.tensor(list(classes))
    seen: set[int] = set()
    with evaluating(model), torch.no_grad(), entering(model) as entered:
        for x, y in batches:
            chosen = torch.isin(y, wanted.to(y.device))
            if not chosen.any():
                continue
            present, rank = y[chosen].unique(return_inverse=True)
            seen |= set(present.tolist())
            entered.clear()
            model(x[chosen])
            for name, (module, calls) in entered.items():
                for a in calls:
                    if len(a) != len(rank):
                        continue  # a layer that mixes samples or makes several of one has no class per row
                    mean = _mean_per_class(module, a, rank, len(present))
                    if name not in sums:
                        sums[name] = mean.new_zeros(size, *mean.shape[1:])
                        counts[name] = mean.new_zeros(size)
                    n = rank.bincount(minlength=len(present)).to(mean)
                    sums[name].index_add_(0, present, mean * n[:, None, None])
                    counts[name].index_add_(0, present, n)
    found = tuple(c for c in classes if c in seen)
    of = {
        name: (sums[name][list(found)] / counts[name][list(found), None, None]).float().cpu()
        for name in sums
        if (counts[name][list(found)] > 0).all()
    }
    return LayerMeans(found, of, weights)


def _mean_per_class(module: nn.Module, a: Tensor, rank: Tensor, classes: int) -> Tensor:
    """Return (classes, G, d) float64: mean over the samples of each class, then over positions or tokens."""
    total = torch.zeros(classes, *a.shape[1:], dtype=torch.float64, device=a.device)
    total.index_add_(0, rank, a.double())
    n = rank.bincount(minlength=classes)
    mean = total / n.view(-1, *[1] * (a.ndim - 1))
    if isinstance(module, nn.Conv1d | nn.Conv2d):  # patches are linear in the input, so those of the mean will do
        return conv_patches(module, mean).mean(-1)
    return mean.reshape(classes, -1, mean.shape[-1]).mean(1, keepdim=True)


Entered = dict[str, tuple[nn.Module, list[Tensor]]]


@contextmanager
def entering(model: nn.Module, only: str = "") -> Iterator[Entered]:
    """Record what enters every tap, or one alone, samples first, while the block runs.

    Args:
        model: Whose taps.
        only: Name of the tap; all of them if empty.
    """
    entered: Entered = {}
    inside = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}

    def record(name: str, module: nn.Module, value: Tensor) -> None:
        if only in ("", name):
            entered.setdefault(name, (module, []))[1].append(value.detach())

    handles = []
    for name, module in model.named_modules():
        if only not in ("", name) and only.rpartition(".")[0] != name:
            continue
        if isinstance(module, nn.MultiheadAttention):

            def attended(
                layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, name: str = name
            ) -> None:
                assert isinstance(layer, nn.MultiheadAttention)
                dot = f"{name}." if name else ""
                for which, value in _attention_inputs(layer, args, kwargs).items():
                    record(f"{dot}{which}", layer, value)

            handles.append(module.register_forward_hook(attended, with_kwargs=True))
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and id(module) not in inside:

            def called(layer: nn.Module, args: tuple[Any, ...], out: Any, name: str = name) -> None:
                record(name, layer, args[0])

            handles.append(module.register_forward_hook(called))
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def _attention_inputs(layer: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """Return what enters the four projections of attention, samples first.

    The layer keeps what enters its output projection to itself: it is asked again with the identity in its place.
    """
    given = dict(zip(("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask"), args, strict=False))
    given |= kwargs
    sides = {k: given.pop(k) for k in ("query", "key", "value")}
    first = {k: s if layer.batch_first else s.transpose(0, 1) for k, s in sides.items()}
    q, k, v = (s.transpose(0, 1) for s in first.values())
    same = layer._qkv_same_embed_dim
    mixed, _ = F.multi_head_attention_forward(
        q,
        k,
        v,
        layer.embed_dim,
        layer.num_heads,
        layer.in_proj_weight,
        layer.in_proj_bias,
        layer.bias_k,
        layer.bias_v,
        layer.add_zero_attn,
        0.0,
        torch.eye(layer.embed_dim, dtype=q.dtype, device=q.device),
        None,  # no bias: what enters, as it is
        training=False,
        key_padding_mask=given.get("key_padding_mask"),
        need_weights=False,
        attn_mask=given.get("attn_mask"),
        is_causal=bool(given.get("is_causal", False)) and given.get("attn_mask") is not None,
        use_separate_proj_weight=not same,
        q_proj_weight=None if same else layer.q_proj_weight,
        k_proj_weight=None if same else layer.k_proj_weight,
        v_proj_weight=None if same else layer.v_proj_weight,
    )
    return {**first, "out_proj": mixed.transpose(0, 1)}
