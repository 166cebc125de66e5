"""Moving a class among the others: every layer refitted so that its inputs of the class look like kept classes'.

A network that never saw a class still answers its records: it sends them somewhere among the classes that it knows.
Here every layer is refitted, in closed form and from first to last, to take the class's inputs there and to leave kept
inputs alone. Ours; docs/research.md compares it with taking the class's direction out.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efface.curvature.layer_gradients import conv_patches, conv_positions
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.data.split import Split
from efface.mechanisms.class_means import Tap, entering, taps
from efface.mechanisms.class_removal import of_each_class
from efface.models.head import head_of
from efface.models.mode import evaluating
from efface.models.predictions import logits_of
from efface.running.run import Run

__all__ = ["Moments", "Move", "nearest_mixture", "refit", "transport"]

_READ = 512
_PLACES = 8  # random patches or tokens of every sample
_RIDGE = 1e-3  # of the kept inputs' mean square: how far a direction that hardly any input uses is left as it is


@dataclass(frozen=True)
class Move:
    """Where the class goes, and how much that counts.

    Attributes:
        weight: Of a record to forget, beside 1 of a kept one; 0 leaves the layer's answers as they are.
        mixture: 1: the class's mean goes to the mean of kept classes' means in the shares of the masked original's
            answers; 0: to the nearest point among them (their convex hull); linear in between.
        within: Share of what the class's records have beside the span of kept means that is taken out of each.
    """

    weight: float = 1.0
    mixture: float = 0.7
    within: float = 1.0


@dataclass(eq=False)
class Moments:
    """Sums over a layer's inputs h (d), or (h, 1) (d + 1) where it has a bias; G groups; float64.

    Attributes:
        second: Per kind (0: kept; 1, ...: forgotten classes): sum of a a^T, (kinds, G, a, a), a = (h, 1) or h.
        crossed: Kept: sum of o a^T, o the original's input in the same place, (G, d, a).
        sums: Per class: sum of h, (classes, G, d); counts (classes,).
    """

    second: Tensor
    crossed: Tensor
    sums: Tensor
    counts: Tensor


def nearest_mixture(point: Tensor, corners: Tensor) -> Tensor:
    """Return the point nearest to one of shape (d,) in the convex hull of (n, d) others: float64, (d,)."""
    from scipy.optimize import nnls  # where it is needed: no other method loads scipy

    scale = corners.norm() / len(corners) ** 0.5 + 1e-12
    rows = torch.cat([corners.mT / scale, 1e3 * torch.ones(1, len(corners), dtype=corners.dtype)])
    wanted = torch.cat([point / scale, torch.tensor([1e3], dtype=corners.dtype)])
    shares, _ = nnls(rows.numpy(), wanted.numpy(), maxiter=100 * len(corners))
    found = torch.from_numpy(shares)
    return (found / found.sum().clamp(min=1e-12)) @ corners


def refit(moments: Moments, forget: Sequence[int], retain: Sequence[int], shares: Tensor, move: Move) -> Tensor:
    """Return the map P (G, d, a) of a layer's inputs that the weights are to be multiplied with.

        min_P  sum over kept of |P a - o|^2 + weight * sum over forgotten of |P a - t(h)|^2
        t(h) = h - (m - T) - within (I - B B^T) (h - m)

    m is the class's mean, T where it goes, B a basis of the kept classes' means. It does not depend on the weights, as
    both targets are inputs. Classes without a record left are neither kept nor forgotten.

    Args:
        moments: Of the layer.
        forget: Forgotten classes, in the order of the kinds.
        retain: Kept classes.
        shares: Of kept classes in the masked original's answers, (forgotten, kept).
        move: Where to, and how much.
    """
    groups, d, _ = moments.crossed.shape
    found = []
    unmoved = torch.eye(d, moments.crossed.shape[2], dtype=moments.crossed.dtype)
    there = moments.counts[list(retain)] > 0
    if not there.all():
        retain = [c for c, some in zip(retain, there.tolist(), strict=True) if some]
        shares = shares[:, there] / shares[:, there].sum(1, keepdim=True).clamp(min=1e-12)
    for g in range(groups):
        kept = moments.sums[list(retain), g] / moments.counts[list(retain), None]
        u, s, _ = torch.linalg.svd(kept.mT, full_matrices=False)
        span = u[:, s > 1e-5 * s.max()]
        left, right = moments.crossed[g].clone(), moments.second[0, g].clone()
        used = right if right.diagonal()[:d].any() else moments.second[1:, g].sum(0)
        ridge = _RIDGE * used.diagonal()[:d].mean()
        if ridge == 0:  # inputs that are zero for every record, as in depthwise layers of dead channels
            found.append(unmoved)
            continue
        left.diagonal().add_(ridge)
        right.diagonal()[:d].add_(ridge)
        for kind, c in enumerate(forget):
            if not moments.counts[c]:
                continue
            second = moments.second[kind + 1, g]
            mean = moments.sums[c, g] / moments.counts[c]
            goal = move.mixture * (shares[kind] @ kept)
            if move.mixture < 1:
                goal = goal + (1 - move.mixture) * nearest_mixture(mean, kept)
            ones = torch.cat([moments.sums[c, g], moments.counts[c, None]])[: second.shape[1]]  # sum of a
            around = second[:d] - torch.outer(mean, ones)
            target = second[:d] - torch.outer(mean - goal, ones) - move.within * (around - span @ (span.mT @ around))
            left += move.weight * target
            right += move.weight * second
        found.append(torch.linalg.solve(right, left.mT).mT)
    return torch.stack(found)


def transport(model: nn.Module, split: Split, run: Run, move: Move, samples: int, name: str) -> list[str]:
    """Refit every layer before the head, in place, from first to last, and note where.

    Every layer sees what the layers before it now make of the records, and is to answer kept records as the original
    does. Frozen layers stay; a layer without a bias gets none.

    Args:
        model: Changed.
        split: Under the request.
        run: Device, randomness; gets the note.
        move: Where to, and how much.
        samples: Most records of each class.
        name: The method's.

    Returns:
        The layers that changed.
    """
    draw = run.generator(f"{name}/records")
    parts = tuple(of_each_class(part, samples, draw) for part in (split.forget, split.retain))
    original = copy.deepcopy(model)
    answers = logits_of(original, parts[0])[:, list(split.retain_classes)].double().softmax(1)
    shares = torch.stack([answers[parts[0].labels == c].mean(0) for c in split.forget_classes])
    last, _ = head_of(model, split.data.input_shape)
    changed = []
    for place, tap in enumerate(taps(model)):
        weight, bias = model.get_parameter(tap.parameter), _bias(model, tap)
        if tap.name == last or not weight.requires_grad or move.weight == 0:
            continue
        moments = _moments(model, original, tap, parts, split, run, bias is not None, place)
        if moments is None:
            continue
        _multiply(weight, bias, tap, refit(moments, split.forget_classes, split.retain_classes, shares, move))
        changed.append(tap.name)
    run.note(f"{name}: the classes were moved among the others in {', '.join(changed) or 'no layer'}")
    return changed


def _bias(model: nn.Module, tap: Tap) -> Tensor | None:
    """Return the bias of a tap's rows, where it is trained and has as many rows as the weight."""
    name = tap.parameter.removesuffix("weight") + "bias"
    bias = dict(model.named_parameters()).get(name)
    return bias if bias is not None and bias.requires_grad else None


