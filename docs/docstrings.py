"""For MkDocs: griffe, which reads our docstrings, calls the section of doctests "Examples"; ours say "Example"."""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^(\s*)Example:$", flags=re.MULTILINE)


class Examples(griffe.Extension):
    """Name the section as griffe does, so that it becomes a block of code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring:
            obj.docstring.value = SECTION.sub(r"\1Examples:", obj.docstring.value)
