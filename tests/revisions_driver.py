"""What one revision of Efface does on scikit-learn's digits, as JSON: `tests/revisions.py` runs this under each.

    PYTHONPATH=SRC python -P tests/revisions_driver.py SRC FACTS.json SCRATCH_FOLDER --only weights,audits,tables

It runs unchanged on revisions before and after inner modules move, so nothing but the public names of `efface` and the
command line may be used here. Everything is small: what matters is that each line of code is passed, not the scores.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import re
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import efface

CLASS = 3
ITEMS = tuple(range(0, 240, 20))
REQUESTS = {"class": {"classes": [CLASS]}, "items": {"items": list(ITEMS)}}
REFERENCES = 6
"""Retrained models of level c, also enough for U-LiRA, KLoM and forgetting quality."""
RECIPE = {"lr": 0.1, "epochs": 6, "batch_size": 64, "seed": 5}
MLP = {"build": "mlp", "arguments": {"hidden": [16], "activation": "relu"}}

SETTINGS: dict[str, dict[str, Any]] = {
    "boundary-expand": {"epochs": 2, "min_steps": 6},
    "boundary-shrink": {"epochs": 2, "min_steps": 6},
    "bad-teacher": {"min_steps": 10},
    "certified-removal": {"noise": "run"},
    "cf-k": {"epochs": 2},
    "delete": {"epochs": 4},
    "gradient-ascent": {"epochs": 4},
    "l1-sparse": {"epochs": 2},
    "neg-grad-plus": {"epochs": 2},
    "ntk-f": {"largest_gap": 1e6},  # models this small and this briefly trained are far from their linearisation
    "random-labels": {"epochs": 2},
    "salun": {"epochs": 2},
    "scrub": {"retain_steps": 20},
    "unsir": {"noise_steps": 10, "noise_batch": 32, "retain_per_class": 50, "min_steps": 6},
    "zero-shot-gkt": {"pseudo_batches": 6, "student_steps": 4, "batch_size": 32, "generator_width": 8},
    "zero-shot-noise": {"noise_steps": 10, "noise_batch": 32},
}
"""Settings of forgetting that make a method quick; every other method, also one added later, runs at its defaults."""

TRAINING: dict[str, dict[str, Any]] = {
    "amnesiac": {"classes": [CLASS], "items": list(ITEMS)},
    "certified-removal": {"noise": "run"},  # by default it is drawn from the system, each time anew
}
"""Settings of training for methods that are prepared at training."""

PLAN = {
    "name": "revisions",
    "data": {"source": "digits"},
    "model": MLP,
    "recipe": {"lr": 0.1, "epochs": 4, "batch_size": 64},
    "requests": [REQUESTS["class"], REQUESTS["items"]],
    "seeds": [0, 1],
    "measures": ["accuracy", "probe", "relearning"],
    "methods": [
        {"method": "original"},
        {"method": "retrain"},
        {"method": "logit-mask"},
        {"method": "decay", "grid": {"rate": [0.2, 0.5]}},
        {"method": "mnemonic", "train": {"method": "mnemonic"}},
        {"method": "fine-tune", "settings": {"epochs": 0.5}},
    ],
    "published": {"fine-tune": {"A_R": "12.3 ± 0.4"}},
}
TIMES = {"seconds", "cpu_seconds", "of_retrain", "train_seconds", "speedup", "peak_memory"}
VOLATILE_LINE = (
    r"Machine: |Retraining for as long|Not measured: |Efface \d|- (Time|When|Done|Requested|Versions|Peak memory): "
)
VOLATILE = TIMES | {"created", "versions", "path", "folder"}


def main() -> None:
    """Do all that was asked, and write what came of it."""
    parser = argparse.ArgumentParser(description="What one revision does; run by revisions.py.")
    parser.add_argument("src", type=Path)
    parser.add_argument("facts", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--only", default="weights,audits,tables")
    parser.add_argument("--methods", default="")
    options = parser.parse_args()
    imported = Path(efface.__file__).resolve()
    if not imported.is_relative_to(options.src.resolve()):
        sys.exit(f"efface was imported from {imported}, not from {options.src}: set PYTHONPATH to the latter")
    torch.set_num_threads(1)
    options.scratch.mkdir()
    only = options.only.split(",")
    facts: dict[str, Any] = {}
    if "weights" in only:
        facts["weights"] = weights([m for m in options.methods.split(",") if m])
    if "audits" in only:
        facts["audits"] = audits(options.scratch)
    if "tables" in only:
        facts["tables"] = tables(options.scratch)
    options.facts.write_text(json.dumps(facts), encoding="utf-8")


def weights(chosen: list[str]) -> dict[str, Any]:
    """Return network -> request -> method -> SHA-256 of the weights, or why the method refused."""
    catalogue = json.loads(command("methods", "--json"))
    data = efface.load_data("digits")
    found: dict[str, Any] = {}
    for network in ("mlp", "conv"):
        original = trained(network, data)
        here: dict[str, Any] = {"trained": {"plain": sha256(original.model)}} | {kind: {} for kind in REQUESTS}
        for row in catalogue:
            name = row["name"]
            if chosen and name not in chosen:
                continue
            start = original
            if row["prepared"]:
                try:
                    start = trained(network, data, method=name, settings=TRAINING.get(name))
                except efface.InputError as error:  # e.g. one that needs groups, which digits have not
                    here["trained"][name] = f"refused: {steady(str(error))}"
                    continue
                here["trained"][name] = sha256(start.model)
            for kind, request in REQUESTS.items():
                if ("classes" if kind == "class" else "items") in row["targets"]:
                    here[kind][name] = forgotten(start, data, request, name)
        found[network] = here
    return found


def trained(network: str, data: efface.Data, **prepared: Any) -> efface.Artifact:
    """Return a small network trained on digits."""
    model: Any = efface.ModelSpec(**MLP) if network == "mlp" else conv()
    return efface.train(model, data, recipe=efface.Recipe(**RECIPE), device="cpu", **prepared)


def conv() -> nn.Module:
    """Return a convolutional network with BatchNorm, by the same initial weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 12, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 10),
        )


