import pytest

from efface.auditing.result import Audit
from efface.report import html, markdown, write


def test_three_files_and_nothing_else(audit, record, tmp_path):
    paths = write(audit, record, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.json", "report.html", "report.md"]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert Audit.from_json((tmp_path / "audit.json").read_bytes()) == audit
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html(audit, record)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == markdown(audit, record)


def test_a_page_that_cannot_be_made_leaves_no_file(audit, tmp_path):
    rows = tuple(row.model_copy(update={"scores": {}}) for row in audit.rows)  # not what an audit allows
    with pytest.raises(KeyError):
        write(audit.model_copy(update={"rows": rows, "exposed": (), "candidate": "nobody"}), None, tmp_path)
    assert not list(tmp_path.iterdir())
