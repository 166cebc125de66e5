"""The guide's example of every verb runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import efface
from efface.methods import catalogue

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = DOCS / "guide.md"


def test_every_marked_block_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"<!-- example -->\n```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {})  # noqa: S102 - our own guide
    assert "unknown method 'decoy'" in capsys.readouterr().out
    assert {"audit.json", "report.html", "report.md"} <= {p.name for p in (tmp_path / "forgotten").iterdir()}


def test_the_page_on_writing_a_method_runs(tmp_path, monkeypatch):
    """The module and the plan of the page, as files; the method's row and the measure's column are in the table."""
    page = (DOCS / "writing_a_method.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", page, flags=re.DOTALL))
    assert set(files) == {"my_methods.py", "plan.yaml"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(catalogue, "_registered", {})
    monkeypatch.setenv(catalogue.VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path)
    found = efface.compare(tmp_path / "plan.yaml", device="cpu")
    cells = found.frame.set_index("entry")
    assert list(cells.index) == ["logit-mask", "shrunk"]
    assert not any(cells.refused)
    assert (cells.forgotten_confidence < 0.5).all()
    assert "**forgotten_confidence**: Mean probability that test samples" in found.markdown()
    again = efface.compare(tmp_path / "plan.yaml", device="cpu")
    assert again.reused == 2
