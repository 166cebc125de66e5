"""Write a comparison's page and figures of committed results, without computing anything.

python experiments/pages.py mnist_mlp_methods --out FOLDER    (results.csv and plan.json of experiments/results)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from efface.comparing import Comparison
from efface.comparing.figures import draw, pictures
from efface.comparing.page import html
from efface.files import write_file

RESULTS = Path(__file__).resolve().parent / "results"


def written(name: str, folder: Path) -> list[Path]:
    """Write comparison.html and the figures of a plan's committed results into a folder."""
    comparison = Comparison.read(RESULTS / name)
    found = pictures(comparison.plan, comparison.frame, comparison.kept)
    folder.mkdir(parents=True, exist_ok=True)
    return [write_file(folder / "comparison.html", html(comparison, found)), *draw(found, folder)]


def main() -> None:
    """Write the pages that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="folders of experiments/results")
    parser.add_argument("--out", required=True, type=Path, help="gets a folder for each")
    arguments = parser.parse_args()
    for name in arguments.names:
        for file in written(name, arguments.out / name):
            print(f"written: {file}")


if __name__ == "__main__":
    main()