def forgotten(original: efface.Artifact, data: efface.Data, request: dict[str, Any], method: str) -> str:
    """Return the SHA-256 of what a method makes, or its reason for refusing."""
    asked = efface.Request(**request)
    try:
        made = efface.forget(original, data, asked, method=method, settings=SETTINGS.get(method), device="cpu")
    except efface.InputError as error:
        return f"refused: {steady(str(error))}"
    return sha256(made.model)


def sha256(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def audits(scratch: Path) -> dict[str, Any]:
    """Return the audits and reports by network, request and level, and what verifying finds."""
    data = efface.load_data("digits")
    found: dict[str, Any] = {}
    for network, kind, method, levels in (
        ("mlp", "class", "decay", "abc"),
        ("mlp", "items", "neg-grad-plus", "abc"),
        ("conv", "class", "fine-tune", "b"),
    ):
        original = trained(network, data)
        request = efface.Request(**REQUESTS[kind])
        made = efface.forget(original, data, request, method=method, settings=SETTINGS.get(method), device="cpu")
        # Without its time no row is trained for as long, which is another model each time.
        made = dataclasses.replace(made, record=made.record.model_copy(update={"seconds": {}}))
        retrained = [
            efface.forget(original, data, request, method="retrain", seed=seed, device="cpu")
            for seed in range(REFERENCES)
        ]
        folder = scratch / f"{network} {kind}"
        made.save(folder)
        for level in levels:
            references = {"a": False, "b": retrained[:2], "c": retrained}[level]
            audit = efface.audit(made, data, retrained=references, device="cpu")
            if audit.level != level:
                raise RuntimeError(f"{len(retrained)} references no longer make level {level}; raise REFERENCES")
            efface.write_report(audit, made.record, folder)
            found[f"{network} {kind} {level}"] = written(folder)
        if network == "mlp":
            verified = efface.verify(folder, original, data, retrained=retrained, device="cpu")
            found[f"verify {kind}"] = [json.loads(f.model_dump_json()) for f in verified.findings]
    class_, items = ["--classes", str(CLASS)], ["--items", ",".join(map(str, ITEMS))]
    found["commands, class"] = audited_by_command(scratch, "mnemonic", ["--method", "mnemonic"], class_, ())
    found["commands, items"] = audited_by_command(scratch, "gradient-ascent", [], items, ["--shadows", "6"])
    return found


def audited_by_command(
    scratch: Path, method: str, prepared: Sequence[str], request: Sequence[str], shadows: Sequence[str]
) -> dict[str, Any]:
    """Return the audit that subcommands make of a method, against a folder of references and repeats."""
    original, made, references = (str(scratch / f"{method} {n}") for n in ("original", "forgotten", "references"))
    model = ["--model", MLP["build"], *(f"--model-set={k}={json.dumps(v)}" for k, v in MLP["arguments"].items())]
    recipe = [f"--recipe-set={k}={v}" for k, v in RECIPE.items()]
    common = ["--device", "cpu", "-q"]
    retrained = ["--references", str(REFERENCES), "--repeats", "3", *shadows, "--backend", "serial"]
    command("train", "--data", "digits", *model, *recipe, *prepared, *common, "--out", original)
    command("forget", original, "--method", method, *request, *common, "--out", made)
    record = Path(made) / "record.json"
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"seconds": {}}), encoding="utf-8")
    command("train", "--from", original, *retrained, "--method", method, *request, *common, "--out", references)
    command("audit", made, "--original", original, "--references", references, *common)
    return written(Path(made))


