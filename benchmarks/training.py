"""What Efface's training loop costs beside a bare PyTorch one, and what each of its levers gains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import Benchmark
from strokes import strokes
from torch import Tensor, nn

from efface.data import ArraySamples, Augment, Data, Part, Split
from efface.data.epoch import Epoch
from efface.models import lenet5, mlp, resnet18
from efface.models.predictions import logits_of
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.loop import fit
from efface.training.recipe import Recipe

RECIPE = Recipe(lr=0.01, momentum=0.9, weight_decay=5e-4, epochs=1, batch_size=128)


def benchmarks(device: torch.device) -> Iterator[Benchmark]:
    yield _against_bare("MLP 784-1000-10, one epoch of 60,000 images of 28 x 28", mlp, (1, 28, 28), 60_000, device)
    width = 16 if device.type == "cpu" else 64
    yield _against_bare(
        f"ResNet-18 width {width}, 1,280 images of 32 x 32",
        lambda: resnet18(width=width),
        (3, 32, 32),
        1_280,
        device,
    )

    if device.type == "cpu":
        yield from _levers()


def _levers() -> Iterator[Benchmark]:
    """Yield what each option of a recipe gains over the plain loop, for a convolutional network on a CPU."""
    name, against = "training, ResNet-18 width 16, 512 images of 32 x 32", "float32, channels first"
    part = _noise((3, 32, 32), 512)
    network = lambda: resnet18(width=16)  # noqa: E731
    plain = lambda: _fitted(network(), part)  # noqa: E731
    fast = {"channels_last": True, "precision": "bf16-mixed"}
    for said, changes, bar in (
        ("channels last", {"channels_last": True}, 1.1),
        ("bfloat16", {"precision": "bf16-mixed"}, None),
        ("bfloat16, channels last", fast, 1.5),
        ("bfloat16, channels last, crops, flips, one-cycle, average", fast | _RICH, 1.2),
    ):
        yield Benchmark(f"{name}: {said}", against, lambda c=changes: _fitted(network(), part, **c), plain, bar)  # type: ignore[misc]
    both = lambda: _fitted(network(), part, **fast)  # noqa: E731
    yield Benchmark(
        f"{name}: torch.compile, compiled beforehand (not an option)",
        "bfloat16, channels last",
        lambda: _fitted(network(), part, compiled=True, **fast),
        both,
        None,
    )
    rich = lambda: _fitted(network(), part, **fast, augment=_RICH["augment"])  # noqa: E731
    held = _Held(part, _RICH["augment"])
    yield Benchmark(
        f"{name}: batches that cost nothing, the most that preparing them ahead could gain (not an option)",
        "bfloat16, channels last, crops and flips",
        lambda: _fitted(network(), held, **fast),
        rich,
        None,
    )
    yield _as_references()
    damped = _noise((1, 28, 28), 1_280)
    yield Benchmark(
        "training, LeNet-5 repaired from weights damped to 1e-20, 1,280 images: subnormal numbers flushed",
        "as the processor comes",
        lambda: _repaired(damped, flush=True),
        lambda: _repaired(damped, flush=False),
        1.0,
    )


def _as_references() -> Benchmark:
    """Compare how references of LeNet-5 are trained with how they were: PyTorch's pooling, subnormal numbers kept."""
    part = Split.of(strokes(12_800, 100), validation=0.0).train
    recipe = Recipe(optimiser="adam", lr=0.001, weight_decay=0, schedule="cosine", epochs=2, batch_size=128)

    def trained(as_before: bool) -> nn.Module:
        with seeded(0):
            model = lenet5()
        if as_before:
            model.pool1, model.pool2 = nn.AvgPool2d(2), nn.AvgPool2d(2)
        return fit(model, part, recipe, Run(device="cpu"), loss=_unflushed if as_before else None)

    def beside(made: nn.Module) -> str:
        right = float((logits_of(made, part).argmax(1) == part.labels).double().mean())
        weights, again = (nn.utils.parameters_to_vector(m.parameters()).detach() for m in (made, trained(True)))
        far = float((weights - again).abs().max())
        return f"training accuracy {right:.3f}; largest difference between weights of the two ways {far:.1g}"

    return Benchmark(
        "training, LeNet-5 with Adam as references are, 200 steps of 128",
        "PyTorch's average pooling, subnormal numbers kept",
        ours=lambda: trained(False),
        naive=lambda: trained(True),
        bar=1.1,
        aim=2.0,
        repeats=7,
        remark=beside,
    )


def _unflushed(wrapped: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    torch.set_flush_denormal(False)
    return nn.functional.cross_entropy(wrapped(x), y)


_RICH: dict[str, Any] = {"augment": Augment(crop=4, flip=True), "schedule": "one-cycle", "average": 0.02}


class _Held:
    """Batches made once and given out again."""

    def __init__(self, part: Part, augment: Augment) -> None:
        draw = torch.Generator().manual_seed(0)
        epoch = Epoch(RECIPE.batch_size, generator=draw, augment=augment)
        self.made = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in part.batches(epoch)]
        self.size = len(part)

    def __len__(self) -> int:
        return self.size

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield them in their order."""
        yield from self.made


def _fitted(model: nn.Module, part: Any, compiled: bool = False, **changes: Any) -> nn.Module:
    recipe = RECIPE.but(**changes)
    run = Run(device="cpu", precision=recipe.precision)
    loss = None
    if compiled:
        step = _compiled(type(model))
        loss = lambda wrapped, x, y: step(wrapped.module, x, y)  # noqa: E731
    return fit(model, part, recipe, run, loss=loss)


@functools.cache
def _compiled(kind: type[nn.Module]) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """Return forward pass and loss, compiled at the first call and kept for models of the same kind."""

    def step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return nn.functional.cross_entropy(model(x), y)

    return torch.compile(step)


def _repaired(part: Part, flush: bool) -> nn.Module:
    """Train a network that was damped; the loop flushes, so that the way without takes that back at every step."""
    with seeded(0):
        model = lenet5()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1e-20)

    return fit(model, part, RECIPE, Run(device="cpu"), loss=None if flush else _unflushed)


def _against_bare(
    name: str, network: Callable[[], nn.Module], shape: tuple[int, ...], samples: int, device: torch.device
) -> Benchmark:
    part = _noise(shape, samples)
    x, y = part.samples.inputs, part.labels  # type: ignore[attr-defined]
    return Benchmark(
        f"training, {name}",
        "bare loop over tensors",
        naive=lambda: _bare(network().to(device), x.to(device), y.to(device)),
        ours=lambda: fit(network(), part, RECIPE, Run(device=str(device))),
        bar=0.5,
        repeats=3,
    )


def _noise(shape: tuple[int, ...], samples: int) -> Part:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (samples, *shape), generator=draw, dtype=torch.uint8)
    held = ArraySamples(x, torch.randint(10, (samples,), generator=draw))
    return Split.of(Data("noise", held, held, tuple(map(str, range(10)))), validation=0.0).train


def _bare(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """One epoch with pixels scaled beforehand: as little as a loop can do."""
    scaled = x.float() / 255
    optimiser = torch.optim.SGD(model.parameters(), RECIPE.lr, RECIPE.momentum, weight_decay=RECIPE.weight_decay)
    model.train()
    for batch in torch.randperm(len(x), device=x.device).split(RECIPE.batch_size):
        loss = nn.functional.cross_entropy(model(scaled[batch]), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model
