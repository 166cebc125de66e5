"""Figures of methods that prepare at training which no comparison plan can express: results/prepared/table.md.

python experiments/prepared.py --root DATA        (DATA holds MNIST/raw; about ten minutes on one core)
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Part, Split, load
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.certified_removal import CertifiedRemoval
from efface.methods.mnemonic import Mnemonic, MnemonicGroups
from efface.methods.retrain import Retrain
from efface.methods.sisa import Sisa
from efface.models.predictions import accuracy_of
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

RECIPE = Recipe(lr=0.1, epochs=20, batch_size=64)
MOST = 20
PEOPLE = 40


def network(data: Data, seed: int = 0) -> torch.nn.Module:
    """Return a perceptron d-64-K with ReLU."""
    spec = ModelSpec(build="mlp", arguments={"hidden": [64], "activation": "relu"})
    return build(spec, input_shape=data.input_shape, num_classes=len(data.classes), seed=seed)


def row(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |"


def percent(model: torch.nn.Module, part: Part) -> float:
    """Return the accuracy on a part in percent."""
    return 100 * accuracy_of(model, part)


def sisa(digits: Data) -> Iterator[str]:
    """Yield accuracy by the number of shards."""
    yield "## SISA on digits: accuracy by the number of shards (one slice each, three seeds)\n"
    yield row("shards", "mean of probabilities, %", "votes, %")
    yield "|---|---|---|"
    for shards in (1, 2, 5, 10, 20):
        found = []
        for vote in ("mean", "vote"):
            method = Sisa(shards=shards, slices=1, vote=vote)  # type: ignore[arg-type]
            runs = [prepare(method, network(digits), Split.of(digits), RECIPE, Run(s, "cpu")) for s in range(3)]
            found.append(float(np.mean([percent(a.model, Split.of(digits).test) for a in runs])))
        yield row(shards, *found)


def codes_in(digits: Data) -> Iterator[str]:
    """Yield what codes fine-tuned into a trained model forget."""
    yield "\n## Codes fine-tuned into a trained model (digits, class 0, mean of three seeds)\n"
    yield row("model", "A_R, %", "E_F, %")
    yield "|---|---|---|"
    request = Request.of(classes=[0])
    table: dict[str, list[tuple[float, float]]] = {}
    for seed in range(3):
        split, whole = Split.of(digits, request), Split.of(digits)
        plain = prepare(None, network(digits, seed), whole, RECIPE, Run(seed, "cpu"))
        tuning = RECIPE.but(lr=0.05, epochs=10)
        coded = prepare(Mnemonic(t_mix=0.3), plain.model, whole, tuning, Run(seed, "cpu"), parent=plain)
        models = {
            "trained plainly": plain,
            "codes fine-tuned in": coded,
            "forgotten": apply(Mnemonic(), Case(coded, split, Run(seed + 1, "cpu"))),
            "forgotten, search": apply(Mnemonic(search=True), Case(coded, split, Run(seed + 1, "cpu"))),
            "retrained": apply(Retrain(), Case(plain, split, Run(seed + 1, "cpu"))),
        }
        for name, made in models.items():
            scores = percent(made.model, split.test_retain), 100 - percent(made.model, split.test_forget)
            table.setdefault(name, []).append(scores)
    for name, scores in table.items():
        yield row(name, *(float(v) for v in np.mean(scores, axis=0)))


def groups(digits: Data) -> Iterator[str]:
    """Yield what codes of groups forget."""
    people = dataclasses.replace(digits, groups=np.arange(len(digits.train)) % PEOPLE)
    yield f"\n## Codes owned by groups (digits dealt to {PEOPLE} made-up people, one forgotten, mean of ten)\n"
    yield row("model", "accuracy on the person's records, %", "test accuracy, %")
    yield "|---|---|---|"
    coded = prepare(MnemonicGroups(t_mix=0.3), network(people), Split.of(people), RECIPE, Run(0, "cpu"))
    table: dict[str, list[tuple[float, float]]] = {}
    for person in range(10):
        split = Split.of(people, Request.of(groups=[person]))
        models = {
            "original, with codes": coded,
            "forgotten": apply(MnemonicGroups(), Case(coded, split, Run(1, "cpu"))),
            "forgotten, search": apply(MnemonicGroups(search=True), Case(coded, split, Run(1, "cpu"))),
            "retrained": apply(Retrain(), Case(coded, split, Run(1, "cpu"))),
        }
        for name, made in models.items():
            table.setdefault(name, []).append((percent(made.model, split.forget), percent(made.model, split.test)))
    for name, scores in table.items():
        yield row(name, *(float(v) for v in np.mean(scores, axis=0)))


def pair(mnist: Data) -> Data:
    """Return the threes and eights."""
    parts = []
    for s in (mnist.train, mnist.test):
        assert isinstance(s, ArraySamples)
        chosen = torch.isin(s.labels, torch.tensor([3, 8]))
        parts.append(ArraySamples(s.inputs[chosen], (s.labels[chosen] == 8).long(), s.mean, s.std))
    return Data("MNIST 3 and 8", parts[0], parts[1], ("3", "8"))


def removals(data: Data, method: CertifiedRemoval, most: int) -> str:
    """Remove one random record after another until the budget refuses or `most` are gone."""
    whole = Split.of(data, validation=0.0)
    started = time.perf_counter()
    artifact: Artifact = prepare(method, network(data), whole, RECIPE, Run(0, "cpu"))
    trained = time.perf_counter() - started
    before = percent(artifact.model, whole.test)
    order = np.random.default_rng(0).permutation(len(data.train))[:most]
    served, worst, seconds, residuals, refused = 0, 0.0, [], [], False
    for item in order:
        split = Split.of(data, Request.of(items=[int(item)]), 0.0, earlier=artifact.record.earlier_requests)
        started = time.perf_counter()
        try:
            artifact = apply(method, Case(artifact, split, Run(1, "cpu")))
        except InputError:
            refused = True
            break
        seconds.append(time.perf_counter() - started)
        charged = next(r for r in artifact.record.history if r["stage"].endswith("/removal"))
        residuals.append(charged["residual"])
        account = next(r for r in artifact.record.history if r["stage"] == "certified-removal")
        worst = max(worst, charged["residual"] / account["spent"])
        served += 1
    account = next(r for r in artifact.record.history if r["stage"] == "certified-removal")
    last = Split.of(data, None, 0.0, earlier=artifact.record.earlier_requests)
    again = prepare(method, network(data), last, RECIPE, Run(0, "cpu"))
    return row(
        data.name,
        f"{method.lam:g}",
        f"{method.sigma:g}",
        "tight" if method.tight else "official",
        f"{served}{'' if refused else ' (stopped there)'}",
        f"{account.get('epsilon', 0.0):.3f}",
        f"{max(residuals, default=0.0):.1e}",
        f"{worst:.3f}",
        before,
        percent(artifact.model, last.test),
        percent(again.model, last.test),
        f"{trained:.1f}",
        f"{np.median(seconds) if seconds else 0:.2f}",
    )


def certified(root: Path) -> Iterator[str]:
    """Yield how many removals a certificate covers, and what they do to accuracy."""
    yield "\n## Certified removal on MNIST pixels less 0.5, epsilon 1, delta 1e-4, one record at a time\n"
    yield (
        "Removals until the budget refuses; largest true residual; largest share of the account that the true residual "
        "is (above 1 the bound would be broken); accuracy before, after, and of the head trained anew without them.\n"
    )
    yield row(
        "data", "λ", "σ", "bound", "removals", "ε spent", "residual", "residual / account", "before, %", "after, %",
        "anew, %", "training, s", "a removal, s",
    )  # fmt: skip
    yield "|---" * 13 + "|"
    mnist = load("mnist", root, normalise=False)
    base = CertifiedRemoval(features="inputs", shift=0.5, noise="run")
    for lam, sigma, tight in ((1e-3, 10.0, False), (1e-3, 10.0, True), (1e-2, 10.0, True)):
        yield removals(pair(mnist), dataclasses.replace(base, lam=lam, sigma=sigma, tight=tight), MOST)
    yield removals(mnist, dataclasses.replace(base, lam=1e-2, sigma=10.0, tight=True), 3)


def main() -> None:
    """Compute, print and write all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    root = parser.parse_args().root
    digits = load("digits")
    lines = ["# Methods that prepare at training", "", "Written by `experiments/prepared.py`.", ""]
    for part in (sisa(digits), codes_in(digits), groups(digits), certified(root)):
        for line in part:
            print(line, flush=True)
            lines.append(line)
    out = Path(__file__).parent / "results" / "prepared" / "table.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
