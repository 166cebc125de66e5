"""Time-inspired decay: find the units that a class depends on, and let them fade step by step."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.importance import (
    Granularity,
    Unit,
    ablation_importance,
    screened_importance,
    screening_scores,
    seconds_of_ablation,
    unit_list,
)
from efface.methods.method import Axis, Expense, Method, Needs
from efface.models.predictions import accuracy_of
from efface.running.run import Run
from efface.training.loop import Trainer
from efface.training.recipe import Recipe
from efface.words import duration

__all__ = ["Decay", "fade"]

_BATCH = 512  # samples per forward pass where nothing is trained
_STRETCH = 50  # batches between two signs of progress
_PATIENCE = 600.0  # seconds that exact importance may take before units are screened
_SCREENED = 2.0  # then, this many times the wanted units are candidates
_MEASURED = 5000  # training samples that stand in for a missing validation part


class Watch(NamedTuple):
    """The parts on which the history's accuracies are measured; no retained one where these settings may read none."""

    forget: Part
    retain: Part | None


@dataclass(frozen=True)
class Decay(Method):
    """Multiply the units most important for the classes to forget by exp(−λ), again and again, until they are gone.

    A unit is an output filter of a convolution or an output neuron of a linear layer: weight slice and bias. Its
    importance is accuracy on the importance set before minus accuracy with that unit alone set to zero. The top
    fraction, chosen once, decays by exp(−λ Δt), Δt = 1, for up to `steps` steps, until the accuracy on the classes to
    forget is below `threshold`.

    Source: A. Kaluri, "Time Inspired Decay Mechanism for Machine Unlearning with Importance Estimation".

    Attributes:
        units: `filter` (filters and neurons, as published), `neuron` (linear layers only) or `weight` (single weights).
        importance_from: Importance set: `forget` (the classes to forget) or `all` training data.
        importance_fraction: Share of each class of the importance set that is used.
        conv_bias: Zero a filter's bias, too, when its importance is measured; False is the author's code.
        screen: Ablate only this many times the wanted units, the best by first-order score; None ablates all; `auto`
            ablates all if that takes some 10 minutes at most, else twice the wanted, else takes the best by score.
        top: Share of the units that decays.
        rate: λ, per step.
        steps: Most steps.
        threshold: Accuracy on the classes to forget below which decay stops.
        fine_tune: `none`; `after_all` steps; `after_each` step; `only` fine-tunes and never decays (a control).
        batches: Batches after each step, for `after_each`.
        epochs: Passes over the retained data, for `after_all` and `only`.
        lr: Learning rate of Adam in fine-tuning.
        random: Decay as many units drawn at random (a control), never the set that importance picks.
    """

    units: Granularity = "filter"
    importance_from: Literal["forget", "all"] = "forget"
    importance_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    conv_bias: bool = True
    screen: Annotated[float, Field(ge=1, allow_inf_nan=False)] | Literal["auto"] | None = "auto"
    top: Annotated[float, Field(gt=0, le=1)] = 0.10
    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.2
    steps: Annotated[int, Field(ge=1)] = 40
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.05
    fine_tune: Literal["none", "after_all", "after_each", "only"] = "after_each"
    batches: Annotated[int, Field(ge=1)] = 21
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    random: bool = False

    name: ClassVar[str] = "decay"
    needs: ClassVar[Needs] = Needs(targets=("classes",), forget=True, retain=True, validation=True)
    cost: ClassVar[str] = "O(units × N_F) for importance, then O(steps)"
    memory: ClassVar[str] = "4 P + A, and up to 512 MiB for ablation"
    expense: ClassVar[Expense] = "retain epochs"
    source: ClassVar[str] = "A. Kaluri, Time Inspired Decay Mechanism for Machine Unlearning"
    moves_batch_norm: ClassVar[bool] = True  # by fine-tuning; without it the statistics stay
    space: ClassVar[Mapping[str, Axis]] = {
        "top": Axis(0.02, 0.4),
        "rate": Axis(0.05, 0.5),
        "steps": Axis(5, 60),
        "lr": Axis(1e-05, 0.01, log=True),
    }

    def reads(self) -> tuple[str, ...]:
        """Retained data is read only to fine-tune or to measure importance on all classes."""
        retain = self.fine_tune != "none" or self.importance_from == "all"
        return ("forget", "validation", *(["retain"] if retain else []))

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy whose most important units for the classes to forget have faded."""
        model = run.copied(artifact.model).eval()
        watch = self._watch(split, run)
        self._measure(model, watch, run, "decay/before", batches=0)
        recipe = artifact.record.recipe.but(
            optimiser="adam", lr=self.lr, weight_decay=0.0, schedule="constant", epochs=self.epochs
        )
        if self.fine_tune == "only":
            return self._tuned(model, split, recipe, run, watch)
        units = self._chosen(model, split, run)
        trainer = (
            Trainer(model, split.retain, recipe, run, stage="decay/fine-tune")
            if self.fine_tune == "after_each"
            else None
        )
        for step in run.track(range(1, self.steps + 1), "decay", self.steps):
            fade(model, units, math.exp(-self.rate))
            if trainer is not None:
                trainer.advance(self.batches)
            used = 0 if trainer is None else trainer.step
            left = self._measure(model, watch, run, "decay", step=step, batches=used)
            if left < self.threshold:
                run.note(f"decay: forget accuracy {left:.1%} after {step} steps, below {self.threshold:.0%}")
                break
        else:
            run.fail(
                f"decay: forget accuracy is still {left:.1%} after all {self.steps} steps; the threshold "
                f"{self.threshold:.0%} was not reached"
            )
        return self._tuned(model, split, recipe, run, watch) if self.fine_tune == "after_all" else model

    def _tuned(self, model: nn.Module, split: Split, recipe: Recipe, run: Run, watch: Watch) -> nn.Module:
        trainer = Trainer(model, split.retain, recipe, run, stage="decay/fine-tune")
        starts = range(0, trainer.total_steps, _STRETCH)
        for start in run.track(starts, "decay: fine-tuning", len(starts)):
            trainer.advance(min(_STRETCH, trainer.total_steps - start))
        self._measure(model, watch, run, "decay/after", batches=trainer.step)
        return model

    def _chosen(self, model: nn.Module, split: Split, run: Run) -> list[Unit]:
        """Return the units to decay, chosen once."""
        units = [u for u in unit_list(model, self.units) if model.get_submodule(u.layer).weight.requires_grad]
        if not self.conv_bias:
            units = [u if _linear(model, u) else dataclasses.replace(u, keep_bias=True) for u in units]
        if not units:
            raise InputError("decay: every layer with such units is frozen (requires_grad is False); unfreeze one")
        count = max(1, int(self.top * len(units) + 1e-9))
        part = split.forget if self.importance_from == "forget" else split.train
        part = _of_each_class(part, self.importance_fraction, run.generator("decay/importance set"))
        best = self._best(model, units, count, part, split.forget_classes, run)
        if not self.random:
            return best
        if count == len(units):
            raise InputError(
                f"top={self.top:g} takes all {count} units, so there is no random set beside it; lower top"
            )
        generator = run.generator("decay/random units")
        while True:
            drawn = [units[i] for i in torch.randperm(len(units), generator=generator)[:count].tolist()]
            if set(drawn) != set(best):
                run.note(f"decay: control with random units; {len(set(drawn) & set(best))} of them are among the top")
                return drawn

    def _best(
        self, model: nn.Module, units: list[Unit], count: int, part: Part, classes: tuple[int, ...], run: Run
    ) -> list[Unit]:
        """Return the units that are worth most on a part, by exact importance where that is to be had in time."""
        epoch = Epoch(_BATCH, device=run.device)
        screen = self.screen
        if screen == "auto":
            x, _ = next(part.take([0]).batches(epoch))
            expected = seconds_of_ablation(model, x, units, len(part))
            screen = None if expected <= _PATIENCE else _SCREENED
            if screen is not None:
                share = screen * count / len(units)
                run.note(
                    f"decay: exact importance of all {len(units)} units is expected to take {duration(expected)}, more "
                    f"than {duration(_PATIENCE)}; first-order scores choose among them (`screen: null` ablates all)"
                )
                if share * expected > _PATIENCE:
                    return self._by_score(model, units, count, part, run)
        with run.progress.meter("decay: what units are worth", len(part)) as done:
            if screen is None:
                found = ablation_importance(model, part.batches(epoch), units=units, classes=classes, done=done)
            else:
                found = screened_importance(
                    model, part.batches(epoch), top=count, candidates=screen, units=units, classes=classes, done=done
                ).importance
        best = found.top(count)
        slow = [layer for layer, route in found.routes.items() if route == "naive"]
        run.note(
            f"decay: {count} of {len(units)} units chosen by the exact importance of "
            f"{'all' if screen is None else len(found.units)} on {len(part)} samples; the first is "
            f"{best[0].layer}{list(best[0].index)}, worth {float(found.accuracy_drop.max()):.1%}"
            + (f"; a full pass per unit was needed in {', '.join(slow)}" if slow else "")
        )
        return best

    def _by_score(self, model: nn.Module, units: list[Unit], count: int, part: Part, run: Run) -> list[Unit]:
        batches = part.batches(Epoch(_BATCH, device=run.device))
        scores = screening_scores(model, batches, units=units)
        best = torch.argsort(scores, descending=True, stable=True)[:count].tolist()
        run.note(
            f"decay: {count} of {len(units)} units chosen by first-order score alone on {len(part)} samples: exact "
            f"importance of twice as many would take too long as well (`screen: 2` asks for it)"
        )
        return [units[row] for row in best]

    def _watch(self, split: Split, run: Run) -> Watch:
        forget, retain = split.validation_forget, split.validation_retain
        if len(forget) and len(retain):
            return Watch(forget, retain)
        generator = run.generator("decay/watched")
        may_read = "retain" in self.reads()
        run.note(
            "decay: there is no validation part; the early stop and the history's accuracies are on training data"
            + ("" if may_read else "; retained accuracy is not measured, for no retained data is read")
        )
        return Watch(
            split.forget.sample(_MEASURED, generator), split.retain.sample(_MEASURED, generator) if may_read else None
        )

    def _measure(self, model: nn.Module, watch: Watch, run: Run, stage: str, **numbers: float) -> float:
        """Add a row to the history; return the forget accuracy."""
        forget = accuracy_of(model, watch.forget)
        if watch.retain is not None:
            numbers["retain_accuracy"] = accuracy_of(model, watch.retain)
        run.history.add(stage, **numbers, forget_accuracy=forget)
        return forget


def _linear(model: nn.Module, unit: Unit) -> bool:
    return isinstance(model.get_submodule(unit.layer), nn.Linear)


def fade(model: nn.Module, units: list[Unit], factor: float) -> None:
    """Multiply the weights of units, and the biases of whole filters and neurons, by a factor, in place.

    Frozen parameters stay.

    Args:
        model: Holds the units.
        units: Distinct units; a single weight leaves its layer's bias alone.
        factor: exp(−λ Δt).
    """
    of_layer: dict[tuple[str, bool], list[tuple[int, ...]]] = defaultdict(list)
    for unit in units:
        of_layer[unit.layer, len(unit.index) == 1].append(unit.index)
    with torch.no_grad():
        for (name, whole), indices in of_layer.items():
            layer = model.get_submodule(name)
            parameters = (layer.weight, layer.bias) if whole else (layer.weight,)
            for parameter in parameters:
                if isinstance(parameter, Tensor) and parameter.requires_grad:
                    at = tuple(torch.tensor(indices, device=parameter.device).T)
                    parameter[at] = parameter[at] * factor


def _of_each_class(part: Part, fraction: float, generator: torch.Generator) -> Part:
    """Return this fraction of every class of a part, at least one sample of each."""
    if fraction == 1:
        return part
    chosen = []
    for c in part.labels.unique().tolist():
        positions = (part.labels == c).nonzero()[:, 0]
        shuffled = positions[torch.randperm(len(positions), generator=generator)]
        chosen.append(shuffled[: max(1, round(fraction * len(positions)))])
    return part.take(torch.cat(chosen).sort().values)
