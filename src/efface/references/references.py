"""A folder of references: which are finished, and whether they fit an audit."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from efface.artifact.artifact import RECORD, Artifact, foreign_to_artifact
from efface.artifact.compatible import differences, in_words
from efface.artifact.record import Record
from efface.data import Split
from efface.errors import InputError, explain
from efface.methods.applying import rebuilt
from efface.references.jobs import Retraining
from efface.references.manifest import MANIFEST, Manifest

__all__ = ["References", "foreign_to_references", "load_references"]

ANSWERS, AS_LONG = "answers", "as-long"
"""Folders in which audits keep what they may ask again."""

SERIES = re.compile(r"(reference|(unlearned|shadow)-.+)-\d{3,}")
"""Names of the models' folders."""

Manifest.model_rebuild()


@dataclass(frozen=True)
class References:
    """A folder of finished models that every audit of one request can use.

    Attributes:
        folder: Where they are.
        manifest: What they were trained for.
        like: A module of their architecture, where the record alone cannot build one.
        trust: Allow the records' own model builder to be imported.
        keep_answers: Whether audits keep what each model answered beside the models, and believe it afterwards.
    """

    folder: Path
    manifest: Manifest
    like: nn.Module | None = None
    trust: bool = False
    keep_answers: bool = True

    @property
    def answers(self) -> Path | None:
        """Where the models' answers are kept; None if they are not."""
        return self.folder / ANSWERS if self.keep_answers else None

    def __len__(self) -> int:
        """Return the number of finished retrained models."""
        return len(self.finished("reference"))

    def __iter__(self) -> Iterator[Artifact]:
        """Load the retrained models, one after another."""
        return self.load("reference")

    def finished(self, series: str) -> list[Path]:
        """Return the folders of a series' finished models, by number."""
        known = self.manifest.series.get(series)
        paths = [self.folder / f"{series}-{k:03d}" for k in range(len(known.seeds))] if known else []
        return [p for p in paths if (p / RECORD).is_file()]

    def load(self, series: str = "reference") -> Iterator[Artifact]:
        """Load the finished models of a series, one after another.

        Raises:
            InputError: One was changed after writing, or is not what the manifest says.
        """
        for path in self.finished(series):
            artifact = self.opened(path)
            number = int(path.name.rpartition("-")[2])
            self._check(artifact.record, series, number)
            yield artifact

    def opened(self, path: Path) -> Artifact:
        """Load one model of this folder's architecture.

        Raises:
            InputError: It was changed after writing, or the architecture is not known.
        """
        if self.manifest.model is not None:
            return Artifact.load(path, trust=self.trust, rebuild=rebuilt)
        if self.like is None:
            raise InputError(
                f"{self.folder} holds models that were handed over in Python; give a module of the same architecture"
            )
        return Artifact.load(path, copy.deepcopy(self.like))

    def unlearned(self, method: str, settings: Mapping[str, Any]) -> list[Artifact]:
        """Return the runs of a method with just these hyper-parameters; none if there are none."""
        known = self.manifest.series.get(f"unlearned-{method}")
        if known is None or known.settings != dict(settings):
            return []
        return list(self.load(f"unlearned-{method}"))

    def serves(self, split: Split) -> bool:
        """Say whether a split's request is the one that repeats and shadow models have unlearned here."""
        return split.resolved is not None and split.resolved.fingerprint == self.manifest.request_fingerprint

    def check(self, original: Record, split: Split) -> None:
        """Refuse an audit that these references do not belong to.

        Raises:
            InputError: It names every difference; or none is finished yet.
        """
        self.manifest.check(original, split, str(self.folder))
        if not len(self):
            raise InputError(f"no reference in {self.folder} is finished yet; let `train --references` end")

    def _check(self, record: Record, series: str, number: int) -> None:
        known = self.manifest.series[series]
        wrong = []
        if series == Retraining.kind:
            found = differences(record, self.manifest, self.manifest.request_fingerprint)
            wrong += [in_words(found)] if found else []
            wrong += ["seed"] if record.seed != known.seeds[number] else []
        if record.method != (known.method or "retrain"):
            wrong.append("method")
        elif record.settings != known.settings:
            wrong.append("settings")
        if wrong:
            raise InputError(
                f"{series}-{number:03d} in {self.folder} is not what {MANIFEST} says; different: {', '.join(wrong)}. "
                "Delete that folder and train again"
            )


def load_references(path: str | Path, like: nn.Module | None = None, *, trust: bool = False) -> References:
    """Open a folder that `train_references` made, finished or not; models are loaded when asked for.

    Args:
        path: The folder.
        like: A module of the references' architecture; needed if the original was a module of your own.
        trust: Allow the records' own model builder to be imported.

    Raises:
        InputError: The folder or its references.json is missing or damaged.

    Example:
        >>> import efface, tempfile
        >>> data, request = efface.load_data("digits"), efface.Request(classes=[3])
        >>> original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = efface.train_references(original, data, request, 1, folder, backend="serial")
        ...     [reference.record.method for reference in efface.load_references(folder)]
        ['retrain']
    """
    file = Path(path) / MANIFEST
    if not file.is_file():
        raise InputError(
            f"{path} is no folder of references: it has no {MANIFEST}. Make one with `efface train --from ORIGINAL "
            "--references N --classes ... --out FOLDER`"
        )
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file} is damaged: {explain(error)}") from None
    return References(Path(path), manifest, like, trust)


def foreign_to_references(folder: Path) -> list[str]:
    """Return the paths in a folder that are not those of references and of what audits keep beside them.

    Args:
        folder: One that is there.
    """
    found = []
    for path in folder.iterdir():
        if path.is_dir() and SERIES.fullmatch(path.name):
            found += [f"{path.name}/{name}" for name in foreign_to_artifact(path)]
        elif not (path.is_dir() and path.name in {ANSWERS, AS_LONG}) and path.name != MANIFEST:
            found.append(path.name)
    return found
