"""Diagonals of the Fisher matrix: squares of per-sample gradients, never squares of batch means."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from efface.curvature.chunks import (
    MEMORY,
    Batches,
    Chunk,
    ChunkSize,
    chunks,
    device_of,
    require_eval,
    require_finite,
    require_labels,
)
from efface.curvature.layers_on_cores import LayerWork, each_on_one_core, shared_out
from efface.curvature.recording import Recorder, trainable
from efface.curvature.sample_weights import Chosen, SampleWeights, SampleWeightVectors
from efface.curvature.squared_gradients import PieceOfSums, SquareSums, functional_blocks, layer_blocks, target_losses
from efface.errors import InputError, nearest
from efface.running.ranks import Ranks, reduced

__all__ = ["Estimator", "FisherDiagonal", "fisher_diagonal", "passes"]

Estimator = Literal["empirical", "true", "mc", "batch_squared"]


@dataclass(frozen=True)
class FisherDiagonal:
    """Weighted sums of squared per-sample gradients, by parameter name.

    Attributes:
        sums: One dictionary per weight vector: S_k[θ] = Σ_i w_k(i) s_i(θ)², shaped like the parameters.
        totals: Σ_i w_k(i) per weight vector (for `batch_squared` the number of batches).
        samples: How many samples were read.
        estimator: Which Fisher this is.
        saturated: Fraction of the samples whose softmax is exactly 1 at its label (at its most likely class for the
            estimators that do not read labels); they contribute next to nothing.
        functional: Parameters without a closed form, done by torch.func (several times slower).
        logits: Of the samples (n, K), in their order, if they were asked for.
    """

    sums: tuple[dict[str, Tensor], ...]
    totals: tuple[float, ...]
    samples: int
    estimator: str
    saturated: float
    functional: tuple[str, ...] = ()
    logits: Tensor | None = None

    def sum(self, k: int = 0) -> dict[str, Tensor]:
        """Return S_k."""
        return self.sums[k]

    def mean(self, k: int = 0) -> dict[str, Tensor]:
        """Return S_k / Σ_i w_k(i): the Fisher diagonal of the samples with weight.

        Raises:
            InputError: No sample has weight in the k-th vector.
        """
        if self.totals[k] == 0:
            raise InputError(f"Weight vector {k} gives no weight to any sample, so it has no mean. Use sum({k}).")
        return {name: value / self.totals[k] for name, value in self.sums[k].items()}

    def means(self) -> tuple[dict[str, Tensor], ...]:
        """Return the mean of every weight vector, in order."""
        return tuple(self.mean(k) for k in range(len(self.sums)))

    def __add__(self, other: FisherDiagonal) -> FisherDiagonal:
        return self._combined(other, 1)

    def __sub__(self, other: FisherDiagonal) -> FisherDiagonal:
        return self._combined(other, -1)

    def _combined(self, other: FisherDiagonal, sign: int) -> FisherDiagonal:
        if "batch_squared" in (self.estimator, other.estimator):
            raise InputError("batch_squared is no sum over samples: it cannot be added or subtracted. Compute it anew.")
        if self.estimator != other.estimator or len(self.sums) != len(other.sums):
            raise InputError(
                f"A {self.estimator!r} Fisher with {len(self.sums)} sums and a {other.estimator!r} one with "
                f"{len(other.sums)} do not combine. Both must use the same estimator and number of weight vectors."
            )
        sums = tuple(
            {name: (mine[name] + sign * theirs[name]).clamp_(min=0) for name in mine}
            for mine, theirs in zip(self.sums, other.sums, strict=True)
        )
        totals = tuple(a + sign * b for a, b in zip(self.totals, other.totals, strict=True))
        samples = self.samples + sign * other.samples
        saturated = (self.saturated * self.samples + sign * other.saturated * other.samples) / max(1, samples)
        return FisherDiagonal(sums, totals, samples, self.estimator, max(0.0, saturated), self.functional)


def fisher_diagonal(
    model: nn.Module,
    data: Tensor | Batches,
    labels: Tensor | None = None,
    *,
    estimator: Estimator = "empirical",
    sample_weights: SampleWeights | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
    parameters: Iterable[str] | None = None,
    dtype: torch.dtype = torch.float64,
    memory: int = MEMORY,
    chunk: int | None = None,
    fabric: Ranks | None = None,
    keep_logits: bool = False,
) -> FisherDiagonal:
    r"""Return sums over samples of squared per-sample gradients of −log p, for every trainable parameter.

    With s_i(c) = ∂/∂θ [−log p_i(c)] and all squares element-wise, sample i contributes

    - ``empirical``: s_i(y_i)²;
    - ``true``: Σ_c p_i(c) s_i(c)², exact, one backward pass per class, labels are read only for `saturated`;
    - ``mc``: the same with `draws` labels drawn from p_i, unbiased;
    - ``batch_squared``: per *batch*, (mean gradient)². Not a Fisher; it reproduces the importances of SSD's published
      code and depends on the order and the size of the batches, so it takes an iterable of batches only.

    The model is left bit-identical. Closed forms by layer (see `layer_gradients`), torch.func for the rest.

    Args:
        model: Any module from inputs to logits (b, K), in eval mode.
        data: Inputs (n, ...), or an iterable of (inputs, labels) batches such as `part.batches(Epoch(256))`.
        labels: Labels (n,), when `data` is a tensor.
        estimator: Which quantity, see above.
        sample_weights: Several weighted sums in one pass: K vectors (n,) in the order of the samples (zeros leave
            samples out; a forget and a retain indicator give f_F and f_R), or "class" for one sum per class. Default:
            all ones.
        draws: Labels drawn per sample, for `mc`.
        generator: Where `mc` draws from (on the CPU); required for it.
        parameters: Names to cover; default every parameter that requires a gradient.
        dtype: Of the sums: float64 to subtract them later, float32 to halve their memory.
        memory: Budget in bytes for one chunk of samples; the peak above the model and twice the sums is at most this
            plus one sample's activations, and per core one sample's block and unfolded input of a layer and two more
            sums of a layer of at most 4 million weights.
        chunk: Fixed number of samples per chunk instead of the adaptive one.
        fabric: With several processes: every rank passes the same samples, computes its share, and gets the full sums.
        keep_logits: Keep the logits of the pass too, for a caller who would otherwise ask the model again; of one
            process only.

    Returns:
        The sums, with their means at `.mean(k)`.

    Raises:
        InputError: Train mode, BatchNorm without running statistics, NaN losses, an empty set, a parameter that
            receives no gradient, weights of the wrong length, an unknown estimator.
    """
    require_eval(model)
    _require_estimator(estimator, draws, generator)
    if keep_logits and (estimator == "batch_squared" or (fabric is not None and fabric.world_size > 1)):
        raise InputError("keep_logits works with per-sample estimators in one process only. Leave it out.")
    wanted = trainable(model, None if parameters is None else frozenset(parameters))
    if estimator == "batch_squared":
        return _batch_squared(model, wanted, data, labels, sample_weights, dtype)
    rank, world = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
    size, vectors = ChunkSize(memory, chunk, cached=device_of(model).type == "cpu"), SampleWeightVectors(sample_weights)
    samples = saturated = 0
    sums: SquareSums | None = None
    totals: list[Tensor] = []
    kept: list[Tensor] = []
    with Recorder(model, wanted) as recorder:
        drawn = draws if estimator == "mc" else 0
        for part in chunks(model, data, labels, size, rank=rank, world=world, draws=drawn, generator=generator):
            logits = recorder.forward(part.x)
            size.observe(len(part), recorder.held + recorder.handed)
            require_labels(part.y, logits.shape[1])
            if keep_logits:
                kept.append(logits.detach())
            of_chunk = vectors.of(part, logits)
            if sums is None:
                sums = SquareSums(wanted, len(of_chunk), dtype)
                totals = [torch.zeros((), dtype=torch.float64, device=logits.device) for _ in of_chunk]
            totals = [total + w.double().sum() for total, w in zip(totals, of_chunk, strict=True)]
            samples, saturated = samples + len(part), saturated + _saturated(estimator, part, logits)
            _add_chunk(recorder, sums, part, logits, list(passes(estimator, part, logits)), of_chunk)
    assert sums is not None  # `chunks` refuses an empty stream
    counts = reduced(torch.tensor([samples, saturated], device=device_of(model)), fabric)
    samples, saturated = int(counts[0]), int(counts[1])
    vectors.require_length(samples)
    return FisherDiagonal(
        tuple({name: reduced(value, fabric) for name, value in one.items()} for one in sums.finished()),
        tuple(float(reduced(total, fabric)) for total in totals),
        samples,
        estimator,
        saturated / samples,
        tuple(sorted(recorder.rest)),
        torch.cat(kept) if keep_logits else None,
    )


def _require_estimator(estimator: str, draws: int, generator: torch.Generator | None) -> None:
    if estimator not in get_args(Estimator):
        raise InputError(f"Unknown estimator {estimator!r}. {nearest(str(estimator), get_args(Estimator))}")
    if estimator == "mc" and (generator is None or draws < 1):
        raise InputError(f"estimator='mc' needs a torch.Generator and draws >= 1, got draws={draws}. Pass both.")


def _add_chunk(
    recorder: Recorder,
    sums: SquareSums,
    part: Chunk,
    logits: Tensor,
    todo: list[tuple[Tensor, Tensor]],
    sample_weights: list[Tensor],
) -> None:
    """Add Σ over passes of (scale · gradient of −log p(target))², with every weight vector."""
    chosen = [Chosen(w) for w in sample_weights]
    work: list[LayerWork] = []
    sums_of: dict[tuple[nn.Module, int], PieceOfSums] = {}  # one per layer and share of samples, over all passes
    last = False

    def add(layer: LayerWork) -> None:
        names, piece = recorder.layers[layer.module], sums_of[layer.module, layer.first]
        for block in layer_blocks(layer.module, layer.a, layer.g, frozenset(names), sums.workspace):
            piece.add(names, block, chosen, layer.first)
        if last:
            piece.close()

    def begin(layer: LayerWork) -> LayerWork:
        sums_of.setdefault((layer.module, layer.first), sums.piece())
        return layer

    def visit(module: nn.Module, a: Tensor, g: Tensor) -> None:
        if logits.device.type == "cpu":
            work.append(LayerWork(module, a, g))
        else:
            add(begin(LayerWork(module, a, g)))

    rest = {name: name for name in sorted(recorder.rest)}
    for j, (targets, scales) in enumerate(todo):
        last = j + 1 == len(todo)
        losses = target_losses(logits, targets)
        require_finite(losses, part.positions)
        recorder.backward(losses * scales, visit, again=not last)
        together, pieces = shared_out(work, torch.get_num_threads())
        for layer in together:
            add(begin(layer))
        each_on_one_core([functools.partial(add, begin(piece)) for piece in pieces])
        work.clear()
        if rest:
            piece = sums.piece()
            for block in functional_blocks(recorder.model, list(rest), part.x, targets, scales, sums.workspace):
                piece.add(rest, block, chosen)
            piece.close()
            sums.add(piece)
    for piece in sums_of.values():
        sums.add(piece)


def passes(estimator: Estimator, part: Chunk, logits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the (targets, scales), each (b,), whose squared gradients add up to the estimator; scales enter squared."""
    p = torch.softmax(logits.detach().to(torch.promote_types(logits.dtype, torch.float32)), dim=1)
    if estimator == "empirical":
        yield part.y, torch.ones_like(p[:, 0])
    elif estimator == "true":
        for c in range(p.shape[1]):
            yield torch.full_like(part.y, c), p[:, c].sqrt()
    else:
        assert part.uniform is not None
        cumulative = p.double().cumsum(1)
        for u in part.uniform.T:
            drawn = torch.searchsorted(cumulative, (u.double() * cumulative[:, -1]).unsqueeze(1), right=True)
            yield drawn.squeeze(1).clamp_(max=p.shape[1] - 1), torch.full_like(p[:, 0], len(part.uniform.T) ** -0.5)


