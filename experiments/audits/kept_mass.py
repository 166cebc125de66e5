"""What the questions "mass" and "lean" find, by the number of references: draws of N from many retrained models.

Run: python experiments/audits/kept_mass.py experiments/audits/kept_mass.yaml WORK
Writes ../results/kept_mass/table.md, and sizes.md (how far retrained models lie apart), in experiments/. Models are
kept in WORK.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml
from audits import name_of
from planned import opened, original_of
from sealed import made_by, prepared
from torch import Tensor

import efface
from efface.auditing.measures.bands import band
from efface.auditing.measures.intervals import prediction_interval
from efface.auditing.measures.kept_mass import kept_lean, kept_log_probabilities, mass_divergence
from efface.data import Split, load
from efface.models.predictions import logits_of
from efface.references import load_references
from efface.request import Request

CONFIDENCE = 1 - 0.05 / 20
FURTHER = 4
"""Retrained models beside the N of a draw that are accused, wrongly."""


def answers(plan: dict, models: dict, c: int, work: Path) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return log-probabilities of kept classes on D_f: of retrained models, of the original, and by row of the plan."""
    data, request = load(models["data"]["source"]), Request.of(classes=[c])
    original, forget = original_of(models, data, work), Split.of(data, request).forget
    there = work / f"many-{models['seed']}-{c}"
    efface.train_references(original, data, request, plan["references"], there, workers=1, device="cpu")

    def asked(model: torch.nn.Module) -> Tensor:
        return kept_log_probabilities(logits_of(model, forget), [c])

    rows = {}
    for row in models["rows"]:
        start = prepared(models, row["method"], data, work) if row.get("prepared") else original
        made = work / models["name"] / f"class-{c}" / name_of(row["label"])
        rows[row["label"]] = asked(made_by(row, start, data, request, made).model)
    retrained = torch.stack([asked(r.model) for r in load_references(there, trust=True)])
    return retrained, asked(original.model), rows


def outside(candidates: list[Tensor], references: Tensor, original: Tensor) -> dict[str, list[bool]]:
    """Return by question which candidates lie outside of the band of the references."""
    rest = [torch.arange(len(references)) != i for i in range(len(references))]

    def size(p: Tensor, others: Tensor) -> float:
        return float(mass_divergence(p, others).mean())

    def lean(p: Tensor, others: Tensor) -> float:
        return kept_lean(p, others, original)

    found = {}
    for name, of, scale in (("Student", size, None), ("mass", size, "share"), ("lean", lean, "linear")):
        null = torch.tensor([of(r, references[k]) for r, k in zip(references, rest, strict=True)])
        ends = prediction_interval(null, CONFIDENCE) if scale is None else band(null, CONFIDENCE, scale=scale)
        low = ends.low if of is lean else -1.0  # the size of a difference has one side
        found[name] = [not low <= of(p, references) <= ends.high for p in candidates]
    return found


def read(plan_file: str) -> tuple[dict, dict, Path]:
    """Return the plan, the plan of its models, and the folder of its results."""
    plan, out = opened(plan_file)
    models = yaml.safe_load((Path(plan_file).parent / plan["models"]).read_text(encoding="utf-8"))
    return plan, models, out


def write_sizes(plan_file: str, folder: str) -> None:
    """Write how far each retrained model lies from the mean of the others, and each row from the mean of all."""
    plan, models, out = read(plan_file)
    lines = []
    for c in (*plan["chosen_on"], *plan["tested_on"]):
        retrained, _, rows = answers(plan, models, c, Path(folder))
        rest = [torch.arange(len(retrained)) != i for i in range(len(retrained))]
        own = torch.stack([mass_divergence(r, retrained[k]).mean() for r, k in zip(retrained, rest, strict=True)])
        cells = [f"{100 * x:.1f}" for x in (own.min(), own.median(), own.max())]
        cells += [f"{100 * float(mass_divergence(p, retrained).mean()):.1f}" for p in rows.values()]
        lines.append(f"| {c} | {retrained.shape[1]} | {' | '.join(cells)} |")
    head = [
        f"Mean Jensen-Shannon divergence among the kept classes, in %: of {plan['references']} retrained models, each "
        "to the",
        "mean of the others, the least, the median and the largest; of each row to the mean of all.",
        "Written by experiments/audits/kept_mass.py.",
        "",
        f"| class | records | least | median | largest | {' | '.join(rows)} |",
        "|---" * (5 + len(rows)) + "|",
    ]
    (out / "sizes.md").write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def main(plan_file: str, folder: str) -> None:
    """Draw references, and count how often each row and further retrained models lie outside."""
    write_sizes(plan_file, folder)
    plan, models, out = read(plan_file)
    names, lines = ("Student", "mass", "lean"), []
    for c in (*plan["chosen_on"], *plan["tested_on"]):
        retrained, original, rows = answers(plan, models, c, Path(folder))
        generator = torch.Generator().manual_seed(c)
        for n in plan["sizes"]:
            counts = {label: dict.fromkeys(names, 0) for label in ("further retrained models", *rows)}
            for _ in range(plan["draws"]):
                order = torch.randperm(len(retrained), generator=generator)
                further = list(retrained[order[n : n + FURTHER]])
                found = outside([*further, *rows.values()], retrained[order[:n]], original)
                for name in names:
                    counts["further retrained models"][name] += sum(found[name][:FURTHER])
                    for label, lies_outside in zip(rows, found[name][FURTHER:], strict=True):
                        counts[label][name] += lies_outside
            for label, by_name in counts.items():
                of = plan["draws"] * (FURTHER if label.startswith("further") else 1)
                cells = " | ".join(f"{by_name[name] / of:.1%}" for name in names)
                lines.append(f"| {c} | {n} | {label} | {cells} |")
            print(c, n, counts, flush=True)
    chosen, tested = (", ".join(map(str, plan[k])) for k in ("chosen_on", "tested_on"))
    head = [
        f"Share of {plan['draws']} draws of N from {plan['references']} retrained models in which a model is outside;",
        f"nominal {1 - CONFIDENCE:.2%}. Student: the size of the difference by Student's interval; mass: the same by",
        f"the band; lean: by the band. The lean was chosen on classes {chosen}; {tested} were looked at afterwards.",
        "Written by experiments/audits/kept_mass.py.",
        "",
        "| class | N | model | Student | mass | lean |",
        "|---|---|---|---|---|---|",
    ]
    (out / "table.md").write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
