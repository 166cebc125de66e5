"""Images made by gradient descent on the pixels: what a model is surest is, or is not, a given class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.data import Part
from efface.data.epoch import Epoch
from efface.models.mode import evaluating
from efface.running.run import Run
from efface.running.seeding import seeded

__all__ = ["Aim", "NoiseMix", "class_noise", "noise_objective"]

Aim = Literal["maximise", "minimise"]
"""What is done to a class's cross-entropy: maximised for a class to forget, minimised for a stand-in of its images."""

NUMBERS_PER_FORWARD = 2**25
"""Input numbers per forward pass (8192 images of 3 x 32 x 32): bounds memory; the gradient is the same for any."""


def noise_objective(logits: Tensor, noise: Tensor, labels: Tensor, signs: Tensor, weight: float) -> Tensor:
    """Return the mean over the batch of s CE(f(N_b), c_b) + weight ||N_b||^2, for each class of noise.

    Args:
        logits: (C, B, K), the model's answers.
        noise: (C, B, ...), the images.
        labels: (C,) int64, the class each row is about.
        signs: (C,), -1 to maximise the cross-entropy, +1 to minimise it.
        weight: Pull towards small images (lambda); the square is summed over channels and pixels.

    Returns:
        (C,) objectives, to be minimised.
    """
    error = F.cross_entropy(logits.transpose(1, 2), labels[:, None].expand(logits.shape[:2]), reduction="none")
    return signs * error.mean(1) + weight * noise.flatten(2).square().sum(2).mean(1)


def class_noise(
    model: nn.Module,
    classes: Sequence[int],
    aims: Sequence[Aim],
    input_shape: Sequence[int],
    run: Run,
    *,
    batch: int = 256,
    steps: int = 40,
    lr: float = 0.1,
    weight: float = 0.1,
    train_mode: bool = False,
    stage: str = "noise",
) -> Tensor:
    """Learn a batch of noise images for every class, all classes together.

    N_c ~ N(0, 1) of shape (batch, *input_shape), then `steps` steps of Adam on J(N_c) = s CE(f(N_c), c) +
    weight ||N_c||^2 (see `noise_objective`). Adam works element by element and no image sees another (in eval mode),
    so learning the classes together gives what learning each alone would. The model's weights get no gradient.

    Args:
        model: From inputs to logits, on the run's device. Its weights never change.
        classes: Class numbers.
        aims: For each class, whether its cross-entropy is maximised or minimised.
        input_shape: Shape of one input.
        run: Device, randomness (purpose `stage`), history (mean objective of every step).
        batch: Images per class.
        steps: Steps of Adam.
        lr: Adam's learning rate.
        weight: Pull towards small images.
        train_mode: Run the model in train mode, as the official UNSIR code does: each class's images are then
            normalised by their own batch, and BatchNorm's running statistics take them in.
        stage: Name in the history, and of the random draws.

    Returns:
        (len(classes), batch, *input_shape) float32 on the run's device: not images, and not clipped to be ones.

    Source: Tarun et al., "Fast Yet Effective Machine Unlearning", arXiv 2111.08947, section IV.
    """
    shape = (len(classes), batch, *input_shape)
    noise = torch.randn(shape, generator=run.generator(stage)).to(run.device).requires_grad_(True)
    labels = torch.tensor(list(classes), device=run.device)
    signs = torch.tensor([1.0 if aim == "minimise" else -1.0 for aim in aims], device=run.device)
    optimiser = torch.optim.Adam([noise], lr=lr)
    # In train mode BatchNorm would mix the classes, so each gets a forward pass of its own.
    rows = 1 if train_mode else max(1, NUMBERS_PER_FORWARD // noise[0].numel())
    with evaluating(model), seeded(run.number(f"{stage}/dropout")):
        model.train(train_mode)
        for step in run.track(range(steps), f"{stage} ({len(classes)} classes x {batch} images)", steps):
            noise.grad = torch.zeros_like(noise)
            total = 0.0
            for chosen in torch.arange(len(classes), device=run.device).split(rows):
                part = noise.detach()[chosen].requires_grad_(True)
                with run.fabric.autocast():
                    logits = model(part.flatten(0, 1))
                logits = logits.float().reshape(len(chosen), batch, -1)
                objective = noise_objective(logits, part, labels[chosen], signs[chosen], weight)
                noise.grad[chosen] = torch.autograd.grad(objective.sum(), part)[0]
                total += float(objective.detach().sum())
            optimiser.step()
            run.history.add(stage, step=step, objective=total / len(classes))
    return noise.detach()


class NoiseMix:
    """Noise images with their labels, each given several times over, shuffled into real samples (or none).

    An image is indexed, not copied: repeating it costs no memory. Augmentation is for the real samples alone.

    Args:
        noise: (C, B, ...) images.
        classes: The label of each of the C rows.
        copies: How often an image appears in one epoch.
        part: Real samples to mix in, or None.
    """

    def __init__(self, noise: Tensor, classes: Sequence[int], copies: int = 1, part: Part | None = None) -> None:
        self.images = noise.flatten(0, 1)
        self.labels = torch.tensor(list(classes)).repeat_interleave(noise.shape[1]).to(noise.device)
        self.copies = copies
        self.part = part

    @property
    def noise_samples(self) -> int:
        """How many of an epoch's samples are noise."""
        return len(self.images) * self.copies

    def __len__(self) -> int:
        return self.noise_samples + (0 if self.part is None else len(self.part))

    def batches(self, epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch; see `Part.batches`."""
        device = epoch.device
        order = [epoch.share(b) for b in epoch.order(len(self))]
        chosen = [b[b < self.noise_samples] % max(1, len(self.images)) for b in order]
        others = [b[b >= self.noise_samples] - self.noise_samples for b in order]
        if self.part is None:
            for picked in chosen:
                yield self._noise(picked, device)
            return
        labels = self.part.labels.to(device)
        real = self.part.read(others, epoch)
        for picked, positions, x in zip(chosen, others, real, strict=True):
            images, own = self._noise(picked, device)
            yield torch.cat([images, x]), torch.cat([own, labels[positions.to(labels.device)]])

    def _noise(self, picked: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
        picked = picked.to(self.images.device)
        return self.images[picked].to(device), self.labels[picked].to(device)
