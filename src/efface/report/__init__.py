"""The report: an audit for reading, as a page, as Markdown and as JSON."""

from __future__ import annotations

from pathlib import Path

from efface.artifact.record import Record
from efface.auditing.result import Audit
from efface.files import write_file
from efface.report.markdown import markdown
from efface.report.page import html

__all__ = ["html", "markdown", "write"]


def write(audit: Audit, record: Record | None, folder: Path) -> list[Path]:
    """Write audit.json, report.html and report.md into an existing folder, each whole or not at all.

    All three are made before the first is written.

    Args:
        audit: What was measured.
        record: How the candidate came to be; None if that is not known.
        folder: Usually the artifact's.

    Returns:
        The three paths.

    Example:
        >>> import efface, tempfile, pathlib
        >>> data = efface.load_data("digits")
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> masked = efface.forget(original, data, efface.Request(classes=[3]), method="logit-mask")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = efface.write_report(efface.audit(masked, data), masked.record, pathlib.Path(folder))
        >>> [file.name for file in files]
        ['audit.json', 'report.html', 'report.md']
    """
    made = {"audit.json": audit.to_json(), "report.html": html(audit, record), "report.md": markdown(audit, record)}
    return [write_file(Path(folder) / name, text) for name, text in made.items()]
