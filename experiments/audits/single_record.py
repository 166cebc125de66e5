"""Is one record that stayed found? Detection and false alarms of the question "single", on digits.

    python experiments/audits/single_record.py experiments/audits/single_record.json

91 training records of digits are asked for; 11 of them have wrong labels, so that a model must memorise them. 64 small
perceptrons are trained without the 91, and 16 each with 1, 2, 3, 5 or 11 of the memorised ones left, side by side. N of
the 64 are references, 20 others are accused wrongly or not; drawn 24 times. A model is found if its largest deviation
lies beyond the band of leave-one-out, as in an audit of items (confidence 1 - 0.05 / 8). The models of all draws are
the same 144, so the rates' errors are larger than their counts say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from efface.auditing.floors import Floors
from efface.auditing.measures.exposure import deviations, largest
from efface.auditing.measures.margins import margins
from efface.auditing.scores.score import Score

ASKED, MEMORISED, REFERENCES, EACH = 91, 11, 64, 16
LEFT = (1, 2, 3, 5, 11)
CONFIDENCE = 1 - 0.05 / 8


def trained() -> tuple[Tensor, list[int]]:
    """Return margins of all models on the records asked for, and how many each still saw."""
    x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
    x, g = (x / 16).float(), torch.Generator().manual_seed(1)
    order = torch.randperm(len(y), generator=g)[:1397]
    x, y = x[order], y[order].clone()
    y[:MEMORISED] = (y[:MEMORISED] + 1 + torch.randint(0, 9, (MEMORISED,), generator=g)) % 10
    left = [0] * REFERENCES + [k for k in LEFT for _ in range(EACH)]
    seen = torch.ones(len(left), len(y))
    seen[:, :ASKED] = 0
    for row, k in zip(seen, left, strict=True):
        row[torch.randperm(MEMORISED, generator=g)[:k]] = 1
    sizes = ((64, 64), (1, 64), (64, 10), (1, 10))
    weights = [((torch.rand(len(left), *s, generator=g) * 2 - 1) / 8).requires_grad_() for s in sizes]
    optimiser = torch.optim.SGD(weights, lr=0.05, momentum=0.9)

    def answers(batch: Tensor) -> Tensor:
        w, b, v, c = weights
        return torch.baddbmm(c, torch.baddbmm(b, batch, w).relu(), v)

    for _ in range(40):
        shuffled = torch.rand(len(left), len(y), generator=g).argsort(1)
        for rows in shuffled.split(64, 1):
            used = seen.gather(1, rows)
            loss = cross_entropy(answers(x[rows]).flatten(0, 1), y[rows].flatten(), reduction="none").view(used.shape)
            optimiser.zero_grad()
            ((loss * used).sum(1) / used.sum(1).clamp_min(1)).sum().backward()
            optimiser.step()
    with torch.no_grad():
        logits = answers(x[:ASKED].expand(len(left), -1, -1))
    return torch.stack([margins(z, y[:ASKED]) for z in logits]), left


def main() -> None:
    """Write, by number of references, the share found by records left; 0 left are false alarms."""
    torch.set_num_threads(1)
    found, left = trained()
    g = torch.Generator().manual_seed(0)
    table: dict[str, dict[str, list[int]]] = {}
    for n in (4, 8, 16, 32):
        counts = {k: [0, 0] for k in (0, *LEFT)}
        for _ in range(24):
            order = torch.randperm(REFERENCES, generator=g)
            references = found[order[:n]]
            floors = Floors()
            for i in range(n):
                others = references[torch.arange(n) != i]
                floors.add({"exposure": Score(value=largest(deviations(references[i], others)[0]))})
            high = floors.band("exposure", CONFIDENCE).high
            for i in (*order[n : n + 20].tolist(), *range(REFERENCES, len(left))):
                counts[left[i]][0] += abs(largest(deviations(found[i], references)[0])) > high
                counts[left[i]][1] += 1
        table[str(n)] = {str(k): v for k, v in counts.items()}
        print(n, {k: f"{hits} of {of}" for k, (hits, of) in counts.items()})
    Path(sys.argv[1]).write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
