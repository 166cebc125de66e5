"""Where a comparison keeps what is finished: cells, why others failed, originals and references."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.artifact.artifact import RECORD, Artifact
from efface.errors import InputError
from efface.files import write_file
from efface.methods.applying import rebuilt

__all__ = ["Store"]


@dataclass(frozen=True)
class Store:
    """A folder of finished work, by digest; plans may share one.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    def finished(self, key: str) -> bool:
        """Return whether a cell is finished."""
        return self._cell(key).is_file()

    def result(self, key: str) -> dict[str, Any] | None:
        """Return a finished cell's result, or why it failed last; None if it was never begun.

        Raises:
            InputError: The file is damaged.
        """
        for file in (self._cell(key), self._failed(key)):
            if file.is_file():
                try:
                    found: dict[str, Any] = json.loads(file.read_bytes())
                except ValueError as error:
                    raise InputError(
                        f"{file} is damaged ({error}); delete it, and the cell is computed again"
                    ) from None
                return found
        return None

    def keep(self, key: str, result: dict[str, Any], audit: str | None = None) -> None:
        """Keep a cell's result, and its audit as JSON if there is one; the result comes last."""
        if audit is not None:
            write_file(self.folder / f"{key}.audit.json", audit)
        write_file(self._cell(key), json.dumps(result, indent=1))
        self._failed(key).unlink(missing_ok=True)

    def keep_failure(self, key: str, result: dict[str, Any]) -> None:
        """Keep why a cell failed; it is not finished any more, and the next run tries it again."""
        write_file(self._failed(key), json.dumps(result, indent=1))
        self._cell(key).unlink(missing_ok=True)

    def original(self, key: str) -> Path:
        """Return the folder of an original."""
        return self.folder / f"original-{key}"

    def reference(self, key: str, number: int) -> Path:
        """Return the folder of one reference."""
        return self.folder / f"references-{key}" / f"reference-{number:03d}"

    def save(self, artifact: Artifact, folder: Path) -> Path:
        """Save an artifact, unless a matching one is there already."""
        if not (folder / RECORD).is_file():
            artifact.save(folder)
        return folder

    @staticmethod
    def load(folder: Path) -> Artifact:
        """Load an original or a reference."""
        return Artifact.load(folder, trust=True, rebuild=rebuilt)

    def _cell(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _failed(self, key: str) -> Path:
        return self.folder / f"{key}.failed.json"