def _saturated(estimator: Estimator, part: Chunk, logits: Tensor) -> int:
    p = torch.softmax(logits.detach(), dim=1)
    top = p.gather(1, part.y.unsqueeze(1)).squeeze(1) if estimator == "empirical" else p.amax(1)
    return int((top == 1).sum())


def _batch_squared(
    model: nn.Module,
    wanted: dict[str, nn.Parameter],
    data: Tensor | Batches,
    labels: Tensor | None,
    sample_weights: SampleWeights | None,
    dtype: torch.dtype,
) -> FisherDiagonal:
    """Sum over batches of the squared gradient of the batch's *mean* loss, as SSD's published code does."""
    if isinstance(data, Tensor) or labels is not None or sample_weights is not None:
        raise InputError(
            "batch_squared depends on the batches and their order: pass an iterable of (x, y) batches, "
            "without sample_weights."
        )
    sums = {name: torch.zeros(p.shape, dtype=dtype, device=p.device) for name, p in wanted.items()}
    batches = samples = saturated = 0
    for x, y in data:
        for part in chunks(model, [(x, y)], None, ChunkSize(fixed=len(x))):
            with torch.enable_grad():
                logits = model(part.x)
                require_labels(part.y, logits.shape[1])
                losses = target_losses(logits, part.y)
                require_finite(losses, part.positions + samples)
                gradients = torch.autograd.grad(losses.mean(), list(wanted.values()))
            for name, gradient in zip(wanted, gradients, strict=True):
                sums[name].add_(gradient.to(dtype).square_())
            saturated += _saturated("empirical", part, logits)
            batches, samples = batches + 1, samples + len(part)
    if batches == 0:
        raise InputError("The set of samples is empty. Pass at least one batch.")
    return FisherDiagonal((sums,), (float(batches),), samples, "batch_squared", saturated / samples)
