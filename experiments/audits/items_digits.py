"""Do directions from records help to forget records? Digits with canaries, beside undo, weight distance and retraining.

Run: python experiments/audits/items_digits.py
Half of 26 random training records carry a wrong label, which the original has to memorise. Directions: those along
which the records to forget have the most energy at a layer's input for the least of the retained records (generalised
eigenvectors of their second moments), taken out by the projection that is orthogonal under the retained ones.
Writes ../results/items_digits/table.md. Judged on training and held-out training data alone.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import efface
from efface.artifact.artifact import Artifact
from efface.artifact.case import split_under
from efface.data import ArraySamples, Data, Part, Split, load
from efface.mechanisms.repair import lesson_loss, masked_teacher, repair
from efface.models.predictions import accuracy_of, logits_of
from efface.models.spec import ModelSpec
from efface.request import Request
from efface.running.run import Run
from efface.training.recipe import Recipe

SEEDS = (3, 4, 5)
MODEL = ModelSpec(build="mlp", arguments={"hidden": [256, 256], "activation": "relu"})
ROWS = [
    *(("fine-tune", {"epochs": e, "lr": 0.01}) for e in (1, 10)),
    *(("undo", {"alpha": a}) for a in (0.2, 0.45, 0.7, 0.9)),
    ("weight-distortion", {"epochs": 10, "sigma": 1.0}),
    *(("weight-distance", {"epochs": 10, "distance": a}) for a in (1, 10, 100)),
    ("neg-grad-plus", {}),
    ("scrub", {}),
]


def with_canaries(seed: int) -> tuple[Data, list[int], np.ndarray]:
    """Return digits with 13 wrong labels, the 26 records to forget, and the 13 among them."""
    data, rng = load("digits"), np.random.default_rng(seed)
    items = np.sort(rng.choice(Split.of(data, seed=seed).retain.indices, 26, replace=False))
    canaries = np.sort(rng.permutation(items)[:13])
    labels = data.train.labels.clone()
    labels[canaries] = (labels[canaries] + torch.from_numpy(rng.integers(1, 10, 13))) % 10
    assert isinstance(data.train, ArraySamples)
    return dataclasses.replace(data, train=ArraySamples(data.train.inputs, labels)), items.tolist(), canaries


def entering(model: nn.Module, part: Part) -> dict[str, Tensor]:
    """Return the inputs of every linear layer."""
    found: dict[str, Tensor] = {}
    handles = [
        m.register_forward_hook(lambda _, args, out, name=name: found.update({name: args[0].double()}))
        for name, m in model.named_modules()
        if isinstance(m, nn.Linear)
    ]
    with torch.no_grad():
        model(part.tensors()[0])
    for handle in handles:
        handle.remove()
    return found


def without_directions(model: nn.Module, split: Split, k: int, strength: float) -> nn.Module:
    """Return a copy whose layers no longer read the k directions of the records to forget."""
    gone, kept = entering(model, split.forget), entering(model, split.retain)
    made = Run(device="cpu").copied(model)
    for name, layer in made.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        second = kept[name].T @ kept[name] / len(kept[name])
        second += 1e-3 * second.diagonal().mean() * torch.eye(len(second), dtype=torch.float64)
        inverse = torch.linalg.inv(torch.linalg.cholesky(second))
        energy = inverse @ (gone[name].T @ gone[name] / len(gone[name])) @ inverse.T
        u = inverse.T @ torch.linalg.eigh(energy).eigenvectors[:, -k:]
        reads = u @ torch.linalg.solve(u.T @ second @ u, u.T @ second)
        with torch.no_grad():
            layer.weight.sub_(strength * (layer.weight.double() @ reads.T).float())
    return made


def scores(model: nn.Module, split: Split, canaries: np.ndarray) -> list[float]:
    """Return accuracy and mean margin of canaries, then of the other records; accuracy on held-out and kept data."""
    z, y = logits_of(model, split.forget), split.forget.labels
    margin = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    odd = torch.from_numpy(np.isin(split.forget.indices, canaries))
    right = (z.argmax(1) == y).double()
    return [
        *(float(v) for which in (odd, ~odd) for v in (100 * right[which].mean(), margin[which].mean())),
        100 * accuracy_of(model, split.validation),
        100 * accuracy_of(model, split.retain),
    ]


def main() -> None:
    """Run all rows for all seeds."""
    torch.set_num_threads(1)
    table: dict[str, list[list[float]]] = {}
    for seed in SEEDS:
        data, items, canaries = with_canaries(seed)
        recipe = Recipe(
            optimiser="adam", lr=3e-3, weight_decay=0, schedule="cosine", epochs=100, batch_size=64, seed=seed
        )
        original = efface.train(MODEL, data, recipe=recipe, device="cpu")
        request = Request.of(items=items)
        split = split_under(original.record, data, request).only(("forget", "retain", "validation"), "this table")

        def add(label: str, model: nn.Module, split: Split = split, canaries: np.ndarray = canaries) -> None:
            table.setdefault(label, []).append(scores(model, split, canaries))

        def forget(method: str, settings: dict, seed: int = 0, original: Artifact = original, data: Data = data,
                   request: Request = request) -> nn.Module:  # fmt: skip
            return efface.forget(
                original, data, request, method=method, settings=settings, seed=seed, device="cpu"
            ).model

        add("original", original.model)
        for s in (0, 1):
            add("retrained", forget("retrain", {}, s))
        for method, settings in ROWS:
            add(f"{method} {' '.join(f'{k} {v:g}' for k, v in settings.items())}", forget(method, settings))
        teacher = masked_teacher(original.model, ())
        for k in (5, 13, 26):
            for strength in (0.5, 1.0):
                made = without_directions(original.model, split, k, strength)
                add(f"{k} directions, s {strength:g}", made)
                loss = lesson_loss("both", teacher)
                short = recipe.but(lr=2e-3, epochs=5)
                repair(made, split.retain, short, Run(seed=seed, device="cpu"), stage="items", loss=loss)
                add(f"{k} directions, s {strength:g}, and 5 epochs", made)
    out = Path(__file__).parents[1] / "results" / "items_digits"
    out.mkdir(parents=True, exist_ok=True)
    titles = "row", "canaries right", "margin", "other records right", "margin", "held-out right", "kept right"
    lines = [
        f"Digits, MLP 256-256, originals of seeds {', '.join(map(str, SEEDS))}; means. Written by",
        "experiments/audits/items_digits.py.",
        "",
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
    ]
    for label, found in table.items():
        mean = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
        lines.append(f"| {label} | " + " | ".join(f"{v:.1f}" for v in mean) + " |")
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