def written(folder: Path) -> dict[str, Any]:
    """Return the audit and the report in a folder without what changes from run to run."""
    audit = json.loads((folder / "audit.json").read_bytes())
    titles = {audit["measures"][key]["title"] for key in TIMES if key in audit["measures"]}
    page = (folder / "report.html").read_text(encoding="utf-8")
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    return {
        "audit.json": steady(audit),
        "report.md": list(without_times(lines, titles | {"Time"})),
        "figures": figures(page),
    }


def figures(page: str) -> dict[str, str]:
    """Return the SHA-256 of every figure of report.html by its name, but for that of times."""
    found = {}
    for number, figure in enumerate(re.findall(r"<svg.*?</svg>", page, re.DOTALL)):
        named = re.search(r'aria-labelledby="fig-(\S+)-title', figure)
        found[named[1] if named else f"without a name, {number}"] = hashlib.sha256(figure.encode()).hexdigest()
    return {name: digest for name, digest in found.items() if name != "time"}


def steady(value: Any) -> Any:
    """Return JSON without times, dates, versions, paths, and the methods that a refusal names instead."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in VOLATILE and not k.startswith("as_long")}
    if isinstance(value, str):
        return re.sub(r"(methods that can:) [a-z0-9, -]+", r"\1 (left out)", value)
    return [steady(v) for v in value] if isinstance(value, list) else value


def tables(scratch: Path) -> dict[str, Any]:
    """Return results.csv and table.md of a small comparison without their columns of times."""
    plan = scratch / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    out = scratch / "results"
    efface.compare(plan, out=out, device="cpu")
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = (out / "table.md").read_text(encoding="utf-8").splitlines()
    return {
        "results.csv": {f"{r['entry']} {r['rate']} {r['request']} seed {r['seed']}": steady(r) for r in rows},
        "table.md": steady(list(without_times(lines, TIMES))),
    }


def without_times(lines: list[str], names: set[str]) -> Iterator[str]:
    """Yield the lines of a Markdown file without times, dates, versions and the machine.

    Args:
        lines: The file's.
        names: Headers of columns, and first cells of rows, that are left out of tables.
    """
    kept: list[int] = []
    left_out = False
    for line in lines:
        if not line.startswith("|"):
            kept, left_out = [], False
            if not re.match(rf"{VOLATILE_LINE}|- \*\*({'|'.join(TIMES)})\*\*", line):
                yield line
            continue
        cells = [c.strip() for c in line.strip("|").split("|")]
        left_out = left_out or "of that retraining" in cells
        kept = kept or [i for i, c in enumerate(cells) if c not in names]
        if cells[0].partition(" (good: ")[0] not in names and not left_out:
            yield " | ".join(cells[i] for i in kept)


def command(*arguments: str) -> str:
    """Run `efface` in this process, and return what it prints."""
    before, sys.argv = sys.argv, ["efface", *arguments]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_module("efface", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"efface {' '.join(arguments)} ended with status {end.code}") from end
    finally:
        sys.argv = before
    return printed.getvalue()


if __name__ == "__main__":
    main()
