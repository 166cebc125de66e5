"""The report: an audit for reading, as a page, as Markdown and as JSON."""

from __future__ import annotations

from pathlib import Path

from efface.artifact.record import Record
from efface.auditing.result import Audit
from efface.files import write_file
from efface.report.markdown import markdown
from efface.report.page import html
from efface.report.sharing import shareable

__all__ = ["html", "markdown", "shareable", "write"]


def write(audit: Audit, record: Record | None, folder: Path, *, share: bool = False) -> list[Path]:
    """Write audit.json, report.html and report.md into an existing folder, each whole or not at all.

    All three are made before the first is written.

    Args:
        audit: What was measured.
        record: How the candidate came to be; None if that is not known.
        folder: Usually the artifact's.
        share: Leave out single records and who asked, for readers outside.

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
    said = shareable(audit, record)[0] if share else audit
    made = {
        "audit.json": said.to_json(),
        "report.html": html(audit, record, share=share),
        "report.md": markdown(audit, record, share=share),
    }
    return [write_file(Path(folder) / name, text) for name, text in made.items()]