def _multiply(weight: Tensor, bias: Tensor | None, tap: Tap, found: Tensor) -> None:
    with torch.no_grad():
        rows = weight[tap.rows]
        flat = rows.double().reshape(tap.groups, len(rows) // tap.groups, -1)
        d = flat.shape[-1]
        p = found.to(flat.device)
        if bias is not None:
            bias[tap.rows] += (flat @ p[..., d:]).reshape(-1).to(bias.dtype)
        weight[tap.rows] = (flat @ p[..., :d]).reshape(rows.shape).to(weight.dtype)


def _moments(
    model: nn.Module,
    original: nn.Module,
    tap: Tap,
    parts: Sequence[Part],
    split: Split,
    run: Run,
    constant: bool,
    place: int,
) -> Moments | None:
    """Return one layer's sums over both parts; None where it is not called once for every sample."""
    draw = run.generator(f"transport/{place}")  # not by name: a wrapper around the model changes those
    found: Moments | None = None
    size = max(*split.forget_classes, *split.retain_classes) + 1
    for ours, theirs, y in _inputs(model, original, tap, parts, run, draw):
        n, groups, d, places = ours.shape
        a = torch.cat([ours, ours.new_ones(n, groups, 1, places)], 2) if constant else ours
        if found is None:
            wide = a.shape[2]
            kinds = 1 + len(split.forget_classes)
            zeros = ours.new_zeros
            found = Moments(
                zeros(kinds, groups, wide, wide), zeros(groups, d, wide), zeros(size, groups, d), zeros(size)
            )
        for kind, wanted in enumerate((split.retain_classes, *((c,) for c in split.forget_classes))):
            at = torch.isin(y, torch.tensor(wanted))
            if at.any():
                flat = a[at].permute(1, 2, 0, 3).flatten(2)
                found.second[kind] += flat @ flat.mT
                if kind == 0:
                    found.crossed += theirs[at].permute(1, 2, 0, 3).flatten(2) @ flat.mT
        found.sums.index_add_(0, y, ours.sum(3))
        found.counts.index_add_(0, y, ours.new_full((n,), float(places)))
    return found


def _inputs(
    model: nn.Module, original: nn.Module, tap: Tap, parts: Sequence[Part], run: Run, draw: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield a layer's inputs (n, G, d, places), float64, in both models, and labels; nothing if it mixes samples."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        taken = []
        for one in (model, original):
            stack.enter_context(evaluating(one))
            taken.append((one, stack.enter_context(entering(one, tap.name))))
        for part in parts:
            for x, y in part.batches(Epoch(_READ, device=run.device)):
                pair = []
                for one, seen in taken:
                    called = seen.get(tap.name)
                    seen.clear()
                    _ask(one, x, None if called is None else called[0])
                    if tap.name not in seen or len(seen[tap.name][1]) != 1:
                        return
                    pair.append(seen[tap.name][1][0])
                layer = taken[0][1][tap.name][0]
                if len(pair[0]) != len(y):
                    return
                at = _chosen(layer, pair[0], draw)
                ours, theirs = (_places(layer, a, at).cpu().double() for a in pair)  # of few places if there are many
                yield ours, theirs, y.cpu()


class _EnoughError(Exception):
    """A layer has been called; what comes after it is not asked for."""


def _ask(model: nn.Module, x: Tensor, last: nn.Module | None) -> None:
    """Run a model forward, no farther than a layer if one is given."""
    if last is None:
        model(x)
        return

    def stop(*_: object) -> None:
        raise _EnoughError

    handle = last.register_forward_hook(stop)
    try:
        model(x)
    except _EnoughError:
        pass
    finally:
        handle.remove()


def _places(layer: nn.Module, a: Tensor, at: Tensor | None) -> Tensor:
    """Return a layer's input as (n, G, d, places): patches of a convolution, tokens, or one place; those of `at`."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return conv_patches(layer, a, at)
    tokens = a.reshape(len(a), -1, a.shape[-1])
    if at is not None:
        tokens = tokens.gather(1, at[..., None].expand(-1, -1, a.shape[-1]))
    return tokens.mT.unsqueeze(1)


def _chosen(layer: nn.Module, a: Tensor, draw: torch.Generator) -> Tensor | None:
    """Return random places of every sample (n, few), or None where all are taken."""
    places = conv_positions(layer, a) if isinstance(layer, nn.Conv1d | nn.Conv2d) else a[0].numel() // a.shape[-1]
    if places <= _PLACES:
        return None
    return torch.rand(len(a), places, generator=draw).topk(_PLACES, 1, largest=False).indices.to(a.device)
