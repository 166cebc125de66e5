"""ARCANE: one one-class model per class, trained on that class alone; a deletion touches its class and no other."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import MODEL, Artifact
from efface.artifact.record import Record
from efface.data import Augment, Part, Split
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.members import Member, train_members
from efface.mechanisms.shards import Shards, first_touched, require_passes, require_unfrozen, seeded_as, states_of
from efface.methods.arcane.one_class import Distance, OneClassClassifier, Score, Subspace, fit_subspace, one_class
from efface.methods.arcane.selection import most_informative
from efface.methods.method import Expense, Method, Needs
from efface.models.reset import reset
from efface.running.run import Run
from efface.running.threads import one_thread
from efface.training.recipe import Recipe

__all__ = ["Arcane"]

CHOSEN = "arcane/chosen"
"""Positions of the records that are trained on, in the memory, where they were chosen by entropy."""

GUARANTEES = {
    "entropy": "; deletions are exact beside this choice only, in which all records had a part",
    "recompute": ", anew at every deletion, which stays exact",
}

HOW = "train with `efface train --method arcane`, or use retrain"


@dataclass(frozen=True)
class Arcane(Method):
    """Train one one-class model per class on that class alone; forget an item in its class, and a class by dropping it.

    Logits -a_k(x) / t_k:  `pca` ‖(I - VVᵀ)(x - μ)‖², V the top q axes;  `autoencoder` ‖x - dec(enc x)‖²;
    `svdd` ‖φ(x) - c‖². The last two train on blocks 1..t of the class for t = 1..T, e_t epochs as SISA, the state kept
    before each block enters; `pca` is computed anew. t_k is 1, or the 90 % quantile of a_k on the class.

    Exact: bit for bit what training on the reduced data with the same seeds gives; other classes' models stay as they
    are. A network given is not used, nor is the recipe. From raw pixels of natural images one-class models are weak:
    do not expect the accuracy of a supervised network.

    Source: Yan et al., "ARCANE", IJCAI 2022, which has no code and no pseudo-code: models, sizes and rates are ours.
    All data is used unless `share` is below 1: by `draw`, each record's own, which stays exact; by the paper's
    `entropy`, which does not, as whether a record is chosen depends on the others; by `recompute`, anew, exactly.

    Attributes:
        score: Training: `pca`, `autoencoder` or `svdd`.
        size: Training: q of `pca`; the middle's width of the others. 15 suits 8 x 8 digits, 30 MNIST.
        blocks: Training: T, for `autoencoder` and `svdd`.
        epochs: Training: E.
        lr: Training: constant rate of Adam.
        batch_size: Training: samples per step.
        calibrate: Training: divide by the quantile: `auto` for the autoencoder only, `on`, `off`.
        share: Training: part of each class that is trained on.
        selection: Training: which part. By `draw` and `entropy`, a record outside of it is deleted without any work.
    """

    score: Score = "pca"
    size: Annotated[int, Field(ge=1)] = 15
    blocks: Annotated[int, Field(ge=1)] = 5
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    batch_size: Annotated[int, Field(ge=1)] = 128
    calibrate: Literal["auto", "on", "off"] = "auto"
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    selection: Literal["draw", "entropy", "recompute"] = "draw"

    name: ClassVar[str] = "arcane"
    needs: ClassVar[Needs] = Needs(
        targets=("classes", "items"), retain=True, prepared="one-class models trained apart, with their checkpoints"
    )
    cost: ClassVar[str] = "O(1) for a class; for items O(E n_k) per class touched, two thirds of it on average"
    memory: ClassVar[str] = "4 P / K + A: Adam on one model; beside it (T - 1) P stored"
    expense: ClassVar[Expense] = "retain epochs"
    at_training: ClassVar[tuple[str, ...]] = (
        "score",
        "size",
        "blocks",
        "epochs",
        "lr",
        "batch_size",
        "calibrate",
        "share",
        "selection",
    )
    source: ClassVar[str] = "ARCANE, IJCAI 2022"
    apart: ClassVar[bool] = True

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train one model per class on what the split retains; return the classifier and its checkpoints."""
        if self.score != "pca":
            require_passes(self.name, self.epochs, self.blocks, "blocks")
        every = range(len(split.data.classes))
        kept = {CHOSEN: self._chosen(every, split, run)} if self._by_entropy else {}
        dealt = self._dealt(split, run, kept.get(CHOSEN))
        made = self._architecture(split.data.input_shape, len(every)).to(run.device)
        memory = self._train_classes(made, dict.fromkeys(every, 0), kept, dealt, split, run)
        if self._by_entropy:
            chosen, all_of_it = len(kept[CHOSEN]), len(split.retain)
            run.note(f"arcane: {chosen} of {all_of_it} records were chosen by entropy{GUARANTEES[self.selection]}")
        run.note(f"arcane: {int(made.present.sum())} one-class models ({self.score}); the network given is not used")
        return made, memory

    def rebuild(self, model: nn.Module, record: Record) -> nn.Module:
        """Return the classifier of one-class models."""
        if record.action != "train":
            return model
        return self._architecture(record.data.input_shape, len(record.data.classes))

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if the artifact holds no one-class models trained by this method, or frozen ones."""
        self._training(artifact)
        require_unfrozen(artifact.model, self.name)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the classifier with the classes touched trained again or dropped; see `forget_and_keep`."""
        return self.forget_and_keep(artifact, split, run)[0]

    def forget_and_keep(self, artifact: Artifact, split: Split, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train the classes touched again from their first block touched; drop those that are left without data."""
        assert split.resolved is not None
        step, trained_by = self._training(artifact)
        own = seeded_as(run, step.seed)
        made = run.copied(artifact.model)
        assert isinstance(made, OneClassClassifier)
        asked = np.setdiff1d(split.resolved.indices, np.union1d(split.held_out, split.gone))
        memory = trained_by._chosen_without(asked, artifact, split, own)
        dealt = trained_by._dealt(split, own, memory.get(CHOSEN))
        changed = asked
        if trained_by._by_entropy:  # what was trained on and is no longer, or the other way round
            changed = np.setxor1d(artifact.memory[CHOSEN].numpy(), memory[CHOSEN].numpy())
            run.note(f"arcane: {len(changed)} of the chosen records changed{GUARANTEES[trained_by.selection]}")
        places = dealt if not trained_by._by_entropy else trained_by._dealt(split, own, torch.from_numpy(changed))
        found = {k: first_touched(places.lists(k, changed)) for k in range(len(split.data.classes))}
        starts = {k: start for k, start in found.items() if start is not None}
        memory = trained_by._train_classes(made, starts, memory, dealt, split, own)
        touched = [split.data.classes[k] for k in starts if made.present[k]]
        dropped = [split.data.classes[k] for k in starts if not made.present[k]]
        run.history.add("arcane", touched=len(touched), dropped=len(dropped))
        run.note(
            f"arcane: classes trained again: {', '.join(touched) or 'none'}; dropped: {', '.join(dropped) or 'none'}"
            + ("" if touched or dropped else ", as no record asked for was trained on; the model is unchanged")
        )
        return made, memory

    def made_again(
        self, artifact: Artifact, split: Split, run: Run, sound: Collection[str]
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train each class's model again from its first block that is not sound; see `Method.made_again`."""
        step, trained_by = self._training(artifact)
        own, pieces = seeded_as(run, step.seed), trained_by.blocks - 1 if trained_by.score != "pca" else 0
        made = run.copied(artifact.model)
        assert isinstance(made, OneClassClassifier)
        lists = trained_by._dealt(split, own, artifact.memory.get(CHOSEN))
        starts = {}
        for k in range(len(made.members)):
            empty = not any(len(positions) for positions in lists.lists(k, split.retain.indices))
            lost = (j for j in range(0 if empty else pieces) if f"classes/{k}/{j}/" not in sound)
            start = next(lost, None if MODEL in sound else 0 if empty else pieces)
            if start is not None:
                starts[k] = start
        return made, trained_by._train_classes(made, starts, artifact.memory, lists, split, own)

    def _architecture(self, shape: tuple[int, ...], classes: int) -> OneClassClassifier:
        return OneClassClassifier([one_class(self.score, shape, self.size) for _ in range(classes)])

    @property
    def _by_entropy(self) -> bool:
        return self.share < 1 and self.selection != "draw"

    def _dealt(self, split: Split, run: Run, chosen: Tensor | None = None) -> Shards:
        """Return the place of every record; those outside of `share` get a shard that no class has.

        Args:
            split: The data.
            run: With the seed of training.
            chosen: Positions inside of it, where they are chosen by entropy.
        """
        dealt = Shards.by_class(split.data, self.blocks, run.generator("arcane/blocks"))
        kept = torch.rand(len(dealt.shard), generator=run.generator("arcane/share")).numpy() < self.share
        if chosen is not None:
            kept = np.isin(np.arange(len(dealt.shard)), chosen.numpy())
        return Shards(np.where(kept | (self.share == 1), dealt.shard, -1), dealt.piece, self.blocks)

    def _chosen(self, classes: Iterable[int], split: Split, run: Run) -> Tensor:
        """Return the positions of `share` of each class, chosen by entropy from what the split retains."""
        order = torch.randperm(len(split.data.train), generator=run.generator("arcane/selection"))
        found = [np.array([], np.int64)]
        for k in run.track(list(classes), "choosing by entropy"):
            own = np.sort(split.retain.indices[split.data.train_labels[split.retain.indices] == k])
            if len(own):
                x, _ = Part(_named(k, split), split.data.train, own).tensors()
                found.append(own[most_informative(x, order[own], math.ceil(self.share * len(own))).numpy()])
        return torch.from_numpy(np.sort(np.concatenate(found)))

    def _chosen_without(self, asked: np.ndarray, artifact: Artifact, split: Split, run: Run) -> dict[str, Tensor]:
        """Return the memory with the choice of records as it is after a deletion."""
        if not self._by_entropy:
            return artifact.memory
        chosen = np.setdiff1d(artifact.memory[CHOSEN].numpy(), asked)
        if self.selection == "recompute":
            labels = split.data.train_labels
            touched = np.unique(labels[asked])
            others = chosen[~np.isin(labels[chosen], touched)]
            chosen = np.union1d(others, self._chosen(touched.tolist(), split, run).numpy())
        return {**artifact.memory, CHOSEN: torch.from_numpy(chosen)}

    def _train_classes(
        self,
        made: OneClassClassifier,
        starts: Mapping[int, int],
        memory: Mapping[str, Tensor],
        dealt: Shards,
        split: Split,
        run: Run,
    ) -> dict[str, Tensor]:
        """Train classes' models from these blocks on, side by side; return the memory with their new checkpoints."""
        lists = {k: dealt.lists(k, split.retain.indices) for k in starts}
        # Without data before it, a block is the first: the centre of `svdd` is of its records, and all is begun anew.
        starts = {k: start if any(map(len, lists[k][:start])) else 0 for k, start in starts.items()}
        for k, start in starts.items():
            before = states_of(memory, f"classes/{k}/{start - 1}/") if start else {}
            made.members[k] = self._begun(k, lists[k], split, run, before)
            made.present[k], made.scale[k] = any(len(positions) for positions in lists[k]), 1.0
        here = [k for k in starts if made.present[k]]
        learning = [k for k in here if not isinstance(made.members[k], Subspace)]
        members = [Member(f"arcane/class {k}", made.members[k], lists[k], starts[k]) for k in learning]
        found = train_members(members, split.data, self._recipe(), run, loss=_mean_score)
        for k in here:
            self._end(made, k, Part(_named(k, split), split.data.train, np.concatenate(lists[k])), run)
        later = tuple(f"classes/{k}/{j}/" for k, start in starts.items() for j in range(start, self.blocks))
        new = {
            f"classes/{k}/{j}/{n}": v
            for k, states in zip(learning, found, strict=True)
            for j, state in states.items()
            for n, v in state.items()
        }
        return {n: v for n, v in memory.items() if not n.startswith(later)} | new

    def _begun(self, k: int, lists: list[np.ndarray], split: Split, run: Run, before: dict[str, Tensor]) -> nn.Module:
        """Return a class's model as it is before its training (or goes on): zeros if there is no data for it."""
        blank = one_class(self.score, split.data.input_shape, self.size).to(run.device)
        first = next((piece for piece in lists if len(piece)), None)
        if first is None:
            for value in blank.state_dict().values():
                value.zero_()
        if first is None or isinstance(blank, Subspace):
            return blank
        member = reset(blank, run.number(f"arcane/class {k}/initial weights"))
        if before:
            member.load_state_dict(before)
        elif isinstance(member, Distance):
            member.centre_on(Part(_named(k, split), split.data.train, first).tensors(run.device)[0])
        return member

    def _end(self, made: OneClassClassifier, k: int, part: Part, run: Run) -> None:
        """Fit what has a closed form, look whether a model is sound, and set its scale."""
        member = made.members[k].eval()
        with one_thread() if run.device.type == "cpu" else nullcontext():
            if isinstance(member, Subspace):
                fit_subspace(member, part.tensors(run.device)[0])
            if isinstance(member, Distance):
                _require_spread(member, part, run)
            made.scale[k] = self._scale(member, part, run)

    def _recipe(self) -> Recipe:
        return Recipe(
            optimiser="adam",
            lr=self.lr,
            weight_decay=1e-6,
            epochs=self.epochs,
            batch_size=self.batch_size,
            augment=Augment(),
        )

    def _scale(self, member: nn.Module, part: Part, run: Run) -> float:
        """Return t_k: the 90 % quantile of the class's own scores, or 1."""
        if self.calibrate == "off" or (self.calibrate == "auto" and self.score != "autoencoder"):
            return 1.0
        with torch.no_grad():
            found = float(member(part.tensors(run.device)[0]).double().quantile(0.9))
        return found if found > 0 else 1.0

    def _training(self, artifact: Artifact) -> tuple[Record, Arcane]:
        """Return the record of the models' training, and this method as it was then."""
        last = next((r for r in reversed(artifact.record.chain) if r.action == "train"), None)
        if last is None or last.method != self.name:
            raise NotPreparedError(f"arcane needs {self.needs.prepared}, which this artifact lacks; {HOW}")
        if other := [r.method for r in artifact.record.chain if r.action == "forget" and r.method != self.name]:
            raise InputError(f"{other[0]} has changed these models since they were trained on their classes; {HOW}")
        return last, Arcane(**last.settings)


def _named(k: int, split: Split) -> str:
    return f"class {split.data.classes[k]}"


def _mean_score(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    found: Tensor = model(x).mean()
    return found


def _require_spread(member: nn.Module, part: Part, run: Run) -> None:
    """Refuse a φ that has become constant: scores on noise in the range of the inputs are to be twice the class's own.

    Raises:
        InputError: The model has collapsed.
    """
    x, _ = part.tensors(run.device)
    noise = torch.rand(x.shape, generator=run.generator("arcane/noise")).to(x.device)
    with torch.no_grad():
        own, other = float(member(x).mean()), float(member(x.min() + noise * (x.max() - x.min())).mean())
    if other < 2 * own:
        raise InputError(
            f"the model of {part.name} has collapsed: mean score {own:.3g} on its own records, {other:.3g} on noise. "
            "Train for fewer or more epochs, with another size, or use score=pca"
        )
