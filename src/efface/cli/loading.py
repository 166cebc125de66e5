"""From what was typed to what it means: requests, recipes, data, artifacts and files of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from efface.errors import InputError

if TYPE_CHECKING:
    from torch.nn import Module

    from efface.artifact.artifact import Artifact
    from efface.artifact.record import Record
    from efface.data import Data
    from efface.models.spec import ModelSpec
    from efface.request import Request
    from efface.training.recipe import Recipe


def pairs(given: Sequence[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE options; values are YAML scalars or lists, so 0.1, true and [1, 2] mean what they say."""
    import yaml

    values: dict[str, Any] = {}
    for pair in given or ():
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise InputError(f"{pair!r} is not NAME=VALUE")
        if name in values:
            raise InputError(f"{name} is given twice: {values[name]!r} and {text!r}")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):  # YAML reads 2020-13-01 as a date, and fails
            value = text
        # YAML 1.1 reads 1e-3 as a word, because it lacks a point.
        values[name] = _number(value) if isinstance(value, str) else value
    return values


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


class Asked(NamedTuple):
    """The options that say what to forget, as they were typed."""

    classes: str | None
    items: str | None
    groups: str | None
    where: Sequence[str] | None
    path: Path | None
    reason: str = ""
    canaries: bool = False
    ids: str | None = None
    requested_at: str = ""
    requested_by: str = ""
    ticket: str = ""

    def request(self) -> Request:
        """Read them; just one may be given."""
        from efface.request import ABOUT, Request

        flags = [f"--{name}" for name in ("classes", "items", "ids", "groups", "where") if getattr(self, name)]
        if self.path is not None:
            flags += ["--with-canaries"] * self.canaries
            flags += [f"--{name.replace('_', '-')}" for name in sorted(ABOUT) if getattr(self, name)]
            if flags:
                raise InputError(f"--request already says what to forget; leave out {', '.join(flags)}")
            return Request.read(self.path)
        if len(flags) != 1:
            raise InputError(
                "say what to forget with one of --classes, --items, --ids, --groups, --where, --request; given: "
                f"{', '.join(flags) or 'nothing'}"
            )
        fields: dict[str, Any] = {name: getattr(self, name) for name in ABOUT if getattr(self, name)}
        fields["canaries"] = self.canaries
        if self.classes:
            fields["classes"] = tuple(int(c) if c.isdecimal() else c for c in _words(self.classes))
        if self.groups:
            fields["groups"] = tuple(_words(self.groups))
        if self.where:
            fields["where"] = _condition(self.where)
        if self.ids:
            fields["ids"] = tuple(_several(self.ids, "ids"))
        if self.items:
            listed = _several(self.items, "items")
            if bad := [i for i in listed if not i.isdecimal()]:
                raise InputError(f"item ids are whole numbers from 0; given: {', '.join(bad[:5])}")
            fields["items"] = tuple(map(int, listed))
        return Request.of(**fields)


def _condition(where: Sequence[str]) -> dict[str, Any] | str:
    """Read COLUMN=VALUE pairs, or one condition as text."""
    texts = [text for text in where if not re.match(r"""[^=<>!"'(\[{]+=(?!=)""", text)]
    if not texts:
        return pairs(where)
    if len(where) > 1:
        raise InputError(f"--where is given {len(where)} times; join conditions by `and`: {' and '.join(where)}")
    return texts[0]


def _several(text: str, name: str) -> list[str]:
    """Read a list with commas, or of @FILE its lines; what stands between commas may be an id, a line always is one."""
    if not text.startswith("@"):
        return _words(text)
    path = Path(text[1:])
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"--{name} @{path}: there is no such file; needed: {name}, one per line") from None
    except (OSError, ValueError) as error:
        raise InputError(f"--{name} @{path} cannot be read: {error}; needed: {name}, one per line") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"--{name} @{path}: the file names nothing; needed: {name}, one per line")
    return [word for line in found for word in _words(line)] if name == "items" else found


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


def recipe_of(path: Path | None, changes: dict[str, Any], seed: int | None, base: Recipe | None) -> Recipe:
    """Read a recipe: the base, the file over it, single fields over that."""
    from efface.files import checked, read_mapping
    from efface.training.recipe import Recipe

    values = base.model_dump() if base else {}
    values |= read_mapping(path) if path else {}
    return checked(Recipe, values | changes | ({} if seed is None else {"seed": seed}), str(path or "recipe"))


def load_data(
    name: str, root: Path | None, download: bool, options: dict[str, Any], spec: ModelSpec | None = None
) -> Data:
    """Load data by name; images are prepared as a model's library says, unless the options say otherwise."""
    from efface.data import load
    from efface.data.sources import IMAGES
    from efface.models.preprocessing import preprocessing

    if spec is not None and name in IMAGES:
        options = preprocessing(spec, **options)
    return load(name, root, download, **options)


def with_skips(data_set: Sequence[str] | None, skip_bad: bool) -> list[str]:
    """Return the options of a data source, with --skip-bad as one of them."""
    return [*(data_set or ()), *(["skip_bad=true"] if skip_bad else [])]


def is_weights(path: Path) -> bool:
    """Say whether a path is of weights from elsewhere: a file, or a folder of Hugging Face's."""
    from efface.models.hugging_face import is_folder

    return path.is_file() or is_folder(path)


