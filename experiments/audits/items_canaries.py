"""Do item requests conclude? Audits of digits models that were trained with canaries, and of requests that name them.

    python experiments/audits/items_canaries.py experiments/audits/items_canaries.yaml [FOLDER]

For each network, seed and number of records asked for (drawn at random): an original with canaries, references and
further retrained models without what the request names, the original itself, the original with its logits halved (it
forgot nothing, and no weight of the head is the same), and methods. Each is audited at level (b), with the first
reference, and at level (c), with all. Finished cases are kept in FOLDER and not made again. Writes audits.json and
table.md to ../results/items_canaries.
"""

from __future__ import annotations

import collections
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

import efface
from efface.auditing.measures.intervals import wilson
from efface.data import Split

PLACE = Path(__file__).parent
OUT = PLACE.parent / "results" / "items_canaries"
KEPT = ("original", "original, logits halved", "fine-tune")
"""Rows that keep the canaries: nothing was done to the first two, and next to nothing to the third (three epochs on
kept data at a rate of a thousandth)."""

Case = tuple[str, int, int, bool]


def cases(plan: dict[str, Any]) -> Iterator[Case]:
    """Yield network, seed, size, and whether the request names the canaries."""
    for network, about in plan["networks"].items():
        for seed in about["seeds"]:
            for size in about["sizes"]:
                yield network, seed, size, True
                if seed in about["without"] and size > 1:
                    yield network, seed, size, False


def halved(original: efface.Artifact) -> nn.Module:
    """Return the original with half of its logits: all answers the same, less sure."""
    model = copy.deepcopy(original.model)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(0.5)
    return model


def audited(plan: dict[str, Any], case: Case, trained: dict[tuple[str, int], efface.Artifact]) -> list[dict[str, Any]]:
    """Make all models of one case and audit each at both levels."""
    network, seed, size, named = case
    data = efface.load_data("digits")
    if (network, seed) not in trained:
        model = efface.ModelSpec(**plan["networks"][network]["model"])
        recipe = efface.Recipe(**plan["recipe"], seed=seed)
        trained[network, seed] = efface.train(model, data, recipe=recipe, canaries=plan["canaries"], device="cpu")
    original = trained[network, seed]
    rng = np.random.default_rng([seed, size])
    items = rng.choice(Split.of(data, seed=seed).retain.indices, size, replace=False)
    request = efface.Request(items=tuple(sorted(items.tolist())), canaries=named)

    def forget(method: str, settings: dict[str, Any] | None = None, k: int = 0) -> efface.Artifact:
        return efface.forget(original, data, request, method=method, settings=settings, seed=k, device="cpu")

    references = [forget("retrain", k=100 + k) for k in range(plan["references"])]
    rows: list[tuple[str, nn.Module | efface.Artifact]] = [
        ("retrained", forget("retrain", k=200 + k)) for k in range(plan["retrained"])
    ]
    rows += [("original", original.model), ("original, logits halved", halved(original))]
    methods = plan["methods"] if named else {"fine-tune": plan["methods"]["fine-tune"]}
    rows += [(name, forget(**about)) for name, about in methods.items()]
    found = []
    for name, model in rows:
        for level, given in (("b", references[:1]), ("c", references)):
            audit = efface.audit(model, data, request, original=original, retrained=given, device="cpu")
            verdict = audit.verdict
            assert verdict.level == level
            asked = {c.key: c.outcome if c.told is not False else "cannot tell" for c in verdict.checks}
            found.append(
                {
                    **dict(zip(("network", "seed", "size", "named"), case, strict=True)),
                    "row": name,
                    "level": level,
                    "outcome": verdict.outcome,
                    "unfit": verdict.unfit,
                    "checks": asked,
                }
            )
    return found


def concludes(audit: dict[str, Any]) -> bool:
    """Return whether an audit ends in a verdict."""
    return audit["outcome"] != "not assessed"


def share(hits: Sequence[bool]) -> str:
    """Write a share of audits with Wilson's interval."""
    if not hits:
        return ""
    found = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({100 * found.low:.0f} to {100 * found.high:.0f} %)"


def right(audit: dict[str, Any]) -> bool:
    """Return whether a verdict is what is known of the model."""
    return audit["outcome"] == "alike" if audit["row"] == "retrained" else audit["outcome"] != "alike"


def table(audits: Sequence[dict[str, Any]], plan: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    titles = ("network", "canaries named", "level", "row", "audits", "conclude", "right of those", "outcomes")
    lines = [
        f"Digits, requests of 1 to 40 random records, {plan['canaries']} canaries, {plan['references']} references at "
        "level (c); with 95 % intervals.",
        "Written by experiments/audits/items_canaries.py.",
        "",
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
    ]
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for a in audits:
        for row in ("all", a["row"]):
            groups[a["network"], "yes" if a["named"] else "no", a["level"], row].append(a)
    for key, own in groups.items():
        ended = [a for a in own if concludes(a)]
        known = [right(a) for a in ended if a["row"] in {"retrained", *KEPT}]
        counts = collections.Counter(a["outcome"] for a in own)
        outcomes = ", ".join(f"{n} {o}" for o, n in sorted(counts.items()))
        cells = (*key, str(len(own)), share([concludes(a) for a in own]), share(known), outcomes)
        lines.append("| " + " | ".join(cells) + " |")
    told = collections.Counter(
        k for a in audits if a["named"] and a["row"] == "original" for k, o in a["checks"].items() if o != "cannot tell"
    )
    originals = sum(a["named"] and a["row"] == "original" for a in audits)
    powers = ", ".join(f"{key} {n}" for key, n in told.most_common() if key not in {"test", "retain"})
    lines += ["", f"Questions that told the original, of {originals} audits: {powers}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make what is missing, and write the table after every case."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(PLACE))  # small_batch_norm, by import path
    plan = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    kept = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT / ".cases"
    kept.mkdir(parents=True, exist_ok=True)
    OUT.mkdir(parents=True, exist_ok=True)
    trained: dict[tuple[str, int], efface.Artifact] = {}
    audits: list[dict[str, Any]] = []
    for case in cases(plan):
        file = kept / ("-".join(map(str, case)) + ".json")
        if not file.is_file():
            file.write_text(json.dumps(audited(plan, case, trained)), encoding="utf-8")
        audits += json.loads(file.read_text(encoding="utf-8"))
        rows = ",\n".join(json.dumps(a) for a in audits)
        (OUT / "audits.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
        (OUT / "table.md").write_text(table(audits, plan), encoding="utf-8")


if __name__ == "__main__":
    main()
