"""How often an audit is wrong: models whose truth is known, beside fresh retrained models for each request.

Run: python experiments/audits/error_rates.py experiments/audits/error_rates.yaml DATA [tables | level-b | SETTING]
Writes ../results/NAME/audits.csv and resampled.csv (one row per audit) and table.md in experiments/. A stopped run
resumes; with `tables` only the tables are written, from what is there; with the name of one of the plan's settings
under `resampled` only that one is run; with `level-b` the rows by one reference are made again and take the place of
those that are there. Per request all accused models face the same references at level (c), and those
of one level are among those of the next; at level (b) each has another reference, and the tolerance is written down
that each question would need to pass, so that one run serves for any. Where training is dear (`resampled`) one pool of
retrained models a request gives both references and accused, drawn again and again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from error_models import Models, asked_by, side_by_side
from error_tables import AS_TRAINED, write_tables
from judged import Judged, judged, remembering
from level_b import WATCHED, needed
from planned import data_of, opened
from torch import nn

from efface.auditing.questions import QUESTIONS
from efface.auditing.settings import AuditSettings


def rows_of(found: Mapping[str, Judged], n: int, references: str) -> Iterator[dict[str, Any]]:
    """Yield one row per audit by N references."""
    for name, one in found.items():
        verdict = one.verdict
        row_name, _, number = name.partition(" #")
        row = {"references": references, "N": n, "row": row_name, "number": number, "outcome": verdict.outcome}
        differs = " ".join(f"{c.key}:{c.direction}" for c in verdict.checks if c.outcome == "differs")
        row |= {"differs": differs, "unfit": bool(verdict.unfit)}
        yield row | ({q.key: needed(q, one) for q in QUESTIONS} if n == 1 else {})


def at_levels(
    models: Models, references: Sequence[nn.Module], accused: Mapping[str, nn.Module], levels: Sequence[int], how: str
) -> Iterator[dict[str, Any]]:
    """Yield the audits of all accused models by the first N references."""
    for n in levels:
        settings = AuditSettings(ain_factor=WATCHED) if n == 1 else None
        found = judged(models.original, references[:n], accused, models.split, settings)
        yield from rows_of(found, n, how)


def in_a_ring(models: Models, honest: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Yield audits at level (b) of retrained models, each by the next one: one odd reference spoils one audit only."""
    listed = list(honest.items())
    for (name, model), (_, reference) in zip(listed, [*listed[1:], listed[0]], strict=True):
        found = judged(models.original, [reference], {name: model}, models.split, AuditSettings(ain_factor=WATCHED))
        yield from rows_of({name: found[name]}, 1, AS_TRAINED)


