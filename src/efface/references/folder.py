"""A folder of references: what they were trained for, which are finished, and whether they fit an audit."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from efface.artifact import RECORD, Artifact, DataRecord, Record
from efface.data import Split
from efface.errors import InputError, explain
from efface.folder import write_file
from efface.lineage import differences, in_words, rebuilt
from efface.methods.method import describe_data
from efface.models.spec import ModelSpec
from efface.references.jobs import Job, Retraining
from efface.request import Request
from efface.training import Recipe

__all__ = ["Manifest", "References", "load_references"]

MANIFEST = "references.json"


class Manifest(BaseModel):
    """What all models in a folder share, and which are asked for: the content of references.json.

    Attributes:
        schema_version: Raised when a field changes its meaning.
        data: Which data.
        model: How the network is built; None if it was handed over in Python.
        recipe: How it is trained.
        request: What the references are trained without.
        request_fingerprint: SHA-256 of the request on this data.
        earlier: What the original had forgotten before.
        seed: All other seeds derive from it and a purpose.
        series: By name of the series (`reference`, `unlearned-ssd`, ...): method, settings and the jobs' seeds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    data: DataRecord
    model: ModelSpec | None
    recipe: Recipe
    request: Request
    request_fingerprint: str
    earlier: tuple[Request, ...] = ()
    seed: int
    series: dict[str, Series] = {}

    @classmethod
    def of(cls, original: Record, split: Split, seed: int) -> Manifest:
        """Return the manifest of an empty folder for an original and a request."""
        assert split.request is not None
        assert split.resolved is not None
        return cls(
            data=describe_data(split),
            model=original.model,
            recipe=original.recipe,
            request=split.request,
            request_fingerprint=split.resolved.fingerprint,
            earlier=original.earlier_requests,
            seed=seed,
        )

    def check(self, original: Record, split: Split, where: str) -> None:
        """Refuse an original or a request that these references were not trained for.

        Raises:
            InputError: It names every difference.
        """
        assert split.resolved is not None
        found = differences(self, original, split.resolved.fingerprint)
        mine, theirs = (_meant(requests) for requests in (self.earlier, original.earlier_requests))
        if mine != theirs:
            found["earlier requests"] = (mine, theirs)
        if found:
            raise InputError(
                f"the references in {where} were trained for something else; different: {in_words(found)}. "
                "Choose another folder, or train references for this original and request"
            )


class Series(BaseModel):
    """Models that differ by their seeds only.

    Attributes:
        method: What unlearned; None for references.
        settings: Its hyper-parameters.
        seeds: One per model, by number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str | None = None
    settings: dict[str, Any] = {}
    seeds: tuple[int, ...]


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
        return self.folder / "answers" if self.keep_answers else None

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
            if self.manifest.model is None:
                if self.like is None:
                    raise InputError(
                        f"{self.folder} holds models that were handed over in Python; give a module of the same "
                        "architecture"
                    )
                artifact = Artifact.load(path, copy.deepcopy(self.like))
            else:
                artifact = Artifact.load(path, trust=self.trust, rebuild=rebuilt)
            number = int(path.name.rpartition("-")[2])
            self._check(artifact.record, series, number)
            yield artifact

    def unlearned(self, method: str, settings: Mapping[str, Any]) -> list[Artifact]:
        """Return the runs of a method with just these hyper-parameters; none if there are none."""
        known = self.manifest.series.get(f"unlearned-{method}")
        if known is None or known.settings != dict(settings):
            return []
        return list(self.load(f"unlearned-{method}"))

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


def _meant(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Return what requests ask for, without why and when."""
    return [r.model_dump(mode="json", exclude={"reason", "requested_at"}, exclude_defaults=True) for r in requests]


def load_references(path: str | Path, like: nn.Module | None = None, *, trust: bool = False) -> References:
    """Open a folder that `train_references` made, finished or not; models are loaded when asked for.

    Args:
        path: The folder.
        like: A module of the references' architecture; needed if the original was a module of your own.
        trust: Allow the records' own model builder to be imported.

    Raises:
        InputError: The folder or its references.json is missing or damaged.
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


def write_manifest(folder: Path, manifest: Manifest, jobs: Mapping[str, list[Job]]) -> Manifest:
    """Add the jobs to the manifest and write it; a series may grow, but its method and seeds stay.

    Raises:
        InputError: The folder holds a series of the same name with other settings.
    """
    series = dict(manifest.series)
    for name, listed in jobs.items():
        if not listed:
            continue
        added = Series(
            method=getattr(listed[0], "method", None),
            settings=getattr(listed[0], "settings", {}),
            seeds=tuple(j.seed for j in listed),
        )
        known = series.get(name)
        if known is not None:
            if known.settings != added.settings:
                raise InputError(
                    f"{folder} already holds {name} with the settings {known.settings}, not {added.settings}; choose "
                    "another folder"
                )
            added = max(known, added, key=lambda s: len(s.seeds))
        series[name] = added
    manifest = manifest.model_copy(update={"series": series})
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / MANIFEST, manifest.model_dump_json(indent=2))
    return manifest
