"""Gated knowledge transfer: a new network learns from images that a generator makes, less those of the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError
from efface.mechanisms.distillation import kl
from efface.methods.method import Axis, Expense, Method, Needs
from efface.methods.zero_shot_gkt.generator import Generator, attention_gap, gate, stages
from efface.models.batch_norm import batch_norms, recompute_statistics
from efface.models.reset import reset
from efface.running.run import Run
from efface.running.seeding import seeded

__all__ = ["ZeroShotGKT"]

PATIENCE = 100
"""Empty batches in a row after which the generator goes back to an earlier state [official code]."""

SNAPSHOT = 10
"""Pseudo-batches between two looks at the leak, and between two states that the student may go back to."""


@plain
class Players:
    """Teacher, student and generator, and the two optimisers."""

    teacher: nn.Module
    student: nn.Module
    generator: Generator
    student_steps: torch.optim.Optimizer
    generator_steps: torch.optim.Optimizer


@dataclass(frozen=True)
class ZeroShotGKT(Method):
    """Distil the original into a freshly initialised network on generated images that pass a gate; read no data at all.

    x = G(z), z ~ N(0, I);   gate: keep x if max over forgotten f of softmax(T(x))_f <= gate
    D   = mean KL(softmax(t) || softmax(s)) / K;    att = sum over stages of mean (A(s) - A(t))^2, A = attention map
    G:  maximise D, `generator_steps` times;    S:  minimise D + attention_weight att, `student_steps` times

    The same z serves all steps of a pseudo-batch; both nets clip gradients at norm 5. Only the teacher's weights, the
    input shape and the class numbers are used.

    The result is a new network: its kept accuracy is bounded by what generated images can teach. Forgetting is
    transient; see `leak`.
    Source: Chundawat, Tarun, Mandal, Kankanhalli, "Zero-Shot Machine Unlearning", IEEE TIFS 2023, arXiv 2201.05629.

    Attributes:
        pseudo_batches: Most rounds of the game.
        batch_size: Images per round, before the gate.
        gate: epsilon, the probability of a forgotten class above which an image is dropped; what matters most.
        generator_steps: Steps of the generator per round; student_steps: of the student.
        lr: Adam's learning rate of both.
        attention_weight: Weight of the attention term (beta).
        clip_norm: Largest gradient norm of both.
        generator_width: Channels of the generator.
        mask_targets: Set the teacher's logits of forgotten classes to -inf before the softmax.
        skip_last_stage: Leave the last stage, the richest in class features, out of the attention term.
        leak: Share of recognised forgotten images at which the run ends; 1 never ends it early.
    """

    pseudo_batches: Annotated[int, Field(ge=0)] = 4000
    batch_size: Annotated[int, Field(ge=2)] = 256
    gate: Annotated[float, Field(gt=0, le=1)] = 0.01
    generator_steps: Annotated[int, Field(ge=1)] = 1
    student_steps: Annotated[int, Field(ge=1)] = 10
    lr: Annotated[float, Field(ge=0)] = 1e-3
    attention_weight: Annotated[float, Field(ge=0)] = 250.0
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    generator_width: Annotated[int, Field(ge=2)] = 128
    mask_targets: bool = False
    skip_last_stage: bool = False
    leak: Annotated[float, Field(gt=0, le=1)] = 0.01

    name: ClassVar[str] = "zero-shot-gkt"
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(P (n_G + n_S) B), no data; as long as training"
    memory: ClassVar[str] = "5 P + 3 A, and a generator with Adam"
    expense: ClassVar[Expense] = "training"
    source: ClassVar[str] = "gated knowledge transfer, arXiv 2201.05629"
    makes_inputs: ClassVar[bool] = True
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "lr": Axis(0.0001, 0.01, log=True),
        "gate": Axis(0.0001, 0.2, log=True),
    }

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise an `InputError` if no images can be made, or no fresh student."""
        if len(split.data.input_shape) != 3:
            raise InputError(
                f"zero-shot-gkt generates images (channels, height, width); these inputs are {split.data.input_shape}. "
                "Use zero-shot-noise, which takes any shape"
            )
        frozen = [name for name, p in artifact.model.named_parameters() if not p.requires_grad]
        if frozen:
            raise InputError(
                f"zero-shot-gkt trains a new network, but {frozen[0]} and {len(frozen) - 1} more parameters are frozen "
                "(requires_grad is off); unfreeze them, or use zero-shot-noise"
            )
        try:
            reset(artifact.model, 0)
        except InputError as error:
            raise InputError(f"zero-shot-gkt needs a fresh student. {error} Or use zero-shot-noise") from None

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the student."""
        players = self._players(artifact, split, run)
        draws = run.generator("zero-shot-gkt/z")
        student, kept = players.student, _state(players.student)
        earlier, empty, leak, armed = _state(players.generator), 0, 1.0, False
        with seeded(run.number("zero-shot-gkt/dropout")):
            for step in run.track(range(self.pseudo_batches), self.name, self.pseudo_batches):
                z = torch.randn(self.batch_size, players.generator.size, generator=draws).to(run.device)
                for _ in range(self.generator_steps):
                    self.generator_step(players, z, split.forget_classes)
                losses, seen, recognised = self.student_round(players, z, split.forget_classes)
                empty = 0 if losses else empty + 1
                if empty == PATIENCE:
                    players.generator.load_state_dict(earlier)
                if empty == 2 * PATIENCE:
                    raise InputError(
                        f"zero-shot-gkt: the gate {self.gate} dropped every image of {empty} batches in a row; "
                        "raise it, or use zero-shot-noise"
                    )
                if seen:
                    leak = 0.9 * leak + 0.1 * recognised / seen
                if losses:
                    run.history.add(self.name, step=step, loss=losses[-1], leak=leak, taken_for_forgotten=seen)
                if step % SNAPSHOT == SNAPSHOT - 1 and losses:
                    earlier = _state(players.generator)
                    armed = armed or leak < self.leak
                    if armed and leak > self.leak:
                        student.load_state_dict(kept)
                        run.note(
                            f"{self.name}: ended at round {step + 1}, as the class began to come back ({leak:.0%})"
                        )
                        break
                    kept = _state(student)
            self._statistics(players, split, run)
        return student.eval()

    def generator_step(self, players: Players, z: Tensor, classes: tuple[int, ...]) -> None:
        """Move the generator towards images on which the student disagrees; nothing happens if fewer than two pass."""
        images = players.generator.train()(z)
        target = players.teacher(images)
        passed = gate(target.detach(), classes, self.gate)
        if int(passed.sum()) < 2:
            return
        loss = -self.divergence(target[passed], players.student.train()(images[passed]), classes)
        players.generator_steps.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(players.generator.parameters(), self.clip_norm)
        players.generator_steps.step()

    def student_round(self, players: Players, z: Tensor, classes: tuple[int, ...]) -> tuple[list[float], int, int]:
        """Teach the student on the images of one z.

        Returns:
            The loss of each step (none if fewer than two images pass), how many images the teacher takes for a
            forgotten class, and how many of those the student does too.
        """
        with torch.no_grad(), stages(players.teacher) as seen_by_teacher:
            images = players.generator.train()(z)
            target = players.teacher(images)
        theirs = torch.isin(target.argmax(1), torch.tensor(classes, device=z.device))
        recognised = 0
        if theirs.any():
            with torch.no_grad():
                answers = players.student.eval()(images[theirs])
            recognised = int(torch.isin(answers.argmax(1), torch.tensor(classes, device=z.device)).sum())
        passed = gate(target, classes, self.gate)
        losses: list[Tensor] = []
        if int(passed.sum()) >= 2:
            images, target = images[passed], target[passed]
            maps = [a[passed] for a in seen_by_teacher]
            maps = maps[:-1] if self.skip_last_stage else maps
            players.student.train()
            with stages(players.student) as seen_by_student:
                for _ in range(self.student_steps):
                    seen_by_student.clear()
                    loss = self.divergence(target, players.student(images), classes)
                    if self.attention_weight and maps:
                        loss = loss + self.attention_weight * attention_gap(seen_by_student[: len(maps)], maps)
                    players.student_steps.zero_grad(set_to_none=True)
                    loss.backward()
                    nn.utils.clip_grad_norm_(players.student.parameters(), self.clip_norm)
                    players.student_steps.step()
                    losses.append(loss.detach())
        return [float(v) for v in losses], int(theirs.sum()), recognised

    def divergence(self, teacher: Tensor, student: Tensor, classes: tuple[int, ...]) -> Tensor:
        """Return D, the batch mean of KL(softmax(t) || softmax(s)) / K, for logits (n, K)."""
        if self.mask_targets:
            teacher = teacher.index_fill(1, torch.tensor(classes, device=teacher.device), -torch.inf)
        return kl(teacher, student).mean() / teacher.shape[1]

    def _players(self, artifact: Artifact, split: Split, run: Run) -> Players:
        teacher = run.copied(artifact.model).eval().requires_grad_(False)
        student = reset(artifact.model, run.generator("zero-shot-gkt/student")).to(run.device)
        with seeded(run.generator("zero-shot-gkt/generator")):
            generator = Generator(split.data.input_shape, self.generator_width).to(run.device)
        return Players(
            teacher,
            student,
            generator,
            torch.optim.Adam(student.parameters(), lr=self.lr),
            torch.optim.Adam(generator.parameters(), lr=self.lr),
        )

    def _statistics(self, players: Players, split: Split, run: Run) -> None:
        """Compute the student's BatchNorm statistics anew on gated images."""
        if not batch_norms(players.student):
            return
        draws, batches = run.generator("zero-shot-gkt/statistics"), []
        for _ in range(20):
            z = torch.randn(self.batch_size, players.generator.size, generator=draws).to(run.device)
            with torch.no_grad():
                images = players.generator(z)
                target = players.teacher(images)
            images = images[gate(target, split.forget_classes, self.gate)]
            if len(images) > 1:
                batches.append((images, images))
        if batches:
            recompute_statistics(players.student, batches)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}
