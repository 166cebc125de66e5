"""SISA: members trained apart on shards, slice by slice; a deletion retrains only what it touches, exactly."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import MODEL, Artifact
from efface.artifact.record import Record
from efface.data import Split
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.members import Member, train_members
from efface.mechanisms.shards import Shards, first_touched, require_passes, require_unfrozen, seeded_as, states_of
from efface.methods.method import Expense, Method, Needs
from efface.models.ensemble import Ensemble, Vote
from efface.models.reset import reset
from efface.running.run import Run
from efface.training.recipe import Recipe
from efface.words import counted

__all__ = ["Sisa"]

HOW = "train with `efface train --method sisa`, or use retrain"


@dataclass(frozen=True)
class Sisa(Method):
    """Train S members on disjoint shards, slice by slice; forget by going on from the last slice before the request.

    Member k starts from fresh weights and trains e_j epochs on slices 1..j of its shard, j = 1..R, its state kept
    before each slice enters;  e_j = ⌊j e⌋ - ⌊(j-1) e⌋, e = 2E/(R+1).  p(x) = mean_k softmax(f_k(x)), or votes.
    Forgetting removes records from the lists of each shard touched and trains again from its first slice touched.

    Exact: bit for bit what training on the reduced data with the same seeds gives. The weights given are not used, only
    the architecture. A request that touches every shard (a class, or many records) is a retraining. The proof needs
    requests that do not depend on the model, and no sight of the model before and after.

    Source: Bourtoule et al., IEEE S&P 2021 (arXiv 1912.03817).

    Attributes:
        shards: Training: S. One record's deletion is about S times faster than retraining; small shards learn less.
        slices: Training: R; R - 1 states per member are kept. At most 1.5 times faster on average.
        groups: Training: keep every group (a person's records) in one slice of one shard.
        vote: Training: `mean` of probabilities, or `vote` with ties by the mean.
    """

    shards: Annotated[int, Field(ge=1)] = 5
    slices: Annotated[int, Field(ge=1)] = 5
    groups: bool = False
    vote: Vote = "mean"

    name: ClassVar[str] = "sisa"
    needs: ClassVar[Needs] = Needs(
        targets=("classes", "items"), retain=True, prepared="members trained apart on shards, with their checkpoints"
    )
    cost: ClassVar[str] = "O(E N_R s / S) for s shards touched, two thirds of it on average"
    memory: ClassVar[str] = "3 P / S + A: SGD on one member; beside it (R - 1) P stored"
    expense: ClassVar[Expense] = "training"
    at_training: ClassVar[tuple[str, ...]] = ("shards", "slices", "groups", "vote")
    source: ClassVar[str] = "arXiv 1912.03817"
    moves_batch_norm: ClassVar[bool] = True
    apart: ClassVar[bool] = True

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train every member on what the split retains; return the ensemble and its checkpoints."""
        template = model.members[0] if isinstance(model, Ensemble) else model
        require_unfrozen(template, self.name)
        require_passes(self.name, recipe.epochs, self.slices, "slices")
        dealt = self._dealt(split, run)
        ensemble = Ensemble([self._fresh(template, k, run) for k in range(self.shards)], self.vote).to(run.device)
        memory = self._train_shards(ensemble, dict.fromkeys(range(self.shards), 0), dealt, split, recipe, run)
        run.note(f"sisa: {self.shards} members of {self.slices} slices, trained apart from fresh weights")
        return ensemble, memory

    def rebuild(self, model: nn.Module, record: Record) -> nn.Module:
        """Return an ensemble of as many networks."""
        if record.action != "train":
            return model
        template = model.members[0] if isinstance(model, Ensemble) else model
        return Ensemble([copy.deepcopy(template) for _ in range(self.shards)], self.vote)

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if the artifact holds no members trained apart by this method, or frozen ones."""
        self._training(artifact)
        require_unfrozen(artifact.model, self.name)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return the ensemble with the members touched trained again; see `forget_and_keep`."""
        return self.forget_and_keep(artifact, split, run)[0]

    def forget_and_keep(self, artifact: Artifact, split: Split, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train the members touched again from their first slice touched; their later checkpoints are replaced."""
        assert split.resolved is not None
        step, trained_by = self._training(artifact)
        own = seeded_as(run, step.seed)
        dealt = trained_by._dealt(split, own)
        ensemble = run.copied(artifact.model)
        assert isinstance(ensemble, Ensemble)
        asked = np.setdiff1d(split.resolved.indices, np.union1d(split.held_out, split.gone))
        found = {k: first_touched(dealt.lists(k, asked)) for k in range(trained_by.shards)}
        starts = {k: start for k, start in found.items() if start is not None}
        text = f"sisa: {len(starts)} of {counted(trained_by.shards, 'shard')} trained again"
        if len(starts) == trained_by.shards > 1:
            run.progress.say("sisa: every shard is touched, so this is a retraining")  # notes may be shown at the end
            text += "; that is every shard, so this is a retraining"
        run.note(text)
        memory = trained_by._from(starts, ensemble, artifact.memory, dealt, split, step.recipe, own)
        for k, start in starts.items():
            run.history.add("sisa", shard=k, first_slice=start)
        return ensemble, memory

    def made_again(
        self, artifact: Artifact, split: Split, run: Run, sound: Collection[str]
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train each member again from its first slice that is not sound; see `Method.made_again`."""
        step, trained_by = self._training(artifact)
        own = seeded_as(run, step.seed)
        starts = {}
        for k in range(trained_by.shards):
            lost = (j for j in range(trained_by.slices - 1) if f"shards/{k}/{j}/" not in sound)
            start = next(lost, None if MODEL in sound else trained_by.slices - 1)
            if start is not None:
                starts[k] = start
        ensemble = run.copied(artifact.model)
        assert isinstance(ensemble, Ensemble)
        dealt = trained_by._dealt(split, own)
        return ensemble, trained_by._from(starts, ensemble, artifact.memory, dealt, split, step.recipe, own)

    def _from(
        self,
        starts: Mapping[int, int],
        ensemble: Ensemble,
        memory: Mapping[str, Tensor],
        dealt: Shards,
        split: Split,
        recipe: Recipe,
        run: Run,
    ) -> dict[str, Tensor]:
        """Train members from these slices on; return the memory with their checkpoints since replaced."""
        later = tuple(f"shards/{k}/{j}/" for k, start in starts.items() for j in range(start, self.slices))
        for k, start in starts.items():
            ensemble.members[k] = self._fresh(ensemble.members[k], k, run).to(run.device)
            if start:
                ensemble.members[k].load_state_dict(states_of(memory, f"shards/{k}/{start - 1}/"))
        made = self._train_shards(ensemble, starts, dealt, split, recipe, run)
        return {n: v for n, v in memory.items() if not n.startswith(later)} | made

    def _dealt(self, split: Split, run: Run) -> Shards:
        return Shards.dealt(split.data, self.shards, self.slices, run.generator("sisa/shards"), self.groups)

    def _fresh(self, template: nn.Module, k: int, run: Run) -> nn.Module:
        return reset(template, run.number(f"sisa/shard {k}/initial weights"))

    def _train_shards(
        self, ensemble: Ensemble, starts: Mapping[int, int], dealt: Shards, split: Split, recipe: Recipe, run: Run
    ) -> dict[str, Tensor]:
        """Train members from these slices on; return their checkpoints by their names in the memory."""
        lists = {k: dealt.lists(k, split.retain.indices) for k in starts}
        members = [Member(f"sisa/shard {k}", ensemble.members[k], lists[k], start) for k, start in starts.items()]
        memory: dict[str, Tensor] = {}
        for k, states in zip(starts, train_members(members, split.data, recipe, run), strict=True):
            ensemble.present[k] = any(len(positions) for positions in lists[k])
            memory |= {f"shards/{k}/{j}/{n}": v for j, state in states.items() for n, v in state.items()}
        return memory

    def _training(self, artifact: Artifact) -> tuple[Record, Sisa]:
        """Return the record of the members' training, and this method as it was then."""
        last = next((r for r in reversed(artifact.record.chain) if r.action == "train"), None)
        if last is None or last.method != self.name:
            raise NotPreparedError(f"sisa needs {self.needs.prepared}, which this artifact lacks; {HOW}")
        other = [r.method for r in artifact.record.chain if r.action == "forget" and r.method != self.name]
        if other:
            raise InputError(f"{other[0]} has changed these members since they were trained on their shards; {HOW}")
        return last, Sisa(**last.settings)
