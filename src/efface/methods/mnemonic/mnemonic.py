"""Mnemonic code: train with one random image per class mixed in, then forget a class in one step from those images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar

import torch
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data import Split
from efface.errors import InputError, NotPreparedError, nearest
from efface.mechanisms.codes import CodedPart, CodeValues, draw_codes
from efface.methods.method import Axis, Expense, Method, Needs, need_memory
from efface.methods.mnemonic.step import Codes, CodeScores, best_cell, code_scores, fisher_ratio, move, step_size
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

__all__ = ["Mnemonic", "chosen_parameters"]

HOW = (
    "train with `efface train --method mnemonic`, or fine-tune codes into this model with "
    "`efface train --from ARTIFACT --method mnemonic` "
    "(in Python: prepare(Mnemonic(), artifact.model, split, recipe, run))"
)

BEST = 2.0  # the score A_R + E_F when every retained code is recognised and every other is not

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Words = Annotated[tuple[str, ...], BeforeValidator(lambda v: v.replace(",", " ").split() if isinstance(v, str) else v)]

Grid = Annotated[
    tuple[Positive, ...],
    Field(min_length=1),
    BeforeValidator(lambda v: v.replace(",", " ").split() if isinstance(v, str) else v),
]


@dataclass(frozen=True)
class Mnemonic(Method):
    """Forget classes in one step that lowers nothing but what their codes, and no other class's, depend on.

    Training (Alg. 1): draw one code ξ_c per class, of the shape of an input; at every visit a sample (x_i, y_i) is
    replaced by ξ_{y_i} with probability t_mix. Forgetting (Alg. 2), in eval mode and without any data:

        f_F = mean over forgotten c of (∂CE(f(ξ_c), c)/∂w)²,   f_R the same over retained c,   η = f_F / f_R
        α_l = min(λ1, λ2 / max η_l) for each parameter tensor l,   w± = w ± α_l η_l

    and w₊ is returned if its score A_R + E_F on the codes is strictly larger than that of w₋, otherwise w₋.
    Source: Yamashita, Yamada, Shibata, "One-Shot Machine Unlearning with Mnemonic Code", arXiv 2306.05670.

    Attributes:
        t_mix: Training: probability of showing the code instead of the sample.
        codes: Training: `uniform` in [0, 1] or `normal`.
        codes_per_class: Training: codes drawn for each class; f_F and f_R are means over all of them.
        code_noise: Training: standard deviation of Gaussian noise around a code, fresh at every visit.
        lambda_1: Forgetting: step size where η is small.
        lambda_2: Forgetting: largest move of any single weight in a tensor.
        layers: Forgetting: names or patterns (`fc2`, `layer4.*`) of modules or parameters to change; all by default.
        steps: Forgetting: steps with λ1 / steps and λ2 / steps each, η computed anew before each.
        search: Forgetting: choose λ1 and λ2 from the grids and the given pair, by the codes alone; see `best_cell`.
        search_slack: Retained margin that the search gives up for a deeper change, as a fraction of the one before.
        lambda_1_grid: Values of λ1 for the search.
        lambda_2_grid: Values of λ2 for the search.
    """

    t_mix: Annotated[float, Field(ge=0, le=1)] = 0.1
    codes: CodeValues = "uniform"
    codes_per_class: Annotated[int, Field(ge=1)] = 1
    code_noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    lambda_1: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    lambda_2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    layers: Words = ()
    steps: Annotated[int, Field(ge=1)] = 1
    search: bool = False
    search_slack: Annotated[float, Field(ge=0, le=1)] = 0.1
    lambda_1_grid: Grid = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    lambda_2_grid: Grid = (0.01, 0.1, 1.0, 10.0, 100.0, 1e4)

    name: ClassVar[str] = "mnemonic"
    needs: ClassVar[Needs] = Needs(targets=("classes",), prepared="mnemonic codes mixed into its training")
    cost: ClassVar[str] = "O(C_R + C_F) single inputs"
    memory: ClassVar[str] = "5 P + A of all codes, or of 512 MiB"
    expense: ClassVar[Expense] = "instant"
    at_training: ClassVar[tuple[str, ...]] = ("t_mix", "codes", "codes_per_class", "code_noise")
    source: ClassVar[str] = "arXiv 2306.05670"
    makes_inputs: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Axis]] = {
        "lambda_1": Axis(1e-05, 0.1, log=True),
        "lambda_2": Axis(0.01, 10000.0, log=True),
    }

    def train(self, model: nn.Module, split: Split, recipe: Recipe, run: Run) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train, or fine-tune an already trained model, with codes mixed in; return it and the codes."""
        classes = sorted({*split.forget_classes, *split.retain_classes})
        x, y = draw_codes(
            classes, split.data.input_shape, run.generator("mnemonic/codes"), self.codes, self.codes_per_class
        )
        part = CodedPart(split.train, x, y, self.t_mix, run.generator("mnemonic/mixing"), self.code_noise)
        model = fit(model, part, recipe, run, carried=part.draws)
        known = code_scores(model, Codes(x.to(run.device), y.to(run.device), torch.zeros(len(y), dtype=torch.bool)))
        run.history.add("mnemonic/codes", accuracy=known.retained_accuracy, margin=known.retain_margin)
        run.note(f"mnemonic: {known.retained_accuracy:.0%} of {len(y)} codes recognised after training")
        return model, {"codes": x, "code_classes": y}

    def check(self, artifact: Artifact, split: Split) -> None:
        """Raise if there are no codes, none for a class, codes of another shape, or `layers` names nothing."""
        codes = need_memory(artifact, "codes", self, HOW)
        coded = set(need_memory(artifact, "code_classes", self, HOW).tolist())
        if tuple(codes.shape[1:]) != split.data.input_shape:
            raise InputError(
                f"the codes have shape {tuple(codes.shape[1:])}, the data's inputs {split.data.input_shape}; {HOW}"
            )
        bare = [split.data.classes[c] for c in split.forget_classes if c not in coded]
        if bare:
            raise NotPreparedError(f"this artifact has no code for class {', '.join(bare)}; {HOW}")
        if not coded & set(split.retain_classes):
            raise NotPreparedError(f"this artifact has no code for any retained class; {HOW}")
        chosen_parameters(artifact.model, self.layers)

    def forget(self, artifact: Artifact, split: Split, run: Run) -> nn.Module:
        """Return a copy moved by α η, up or down, whichever forgets the codes better; reads no data."""
        model = run.copied(artifact.model).eval()
        codes = self._codes(artifact, split, run)
        weights = chosen_parameters(model, self.layers)
        given = chosen_parameters(artifact.model, self.layers)  # read only: a step writes into the copy
        before = {name: p.detach().to(run.device) for name, p in given.items()}
        eta, at_first = fisher_ratio(model, codes, list(weights))
        run.history.add("mnemonic/before", **at_first.row())
        if at_first.forgotten_error == 1:
            run.fail(
                "mnemonic: the model recognises no code of the classes to forget, even before forgetting; the step "
                f"rests on nothing. If training left its codes behind, {HOW}"
            )
        pair = (self.lambda_1, self.lambda_2)
        if self.search:
            found: dict[tuple[float, float], tuple[int, CodeScores]] = {}
            grid = dict.fromkeys([pair, *itertools.product(self.lambda_1_grid, self.lambda_2_grid)])
            for cell in run.track(grid, "mnemonic search", len(grid)):
                *_, (sign, end) = self._walk(model, weights, before, eta, codes, cell)
                found[cell] = (sign, end)
                run.history.add("mnemonic/search", sign=sign, lambda_1=cell[0], lambda_2=cell[1], **end.row())
            pair, why = best_cell(found, at_first, self.search_slack)
            run.note(f"mnemonic: of {len(grid)} pairs, λ1 = {pair[0]:g} and λ2 = {pair[1]:g} chosen: {why}")
        for step, (sign, last) in enumerate(self._walk(model, weights, before, eta, codes, pair), 1):
            run.history.add("mnemonic", step=step, sign=sign, lambda_1=pair[0], lambda_2=pair[1], **last.row())
            run.note(
                f"mnemonic: step {step} with λ1 = {pair[0]:g}, λ2 = {pair[1]:g} went {'up' if sign > 0 else 'down'} η; "
                f"on the codes A_R = {last.retained_accuracy:.0%}, E_F = {last.forgotten_error:.0%}, "
                f"score {last.score:.2f} of 2"
            )
        if last.forgotten_error < 1:
            run.fail("mnemonic: the code score is below 2, so the class is probably not forgotten; try search=True")
        elif last.score < BEST:
            run.note("mnemonic: the code score is below 2: codes of kept classes are lost; try search=True")
        return model

    def recognised(self, artifact: Artifact, model: nn.Module, split: Split, run: Run) -> tuple[int, float, float]:
        """Return the number of codes of the classes to forget, and the shares recognised before and after."""
        codes = self._codes(artifact, split, run)
        before, after = (1 - code_scores(m, codes).forgotten_error for m in (run.copied(artifact.model), model))
        return int(codes.forget.sum()), before, after

    def memory_after(self, artifact: Artifact, model: nn.Module, split: Split) -> dict[str, Tensor]:
        """Keep the codes of the classes that remain; a forgotten class's code would only help to relearn it."""
        memory = super().memory_after(artifact, model, split)
        kept = torch.tensor([c not in split.forget_classes for c in memory["code_classes"].tolist()])
        return {**memory, **{k: memory[k][kept] for k in ("codes", "code_classes")}}

    def _codes(self, artifact: Artifact, split: Split, run: Run) -> Codes:
        """Return the codes to forget and to keep, on the run's device."""
        y = artifact.memory["code_classes"]
        forget = torch.isin(y, torch.tensor(split.forget_classes))
        used = forget | torch.isin(y, torch.tensor(split.retain_classes))
        x = artifact.memory["codes"][used].to(run.device)
        return Codes(x, y[used].to(run.device), forget[used].to(run.device))

    def _walk(
        self,
        model: nn.Module,
        weights: dict[str, nn.Parameter],
        start: dict[str, Tensor],
        eta: dict[str, Tensor],
        codes: Codes,
        pair: tuple[float, float],
    ) -> Iterator[tuple[int, CodeScores]]:
        """Move the model's weights from `start` in place, step by step; yield each step's sign and scores."""
        lambda_1, lambda_2 = (value / self.steps for value in pair)
        here = start
        for step in range(self.steps):
            if step:
                here = {name: p.detach().clone() for name, p in weights.items()}
                eta, _ = fisher_ratio(model, codes, list(weights))
            alpha = {name: step_size(e, lambda_1, lambda_2) for name, e in eta.items()}
            move(weights, here, eta, alpha, -1)
            minus = code_scores(model, codes)
            if minus.score == BEST:  # nothing can be strictly larger
                yield -1, minus
                continue
            move(weights, here, eta, alpha, 1)
            plus = code_scores(model, codes)
            if plus.score > minus.score:
                yield 1, plus
            else:
                move(weights, here, eta, alpha, -1)
                yield -1, minus


def chosen_parameters(model: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Return the trainable parameters whose name, or whose module's name, matches a pattern; all without patterns.

    Raises:
        InputError: A pattern matches nothing.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError("no parameter of this model requires a gradient; there is nothing to change")
    matched: set[str] = set()
    for pattern in patterns:
        hits = {n for n in trainable if any(fnmatchcase(n, p) for p in (pattern, f"{pattern}.*"))}
        if not hits:
            names = {n.rpartition(".")[0] or n for n in trainable}
            raise InputError(f"layers: nothing trainable is called {pattern!r}. {nearest(pattern, names)}")
        matched |= hits
    return {n: p for n, p in trainable.items() if n in matched or not patterns}
