"""Table and Pareto figure of who_passes.py: share of audits passed against time as a share of retraining's.

Run: python experiments/audits/who_passes_figure.py PLAN.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import pandas as pd
import yaml

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = ("forgotten", "useful", "both")


def flags(frame: pd.DataFrame, key: str) -> pd.Series:
    """Return a column of truth values, as read back from a file."""
    return frame[key].astype(str).str.lower().isin(["true", "1", "1.0"])


def summed(frame: pd.DataFrame, plan: dict) -> pd.DataFrame:
    """Return one line per row of the plan: audits, shares passed, median time, what differs."""
    lines = []
    for row in plan["rows"]:
        part = frame[frame["row"] == row["label"]]
        if part.empty:
            continue
        forgotten, useful = flags(part, "forgotten"), flags(part, "useful")
        differs = pd.Series([d for text in part["differs"].fillna("") for d in str(text).split()], dtype=str)
        line = {
            "row": row["label"],
            "audits": len(part),
            "forgotten": forgotten.sum(),
            "useful": useful.sum(),
            "both": (forgotten & useful).sum(),
            "accuracy": 100 * part["test_accuracy"].astype(float).mean(),
            "share": 100 * part["share"].astype(float).median(),
            "judged": 100 * part["with judging"].astype(float).median(),
            "differs": ", ".join(f"{k} ({n})" for k, n in differs.value_counts().items()) or "-",
            "curve": bool(row.get("curve")),
        }
        if "sealed forgotten" in part:
            asked = part[part["sealed forgotten"].astype(str).str.lower().isin(["true", "false", "1.0", "0.0"])]
            survived = flags(asked, "forgotten") & flags(asked, "useful")
            both = flags(asked, "sealed forgotten") & flags(asked, "sealed useful")
            line["sealed"] = f"{(both & survived).sum()} of {survived.sum()}" if len(asked) else "-"
        lines.append(line)
    return pd.DataFrame(lines)


def write_table(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write one line per row of the plan."""
    seeds, classes = (", ".join(map(str, dict.fromkeys(frame[k]))) for k in ("seed", "class"))
    lines = [
        f"{plan['title']}. Level (c) audits against {plan['references']} retrained models a class, others than the",
        f"{plan['judges']} that `auto` is judged by; seeds {seeds}; classes {classes}. Passed: forgotten (every",
        "question but use is alike), useful (accuracy on kept records), both. Time: processor time of forgetting, all",
        "trials of `auto` together, as a share of retraining's (median); in brackets with the judging. Sealed: how",
        "many of those that pass both still do when the sealed questions are asked, too. Written by",
        "experiments/audits/who_passes.py.",
        "",
        "| row | audits | forgotten | useful | both | sealed | kept test accuracy | time | what differs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in summed(frame, plan).to_dict("records"):
        judged = f" ({r['judged']:.0f} %)" if r["judged"] > r["share"] + 1e-6 else ""
        sealed = r.get("sealed")
        lines.append(
            f"| {r['row']} | {r['audits']} | {r['forgotten']} | {r['useful']} | {r['both']} | "
            f"{sealed if isinstance(sealed, str) else '-'} | {r['accuracy']:.2f} | {r['share']:.1f} %{judged} | "
            f"{r['differs']} |"
        )
    for label, part in frame[frame["trials"].astype(str) != ""].groupby("row"):
        counts = ", ".join(f"{k} ({n})" for k, n in part["taken"].value_counts().items())
        lines += ["", f"{label} ended with: {counts}."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_short(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Write the shares and the time alone, for a first look."""
    lines = [
        f"| {plan['title']}: audits passed | forgotten | useful | both | time, of retraining's |",
        "|---|---|---|---|---|",
    ]
    for r in summed(frame, plan).to_dict("records"):
        shares = " | ".join(f"{r[key]} of {r['audits']}" for key in PANELS)
        lines.append(f"| {r['row']} | {shares} | {r['share']:.0f} % |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_figure(frame: pd.DataFrame, path: Path, plan: dict) -> None:
    """Draw the share of audits passed over time, with retraining for as long as a line."""
    found = summed(frame, plan)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), sharey=True, layout="constrained")
    for axis, key in zip(axes, PANELS, strict=True):
        share = 100 * found[key] / found["audits"]
        curve = found["curve"]
        axis.plot(
            found["share"][curve],
            share[curve],
            "o-",
            color="0.5",
            markersize=4,
            label="retraining for as long, and whole",
        )
        for i, at in enumerate(found.index[~curve]):
            axis.plot(found["share"][at], share[at], "osD^vP*X"[i % 8], color=f"C{i}", label=found["row"][at])
        axis.axvline(10, color="0.85", linewidth=1, zorder=0)
        axis.axhline(90, color="0.85", linewidth=1, zorder=0)
        axis.set_xscale("log")
        axis.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axis.minorticks_off()
        axis.set_ylim(-4, 104)
        axis.set_title(key)
        axis.set_xlabel("time, % of retraining's")
    axes[0].set_ylabel("audits passed, %")
    figure.suptitle(plan["title"], fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    given = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[1]).parents[1] / "results" / given["name"]
    results = pd.read_csv(folder / "results.csv", keep_default_na=False)
    write_table(results, folder / "table.md", given)
    write_short(results, folder / "short.md", given)
    write_figure(results, folder / "pareto.png", given)
