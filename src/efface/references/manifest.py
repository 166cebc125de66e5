"""What the models in a folder of references were trained for, and which are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from efface.artifact.compatible import differences, in_words, unlike_requests
from efface.artifact.record import DataRecord, Record, describe_data
from efface.data import Split
from efface.errors import InputError
from efface.files import write_file
from efface.models.spec import ModelSpec
from efface.references.jobs import Job
from efface.request import ABOUT, Request
from efface.training.recipe import Recipe

__all__ = ["Manifest"]

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

    def check(self, original: Record, split: Split, where: str, *, growing: bool = False) -> None:
        """Refuse an original or a request that these references were not trained for.

        Args:
            original: What they shall be compared with.
            split: Its data under the request.
            where: Their folder, for the message.
            growing: More are to be added: the original's earlier requests and this one have to be the same, where
                otherwise the records left out have to be.

        Raises:
            InputError: It names every difference.
        """
        assert split.resolved is not None
        found = differences(self, original, split.resolved.fingerprint if growing else self.request_fingerprint)
        mine, theirs = (_meant(requests) for requests in (self.earlier, original.earlier_requests))
        if growing and mine != theirs:
            found["earlier requests"] = (mine, theirs)
        if not growing and "data" not in found:
            found = unlike_requests((*self.earlier, self.request), split) | found
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


def _meant(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Return what requests ask for, without why and when."""
    return [r.model_dump(mode="json", exclude=set(ABOUT), exclude_defaults=True) for r in requests]


def grown(manifest: Manifest, jobs: Mapping[str, list[Job]], folder: Path) -> Manifest:
    """Return the manifest with the jobs added; a series may grow, but its method and seeds stay.

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
    return manifest.model_copy(update={"series": series})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / MANIFEST, manifest.model_dump_json(indent=2))
