"""Photograph a report's first screen into docs/report.png and a comparison's page into docs/comparison.png.

`make pictures` runs it; it needs Chromium and trains on digits for a minute.

The report is of a digit that `ssd` was asked to forget, audited against four retrained models; the comparison is
`mnist_mlp_methods`, read from its committed results.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from generated import ROOT
from matplotlib.image import imread, imsave

import efface
from efface.comparing.figures import pictures
from efface.comparing.page import html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MARGIN = 24
FIRST_SCREEN = "<style>main, footer, header.top nav { display: none }</style></head>"
CLICK = "[...document.querySelectorAll('th button')].find(b => b.textContent.trim() == 'E_F').click()"
SORTED = f"<script>addEventListener('load', () => {CLICK})</script>"


def report(folder: Path) -> str:
    """Return the page of a report."""
    data = efface.load_data("digits")
    original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=15, batch_size=64))
    request = efface.Request(classes=[3], reason="licence withdrawn")
    references = efface.train_references(original, data, request, 4, folder / "references", backend="serial")
    forgotten = efface.forget(original, data, request, method="ssd")
    audit = efface.audit(forgotten, data, retrained=references)
    efface.write_report(audit, forgotten.record, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def comparison() -> str:
    """Return the page of a comparison."""
    found = efface.Comparison.read(ROOT / "experiments" / "results" / "mnist_mlp_methods")
    return html(found, pictures(found.plan, found.frame, found.kept))


def photograph(page: str, picture: Path, folder: Path, width: int, height: int) -> None:
    """Write what a browser shows of a page, without the white around it."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    window = (f"--window-size={width},{height}", f"--screenshot={folder / 'page.png'}")
    quiet = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    )
    subprocess.run([str(CHROMIUM), *quiet, *window, (folder / "page.html").as_uri()], check=True, capture_output=True)
    seen = imread(folder / "page.png")
    inked = (seen[..., :3] < 1).any(-1)
    (top, bottom), (left, right) = (np.flatnonzero(inked.any(axis))[[0, -1]] for axis in (1, 0))
    around = (slice(max(a - MARGIN, 0), b + MARGIN) for a, b in ((top, bottom), (left, right)))
    imsave(picture, np.ascontiguousarray(seen[tuple(around)]))
    print(f"written: {picture.relative_to(ROOT)}")


def main() -> None:
    """Take both pictures."""
    if CHROMIUM is None:
        raise SystemExit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = report(folder).replace("</head>", FIRST_SCREEN, 1)
        photograph(first, ROOT / "docs" / "report.png", folder, 1060, 1600)
        photograph(comparison() + SORTED, ROOT / "docs" / "comparison.png", folder, 1200, 1050)


if __name__ == "__main__":
    main()
