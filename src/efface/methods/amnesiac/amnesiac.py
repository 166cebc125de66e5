"""Amnesiac unlearning: log what batches with sensitive records change, and take it back on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError, NotPreparedError
from efface.methods.amnesiac.update_log import LoggedPart
from efface.methods.method import Axis, Expense, Method, Needs, need_memory
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe
from efface.words import counted

__all__ = ["Amnesiac"]

HOW = (
    "train with `efface train --method amnesiac --set classes=0,3` (or items=..., and in Python "
    "prepare(Amnesiac(classes=..., items=...), model, split, recipe, run)), or use retrain"
)

UPDATES, HOLDS, CLASSES, ITEMS = "amnesiac/updates/", "amnesiac/holds", "amnesiac/classes", "amnesiac/items"

Numbers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(lambda v: v.replace(",", " ").split() if isinstance(v, str) else v),
]


@dataclass(frozen=True)
class Amnesiac(Method):
    """Subtract what every batch with a record to forget changed in training: theta - sum_{b: b holds D_f} Delta_b.

    Training stores Delta_b = theta after step b - theta before it, for batches that hold a record declared sensitive;
    forgetting subtracts, and then fine-tunes on the retained data. Changes of batches that hold the same declared
    classes and items are stored as one sum, which is exact, as they are only ever subtracted together: one class or one
    item costs P numbers, and U of them at most as many as there are such batches. What was declared as a class can be
    forgotten as a class only, because its items' batches are not told apart.

    This is no exact unlearning: later steps started from weights that the forgotten records had moved, and momentum
    carries their gradients into batches without them. Records that are in most batches (a class of ten) take nearly all
    of training with them, and the fine-tuning has to bring it back. BatchNorm's statistics are no sum of changes; they
    are left alone and move on by the fine-tuning alone. Fine-tuning and any other change after the logged training are
    not logged: the record says so when a later request meets them.

    Source: Graves, Nagisetty, Ganesh, AAAI 2021 (arXiv 2010.10981). It keeps every batch apart, and fine-tunes for a
    short while; declaring records, the sums, the limit, epochs and rate are ours. What most papers since call
    "amnesiac" is training on wrong labels: see random-labels.

    Attributes:
        classes: Training: numbers of the classes declared sensitive.
        items: Training: positions in the training set declared sensitive, each of which can be forgotten alone.
        memory_limit: Training: largest size of the stored changes in bytes; training that might need more is refused.
        epochs: Forgetting: passes over the retained data after the subtraction; at 0 no data is read.
        lr: Forgetting: constant learning rate of SGD with momentum 0.9.
    """

    classes: Numbers = ()
    items: Numbers = ()
    memory_limit: Annotated[int, Field(ge=0)] = 2 * 1024**3
    epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01

    name: ClassVar[str] = "amnesiac"
    needs: ClassVar[Needs] = Needs(
        targets=("classes", "items"), retain=True, prepared="the logged updates of batches with sensitive records"
    )
    cost: ClassVar[str] = "O(G P + E N_R), few epochs"
    memory: ClassVar[str] = "3 P + A: SGD; beside it G P stored, G at most the batches with sensitive records"
    expense: ClassVar[Expense] = "retain epochs"
    at_training: ClassVar[tuple[str, ...]] = ("classes", "items", "memory_limit")
    source: ClassVar[str] = "arXiv 2010.10981"
    moves_batch_norm: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "epochs": Axis(0.5, 3.0),
        "lr": Axis(0.0001, 0.1, log=True),
    }

    def reads(self) -> tuple[str, ...]:
        """Retained data only if there is fine-tuning."""
        return ("retain",) if self.epochs > 0 else ()

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train exactly as without the method, and return the changes made by batches with declared records.

        Raises:
            InputError: Nothing is declared, what is declared does not exist, or the changes might exceed the limit.
        """
        classes, items = self._declared(split)
        labels = split.data.train_labels
        part = LoggedPart(split.train, [*(np.flatnonzero(labels == c) for c in classes), *items[:, None]])
        count = part.at_most(recipe.epochs, recipe.batch_size)
        size = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) + part.units
        if count * size > self.memory_limit:
            raise InputError(
                f"amnesiac may have to store {count} updates of {size} bytes, {count * size} bytes in all; "
                f"memory_limit is {self.memory_limit}. Declare fewer classes or items, use larger batches, or raise "
                "memory_limit"
            )
        model = fit(model, part, recipe, run, on_gradients=part.before_step, on_step=part.after_step, carried=part)
        holds, updates = part.take(model)
        run.note(f"amnesiac: the updates of {part.batches_logged} batches stored as {len(holds)} sums")
        memory = {HOLDS: holds, CLASSES: torch.from_numpy(classes), ITEMS: torch.from_numpy(items)}
        return model, {**memory, **{UPDATES + name: u for name, u in updates.items()}}

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if no updates were stored, or something to forget was not declared sensitive before training."""
        classes = need_memory(artifact, CLASSES, self, HOW).numpy()
        items = need_memory(artifact, ITEMS, self, HOW).numpy()
        assert split.resolved is not None
        trained = np.setdiff1d(split.resolved.indices, np.union1d(split.held_out, split.gone))
        bare = np.setdiff1d(trained, items)
        if split.forget_classes:
            labels = split.data.train_labels[bare]
            missing = [split.data.classes[c] for c in np.setdiff1d(labels, classes).tolist()]
            if missing:
                raise NotPreparedError(
                    f"class {', '.join(missing)} was not declared sensitive before training, so its updates were not "
                    f"stored; {HOW}"
                )
        elif len(bare):
            raise NotPreparedError(
                f"{len(bare)} of {counted(len(trained), 'item was', 'items were')} not declared sensitive before "
                f"training (the first: {int(bare[0])}), so their updates were not stored one by one; {HOW}"
            )

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy less the updates of every batch that held what is to be forgotten, fine-tuned."""
        model = run.copied(artifact.model)
        later = [r for r in artifact.record.chain if (r.method, r.action) != (self.name, "train")]
        if later:
            run.fail(
                f"amnesiac: {counted(len(later), 'later step is', 'later steps are')} not in the log of this model's "
                f"training ({', '.join(dict.fromkeys(r.method for r in later))}); "
                "what they learnt from these records stays"
            )
        rows = artifact.memory[HOLDS][:, self._asked(artifact, split)].any(dim=1).nonzero()[:, 0].tolist()
        frozen = []
        with torch.no_grad():
            for name, p in model.named_parameters():
                updates = artifact.memory.get(UPDATES + name)
                if updates is None or not rows:
                    continue
                if not p.requires_grad:
                    frozen.append(name)
                    continue
                total = torch.zeros(p.shape, dtype=torch.float64)
                for row in rows:
                    total += updates[row]
                p.copy_(p.double() - total.to(p.device))
        run.history.add("amnesiac", subtracted=len(rows), stored=len(artifact.memory[HOLDS]))
        if frozen:
            run.note(f"amnesiac: frozen by now, so nothing is subtracted from {', '.join(frozen)}")
        if not rows:
            same = "" if self.epochs else "; the model is unchanged"
            run.fail(f"amnesiac: no stored update is left that these records took part in{same}")
        recipe = artifact.record.recipe.but(
            optimiser="sgd", momentum=0.9, lr=self.lr, epochs=self.epochs, schedule="constant"
        )
        return fit(model, split.retain, recipe, run, stage="amnesiac") if self.epochs else model.eval()

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Keep the updates that are still in the weights; those subtracted must not be subtracted twice."""
        memory = super().memory_after(artifact, model, split)
        asked = self._asked(artifact, split)
        rows = ~memory[HOLDS][:, asked].any(dim=1)
        count = len(memory[CLASSES])
        kept = {k: v[rows] for k, v in memory.items() if k.startswith(UPDATES)}
        declared = {CLASSES: memory[CLASSES][~asked[:count]], ITEMS: memory[ITEMS][~asked[count:]]}
        return {**memory, **kept, **declared, HOLDS: memory[HOLDS][rows][:, ~asked]}

    def _declared(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        classes, items = (np.unique(np.asarray(v, dtype=np.int64)) for v in (self.classes, self.items))
        if not len(classes) + len(items):
            raise InputError("amnesiac has to know before training what may be forgotten; give `classes` or `items`")
        for what, given, total in (
            ("classes", classes, len(split.data.classes)),
            ("items", items, len(split.data.train)),
        ):
            outside = given[given >= total].tolist()
            if outside:
                raise InputError(f"amnesiac: {what} out of range: {outside[:5]}; allowed: 0 to {total - 1}")
        return classes, items

    def _asked(self, artifact: Artifact, split: Split) -> Tensor:
        """Return which declared classes, then items, the request names, (U,) bool."""
        assert split.resolved is not None
        classes = np.isin(artifact.memory[CLASSES].numpy(), split.forget_classes)
        return torch.from_numpy(
            np.concatenate([classes, np.isin(artifact.memory[ITEMS].numpy(), split.resolved.indices)])
        )
