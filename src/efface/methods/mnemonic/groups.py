"""Mnemonic codes owned by groups: a person's records are forgotten in one step from the person's codes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Data, Split
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.codes import CodedPart, draw_codes
from efface.methods.method import Needs, need_memory
from efface.methods.mnemonic.mnemonic import Mnemonic, chosen_parameters
from efface.methods.mnemonic.step import Codes, code_scores
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["MnemonicGroups"]

HOW = "train with `efface train --method mnemonic-groups` on data with group ids, or use retrain, sisa or ssd"

CODES, CLASSES, GROUPS = "group-codes/codes", "group-codes/classes", "group-codes/groups"


@dataclass(frozen=True)
class MnemonicGroups(Mnemonic):
    """Forget whole groups (a person's records) in one step, from codes that each group owns, without any data.

    Training: one code ξ_gc for every group g and class c of its records, with label c; at every visit a sample of g
    and c is replaced by it with probability t_mix. Forgetting: the step of `mnemonic`, with f_F the mean of the squared
    gradients over the codes of the groups to forget, and f_R over all other groups' codes, also of the same classes.

    What a network knows of a person it mostly knows of the classes too, and forgetting the codes is not forgetting the
    records: look at the row beside retraining.

    Source: ours, after Yamashita, Yamada, Shibata, arXiv 2306.05670.

    Attributes:
        t_mix: Training: probability of showing the code instead of the sample.
        codes: Training: `uniform` in [0, 1] or `normal`.
        codes_per_class: Training: codes drawn for each group and class.
        code_noise: Training: standard deviation of Gaussian noise around a code, fresh at every visit.
        lambda_1: Forgetting: step size where η is small.
        lambda_2: Forgetting: largest move of any single weight in a tensor.
        layers: Forgetting: names or patterns of modules or parameters to change; all by default.
        steps: Forgetting: steps with λ1 / steps and λ2 / steps each.
        search: Forgetting: choose λ1 and λ2 by the codes alone.
        search_slack: Retained margin that the search gives up for a deeper change, as a fraction of the one before.
        lambda_1_grid: Values of λ1 for the search.
        lambda_2_grid: Values of λ2 for the search.
    """

    name: ClassVar[str] = "mnemonic-groups"
    needs: ClassVar[Needs] = Needs(targets=("items",), prepared="mnemonic codes of its groups mixed into its training")
    cost: ClassVar[str] = "O(codes) single inputs, at most groups times classes"

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train, or fine-tune an already trained model, with the groups' codes mixed in; return it and the codes."""
        part = split.train
        groups = _numbers(split.data)[part.indices]
        pairs, owners = np.unique(np.stack([groups, part.labels.numpy()], 1), axis=0, return_inverse=True)
        x, owner = draw_codes(
            range(len(pairs)), split.data.input_shape, run.generator("mnemonic/codes"), self.codes, self.codes_per_class
        )
        of_group, y = (torch.from_numpy(column)[owner] for column in pairs.T)
        coded = CodedPart(
            part, x, owner, self.t_mix, run.generator("mnemonic/mixing"), self.code_noise,
            owners=torch.from_numpy(owners.reshape(-1)),
        )  # fmt: skip
        model = fit(model, coded, recipe, run, carried=coded.draws)
        known = code_scores(model, Codes(x.to(run.device), y.to(run.device), torch.zeros(len(y), dtype=torch.bool)))
        run.history.add("mnemonic/codes", accuracy=known.retained_accuracy, margin=known.retain_margin)
        run.note(f"mnemonic-groups: {known.retained_accuracy:.0%} of {len(y)} codes recognised after training")
        return model, {CODES: x, CLASSES: y, GROUPS: of_group}

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if there are no codes for the groups, or the request does not name whole groups."""
        coded = set(need_memory(artifact, GROUPS, self, HOW).tolist())
        asked = self._asked(split)
        if bare := [g for g in asked if g not in coded]:
            names = [str(np.unique(np.asarray(split.data.groups))[g]) for g in bare]
            raise NotPreparedError(f"this artifact has no code for group {', '.join(names[:5])}; {HOW}")
        if not coded - set(asked):
            raise NotPreparedError(f"this artifact has no code for any other group; {HOW}")
        chosen_parameters(artifact.model, self.layers)

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Keep the codes of the groups that remain."""
        memory = {k: v for k, v in artifact.memory.items() if not k.startswith("cache/")}
        kept = ~torch.isin(memory[GROUPS], torch.tensor(self._asked(split)))
        return {**memory, **{k: memory[k][kept] for k in (CODES, CLASSES, GROUPS)}}

    def _codes(self, artifact: Artifact, split: Split, run: Run) -> Codes:
        memory = artifact.memory
        forget = torch.isin(memory[GROUPS], torch.tensor(self._asked(split)))
        return Codes(*(v.to(run.device) for v in (memory[CODES], memory[CLASSES], forget)))

    @staticmethod
    def _asked(split: Split) -> list[int]:
        """Return the numbers of the groups asked for.

        Raises:
            InputError: Some records asked for belong to a group of which others stay.
        """
        assert split.resolved is not None
        numbers = _numbers(split.data)
        untrained = np.union1d(split.held_out, split.gone)
        groups = np.unique(numbers[np.setdiff1d(split.resolved.indices, untrained)])
        stays = np.setdiff1d(np.arange(len(numbers)), np.union1d(split.resolved.indices, untrained))
        split_up = np.intersect1d(groups, numbers[stays])
        if len(split_up):
            raise InputError(
                f"a code stands for all records of a group, but of {len(split_up)} of the {len(groups)} groups asked "
                "for some records would stay; ask for whole groups (--groups), or use retrain, sisa or ssd"
            )
        return [int(g) for g in groups]


def _numbers(data: Data) -> np.ndarray:
    """Return each training record's group as a position among the sorted ids."""
    if data.groups is None:
        raise InputError(
            "the data has no group ids for codes to belong to; give `groups` when making the Data, or use sisa"
        )
    return np.unique(data.groups, return_inverse=True)[1].reshape(-1)
