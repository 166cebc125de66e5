"""Rows of methods and settings, measured on held-out training data beside retrained models; nothing reads test data.

Run: python experiments/audits/switches.py PLAN.yaml DATA WORK
Writes ../results/NAME/results.csv (one row per class and row of the plan) and table.md in experiments/.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch
from planned import original_of, planned, references_of
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import efface
from efface.artifact.case import split_under
from efface.auditing.scores.relearning import relearn
from efface.data import Part, Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.models.head import head, penultimate
from efface.models.predictions import accuracy_of, logits_of
from efface.references.as_long import shortened
from efface.request import Request
from efface.running.run import Run

CAP = 100


def recall(model: nn.Module, split: Split, per_class: int, draws: int) -> float:
    """Recall of held-out records of the class by logistic regression on standardised inputs of the head."""
    generator = torch.Generator().manual_seed(0)
    found = []
    unseen = penultimate(model, split.validation_forget.batches(Epoch(512)))
    whole = split.forget.joined(split.retain)
    for _ in range(draws):
        chosen = torch.cat(
            [
                torch.from_numpy(whole.of_class(c).sample(per_class, generator).indices)
                for c in (*split.forget_classes, *split.retain_classes)
            ]
        )
        seen = penultimate(model, Part("probe", split.data.train, chosen.numpy()).batches(Epoch(512)))
        scale = StandardScaler().fit(seen.features.numpy())
        probe = LogisticRegression(max_iter=300).fit(scale.transform(seen.features.numpy()), seen.labels.numpy())
        answers = probe.predict(scale.transform(unseen.features.numpy()))
        found.append(float((answers == unseen.labels.numpy()).mean()))
    return sum(found) / len(found)


def mass(model: nn.Module, part: Part, kept: list[int]) -> Tensor:
    """Return softmax over the kept classes (N, kept)."""
    return logits_of(model, part)[:, kept].double().softmax(1)


def js(p: Tensor, q: Tensor) -> float:
    """Return the mean Jensen-Shannon divergence, in [0, 1]."""
    m = (p + q) / 2
    each = (torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)).nan_to_num(0).sum(1) / 2
    return float(each.mean() / torch.tensor(2.0).log())


def measured(model: nn.Module, original: nn.Module, references: list[nn.Module], split: Split, run: Run) -> dict:
    """Return what one model does, on training and held-out data alone."""
    kept = list(split.retain_classes)
    gone = list(split.forget_classes)
    forget = split.forget.sample(1000, run.generator("switches/forget"))
    _, layer = head(model, torch.zeros(2, *split.data.input_shape))
    bias, norm = layer.bias.detach(), layer.weight.detach().norm(dim=1)
    target = accuracy_of(original, forget) - 0.05
    others = [mass(r, forget, kept) for r in references if r is not model]
    steps = relearn(model, split.forget, target, run.child(), cap=CAP, watched=forget)
    return {
        "kept held-out": 100 * accuracy_of(model, split.validation_retain),
        "kept training": 100 * accuracy_of(model, split.retain.sample(10_000, run.generator("switches/retain"))),
        "forgotten held-out": 100 * accuracy_of(model, split.validation_forget),
        "recall from 10": 100 * recall(model, split, 10, 10),
        "recall from 200": 100 * recall(model, split, 200, 1),
        "JS of mass": js(mass(model, forget, kept), torch.stack(others).mean(0)),
        "relearning steps": steps.steps,
        "bias z": float((bias[gone] - bias[kept].mean()).div(bias[kept].std()).mean()),
        "norm z": float((norm[gone] - norm[kept].mean()).div(norm[kept].std()).mean()),
    }


def main(plan_file: str, root: str, folder: str) -> None:
    """Run the plan, skipping what is in results.csv already."""
    plan, data, work, out = planned(plan_file, root, folder)
    original = original_of(plan, data, work)
    file = out / "results.csv"
    rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
    for c in plan["classes"]:
        request = Request.of(classes=[c])
        retrained = references_of(original, data, plan["seed"], c, plan["references"], work)
        references = [r.model for r in retrained]
        split = split_under(original.record, data, request).only(("forget", "retain", "validation"), "this table")
        run = Run(seed=plan["seed"], device="cpu")

        def add(label: str, model: nn.Module, seconds: float, c: int = c, split: Split = split, run: Run = run,
                references: list[nn.Module] = references) -> None:  # fmt: skip
            scores = measured(model, original.model, references, split, run)
            rows.append({"row": label, "class": c, "seconds": seconds, "refused": ""} | scores)
            pd.DataFrame(rows).to_csv(file, index=False, float_format="%.4f")
            print(label, c, {k: round(v, 3) for k, v in rows[-1].items() if isinstance(v, float)}, flush=True)

        done = {r["row"] for r in rows if r["class"] == c}
        if "original" not in done:
            add("original", original.model, 0.0)
        for i, reference in enumerate(retrained):
            if f"retrained {i}" not in done:
                add(f"retrained {i}", references[i], reference.record.seconds["forget"])
        for row in plan["rows"]:
            if row["label"] in done:
                continue
            start = shortened(original, row.get("epochs"))
            settings = plan.get("base", {}).get(row["method"], {}) | row.get("settings", {})
            try:
                made = efface.forget(start, data, request, method=row["method"], settings=settings, device="cpu")
            except InputError as error:
                rows.append({"row": row["label"], "class": c, "refused": str(error)})
                continue
            add(row["label"], made.model, made.record.seconds["forget"])
    write_table(pd.DataFrame(rows), out / "table.md", plan)


def write_table(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write one line per row of the plan, with the classes side by side."""
    columns = [c for c in frame.columns if c not in {"row", "class", "refused", "seconds"}]
    lines = [
        f"Classes {', '.join(map(str, plan['classes']))} of one original (seed {plan['seed']}), in this order (- where",
        "not run); of the retrained models, their range. Training and held-out training data only.",
        "Written by experiments/audits/switches.py.",
        "",
        "| row | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    frame = frame.assign(row=frame["row"].str.replace(r"^retrained \d+$", "retrained", regex=True))
    known = ["original", "retrained", *(row["label"] for row in plan["rows"])]
    for label in (k for k in known if k in set(frame["row"])):
        cells = []
        for column in columns:
            each = []
            for c in plan["classes"]:
                values = frame[(frame["row"] == label) & (frame["class"] == c)][column].dropna()
                low, high = (f"{v:.4g}" for v in (values.min(), values.max())) if len(values) else ("-", "-")
                each.append(low if low == high else f"{low} to {high}")
            cells.append(" / ".join(each))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
