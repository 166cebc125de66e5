"""Write examples/delete_a_person.ipynb from the cells of the script beside it; `--check` says whether it is current.

A line `# %%` begins a cell of code, `# %% [markdown]` one of text. Outputs are not kept: they differ from machine to
machine, and `tests/test_examples.py` runs the notebook.
"""

from __future__ import annotations

import re

import nbformat
from generated import ROOT, settle
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SCRIPT = ROOT / "examples" / "delete_a_person.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def notebook(script: str) -> str:
    """Return a script's cells as a notebook in JSON."""
    pieces = re.split(r"^# %%( \[markdown\])?\n", script, flags=re.MULTILINE)
    cells = []
    for kind, text in zip(pieces[1::2], pieces[2::2], strict=True):
        if kind:
            lines = (line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines())
            cells.append(new_markdown_cell("\n".join(lines)))
        else:
            cells.append(new_code_cell(text.strip()))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    return nbformat.writes(made, version=4) + "\n"


def main() -> None:
    """Write the notebook, or with --check exit with status 1 if it is not current."""
    settle({NOTEBOOK: notebook(SCRIPT.read_text(encoding="utf-8"))})


if __name__ == "__main__":
    main()
