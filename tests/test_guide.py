"""The guide's example of every verb runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"


def test_every_marked_block_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"<!-- example -->\n```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {})  # noqa: S102 - our own guide
    assert "unknown method 'decoy'" in capsys.readouterr().out
    assert {"audit.json", "report.html", "report.md"} <= {p.name for p in (tmp_path / "forgotten").iterdir()}