def kept_something(models: Models, plan: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Return models that did not forget, by name."""
    methods = ("fine-tune",) if models.asked.target is None else ("fine-tune", "logit-mask")
    return {m: models.by(m) for m in methods} | {f"{k} left": models.left(k) for k in plan["left"]}


def audited(models: Models, plan: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """Yield all audits of one request.

    Args:
        models: The request's.
        plan: How many of what.
        number: Of the request; some are made for every so many only.
    """
    made = models.retrained({"reference": max([1, *plan["levels"]]), "accused": plan["retrained"]})
    accused = {f"retrained #{k}": m for k, m in enumerate(made["accused"])}
    kept = kept_something(models, plan) if number % plan["kept_every"] == 0 else {}
    with remembering([*made["reference"], *made["accused"]]):
        yield from in_a_ring(models, accused)
        yield from at_levels(models, made["reference"], kept, [1], AS_TRAINED) if kept else ()
        yield from at_levels(models, made["reference"], accused | kept, plan["levels"], AS_TRAINED)
        for how, changes in plan["others"].items() if number % plan["other_every"] == 0 else ():
            others = models.retrained({how: max(plan["other_levels"])}, **changes)[how]
            yield from at_levels(models, others, accused, plan["other_levels"], how)


def from_pool(models: Models, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield audits by very many references, which one pool a request gives."""
    pool = plan["pool"]
    made = models.retrained({"pool": pool["references"], "pool, accused": pool["retrained"]})
    accused = {f"retrained #{k}": m for k, m in enumerate(made["pool, accused"])} | kept_something(models, plan)
    with remembering([*made["pool"][:8], *made["pool, accused"]]):
        yield from at_levels(models, made["pool"], accused, [pool["references"]], AS_TRAINED)


def resampled(models: Models, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield audits of one request in which references and accused are drawn from one pool, several times.

    Args:
        models: The request's.
        plan: Of the setting: `retrained` models in the pool, `draws` of them, at `levels` references.
    """
    pool = models.retrained({"pool": plan["retrained"]})["pool"]
    kept, most = kept_something(models, plan), max(plan["levels"])
    generator = torch.Generator().manual_seed(models.asked.seed)
    with remembering(side_by_side(pool)):
        for row in in_a_ring(models, {f"retrained #{k}": m for k, m in enumerate(pool)}):
            yield {"draw": "ring"} | row
        for draw in range(plan["draws"]):
            order = torch.randperm(len(pool), generator=generator).tolist()
            references = [pool[k] for k in order[:most]]
            accused = {f"retrained #{k}": pool[k] for k in order[most:]}
            for found in (
                at_levels(models, references, kept, [1], AS_TRAINED),
                at_levels(models, references, accused | kept, plan["levels"], AS_TRAINED),
            ):
                for row in found:
                    yield {"draw": draw} | row


def read(file: Path) -> pd.DataFrame:
    """Return the audits that are written down, none where no file is."""
    return pd.read_csv(file, keep_default_na=False, na_values=[""]) if file.is_file() else pd.DataFrame()


def by_fresh_models(plan: Mapping[str, Any], root: str, file: Path) -> None:
    """Run the requests that have models of their own, skipping those that are in the file already."""
    frame = read(file)
    data, originals = data_of(plan, root), {}
    listed = list(asked_by(plan))
    work = [(i, one, False) for i, one in enumerate(listed)]
    work += [(i, one, True) for i, one in enumerate(listed[: plan["pool"]["requests"]])]
    for number, one, pooled in work:
        key = f"{'pool ' * pooled}{one.key}"
        if len(frame) and (frame["request"] == key).any():
            continue
        models = Models(plan, data, one, originals)
        found = from_pool(models, plan) if pooled else audited(models, plan, number)
        rows = [{"request": key, "kind": one.kind, **row} for row in found]
        frame = pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)
        frame.to_csv(file, index=False, float_format="%.4g")
        print(key, len(rows), flush=True)


def again_at_level_b(plan: Mapping[str, Any], root: str, file: Path) -> None:
    """Make the rows by one reference again; until all are there, they stand in a file of their own."""
    only = {"levels": [], "other_levels": [1], "pool": {"requests": 0}}
    made = file.with_name("level_b.csv")
    by_fresh_models({**plan, **only}, root, made)
    others = read(file)
    frame = pd.concat([read(made), others[others["N"] != 1]], ignore_index=True)
    frame.sort_values("request", kind="stable").to_csv(file, index=False, float_format="%.4g")
    made.unlink()


def with_pools(plan: Mapping[str, Any], root: str, file: Path, only: str) -> None:
    """Run the settings whose models are drawn from pools, skipping requests that are in the file already."""
    for name, setting in plan["resampled"].items():
        if only not in {"", name}:
            continue
        data, originals = data_of(setting, root), {}
        for one in asked_by(setting):
            frame = read(file)
            if len(frame) and ((frame["setting"] == name) & (frame["request"] == one.key)).any():
                continue
            found = resampled(Models(setting, data, one, originals), setting)
            rows = [{"setting": name, "request": one.key, "kind": one.kind, **row} for row in found]
            # Read again: another process may have run another setting in the meantime.
            frame = pd.concat([read(file), pd.DataFrame(rows)], ignore_index=True)
            frame.to_csv(file, index=False, float_format="%.4g")
            print(name, one.key, len(rows), flush=True)


def main(plan_file: str, root: str, only: str = "") -> None:
    """Run the plan, skipping requests that are written down already."""
    plan, out = opened(plan_file)
    if only not in {"", "tables", "level-b", *plan["resampled"]}:
        sys.exit(f"{only!r} is neither tables, level-b nor a setting of the plan: {', '.join(plan['resampled'])}")
    if not only:
        by_fresh_models(plan, root, out / "audits.csv")
    if only == "level-b":
        again_at_level_b(plan, root, out / "audits.csv")
    if only not in {"tables", "level-b"}:
        with_pools(plan, root, out / "resampled.csv", only)
    write_tables(read(out / "audits.csv"), read(out / "resampled.csv"), out, plan)


if __name__ == "__main__":
    main(*sys.argv[1:])