def data_of(record: Record, name: str | None, root: Path | None, download: bool, options: Sequence[str] | None) -> Data:
    """Load the data an artifact was trained on: its record knows the source and options, the user knows the root."""
    described = record.data
    source = name or described.source
    if source == "custom":
        raise InputError("the artifact was trained on a Dataset handed over in Python; use efface's functions there")
    return load_data(source, root, download, (dict(described.options) if name is None else {}) | pairs(options))


def load_artifact(path: Path, trust: bool) -> Artifact:
    """Load an artifact with the architecture that its methods left."""
    from efface.artifact.artifact import Artifact
    from efface.methods.applying import rebuilt

    return Artifact.load(path, trust=trust, rebuild=rebuilt)


def by_name(paths: Sequence[Path] | None) -> dict[str, Path]:
    """Return what becomes more rows of an audit: a folder by its name, a file by its own without the ending.

    Raises:
        InputError: Two would have one name.
    """
    found: dict[str, Path] = {}
    for path in paths or ():
        whole = path.resolve()
        name = whole.stem if whole.is_file() else whole.name
        if name in found:
            raise InputError(f"--other {found[name]} and {path} would both be the row {name!r}; rename one of them")
        found[name] = path
    return found


def progress_of(quiet: bool, notes: bool = True) -> Any:
    """Return where progress is shown, and whether notes are: not where `finish` prints those of the record."""
    from efface.running.progress import ConsoleProgress, Progress

    return Progress() if quiet else ConsoleProgress(notes=notes)


def data_known(
    models: Sequence[Path],
    name: str | None,
    root: Path | None,
    download: bool,
    options: Sequence[str] | None,
    spec: ModelSpec | None = None,
) -> Data | None:
    """Load data by name, or what the first artifact among the models was trained on; None where neither is possible.

    Data that needs a root is not loaded without one: an artifact's hashes can be checked without its data.
    """
    from efface.artifact.artifact import RECORD, Artifact

    if name is not None:
        return load_data(name, root, download, pairs(options), spec)
    for path in models:
        if (path / RECORD).is_file():
            try:
                described = Artifact.read_record(path).data
            except InputError:
                continue  # damaged: for `verify` itself to say
            if described.source == "custom" or (root is None and described.source != "digits"):
                return None
            return load_data(described.source, root, download, dict(described.options) | pairs(options))
    return None


def spec_of(path: Path, model: str, arguments: dict[str, Any]) -> ModelSpec:
    """Return how a file of weights is built; a folder of Hugging Face's says so itself."""
    from efface.files import checked
    from efface.models.spec import ModelSpec

    if not model and path.is_dir():
        return ModelSpec.of_folder(path)
    if not model:
        raise InputError(f"{path} is a file of weights; say with --model (and --model-set) how its network is built")
    return checked(ModelSpec, {"build": model, "arguments": arguments, "weights": path})


def checkpoint(path: Path, model: str, arguments: dict[str, Any], data: Data | None, trust: bool) -> Artifact | Module:
    """Load an artifact folder, or build a model and load a file of weights into it."""
    from efface.models.spec import build

    if not is_weights(path):
        return load_artifact(path, trust)
    spec = spec_of(path, model, arguments)
    if data is None:
        raise InputError("--data is missing; name the data that the models were trained on, e.g. --data digits")
    return build(spec, input_shape=data.input_shape, num_classes=len(data.classes), trust=True)


def checkpoints(
    given: SimpleNamespace, paths: Sequence[Path], options: Sequence[str] | None, foreign: bool
) -> tuple[Data | None, Callable[[Path], Artifact | Module]]:
    """Return the data that models were trained on, as far as it is known, and what loads a model.

    Args:
        given: The options --model, --model-set, --data, --root, --download and --trust.
        paths: The models: artifacts' folders or weights.
        options: Of the data's source.
        foreign: Say how images are prepared by the library that the first weights among them come from.
    """
    arguments = pairs(given.model_set)
    weights = [p for p in paths if is_weights(p)]
    spec = spec_of(weights[0], given.model, arguments) if weights and foreign else None
    data = data_known(paths, given.data, given.root, given.download, options, spec)
    return data, lambda path: checkpoint(path, given.model, arguments, data, given.trust)


def original_of(path: Path, forgotten: Record, trust: bool) -> Artifact:
    """Load the model before forgetting: its folder, or the file of weights that was handed to `forget`.

    Raises:
        InputError: A file that is not what forgetting started from, or whose network the record cannot build.
    """
    from efface.artifact.artifact import Artifact
    from efface.artifact.record import weights_sha256
    from efface.models.checkpoints import load_weights
    from efface.models.spec import build

    if not is_weights(path):
        return load_artifact(path, trust)
    parent = forgotten.parent
    if parent is None or parent.action != "given" or parent.model is None:
        raise InputError(f"{path} is a file, but forgetting started from an artifact; give that artifact's folder")
    model = build(
        parent.model,
        input_shape=parent.data.input_shape,
        num_classes=len(parent.data.classes),
        trust=trust,
        weights=False,
    )
    load_weights(model, path)
    found = weights_sha256(model.state_dict())
    if found != parent.weights_after:
        raise InputError(
            f"{path} does not hold the weights that forgetting started from (SHA-256 {found[:12]}..., recorded "
            f"{parent.weights_after[:12]}...)"
        )
    return Artifact(model.eval(), parent)
