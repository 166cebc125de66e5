"""Folders that Hugging Face's `save_pretrained` wrote: the network from its configuration, the weights beside it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.files import new_folder
from efface.models.checkpoints.card import README, is_own
from efface.models.checkpoints.origin import CONFIG, PREPROCESSOR, Origin
from efface.running.extras import import_transformers

__all__ = [
    "AUTO_CLASSES",
    "described",
    "from_config",
    "is_folder",
    "preprocessor",
    "state_of",
    "stored_as",
    "write_folder",
]

AUTO_CLASSES = {
    "transformers.AutoModelForImageClassification": "ForImageClassification",
    "transformers.AutoModelForSequenceClassification": "ForSequenceClassification",
}
"""What builds a network from a configuration -> how the names of its architectures end."""

WRITTEN = re.compile(r"((generation_|preprocessor_)?config|model\.safetensors\.index)\.json|model.*\.safetensors")
"""Names of the files in a folder that is written here; `from_pretrained` needs no others."""


def is_folder(path: str | Path) -> bool:
    """Say whether a folder holds a `config.json`, as `save_pretrained` writes it, and no record of Efface's."""
    return (Path(path) / CONFIG).is_file() and not (Path(path) / "record.json").is_file()


def described(folder: str | Path) -> tuple[str, dict[str, Any]]:
    """Return what builds the network of a folder, and its configuration.

    Raises:
        InputError: The configuration is damaged, or of no classifier.
    """
    file = Path(folder) / CONFIG
    config = _read_json(file)
    architectures = config.get("architectures") or []
    for name, ending in AUTO_CLASSES.items():
        if any(str(a).endswith(ending) for a in architectures):
            return name, config
    raise InputError(
        f"{file} describes {', '.join(map(str, architectures)) or 'no architecture'}; allowed: a classifier, whose "
        f"name ends in {' or '.join(AUTO_CLASSES.values())}"
    )


def state_of(folder: str | Path) -> dict[str, Tensor]:
    """Return the weights of a folder under the names that the network has, read by transformers itself.

    Its files use other names than its networks, and only it knows which. It reads safetensors, or a state dict without
    unpickling code; no network, no code that came with the folder.

    Raises:
        InputError: Weights are missing, damaged, or do not fit the configuration.
    """
    folder = Path(folder)
    name, config = described(folder)
    _check_own_code(config)
    auto = getattr(import_transformers(), name.partition(".")[2])
    try:
        with _quiet():
            model, info = auto.from_pretrained(
                str(folder.resolve()), local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except _REFUSALS as error:
        raise InputError(f"{folder}: transformers cannot read these weights: {_first(error)}") from error
    wrong = [
        f"{word}: {', '.join(sorted(map(str, info.get(key) or ()))[:8])}"
        for word, key in (("missing", "missing_keys"), ("unexpected", "unexpected_keys"))
        if info.get(key)
    ]
    if wrong:
        raise InputError(f"{folder}: the weights do not fit {CONFIG}; {'; '.join(wrong)}")
    state: dict[str, Tensor] = model.state_dict()
    return state


def stored_as(folder: str | Path) -> str:
    """Return the type of a folder's weights as its configuration says, e.g. `bfloat16`; empty if it says none."""
    config = _read_json(Path(folder) / CONFIG)
    return str(config.get("dtype") or config.get("torch_dtype") or "")


def write_folder(
    model: nn.Module,
    state: Mapping[str, Tensor],
    path: str | Path,
    origin: Origin | None,
    *,
    overwrite: bool = False,
    card: str = "",
) -> Path:
    """Write a folder by the library's own `save_pretrained`; whole or not at all.

    Args:
        model: The network as its configuration builds it; its weights are replaced.
        state: Weights under the network's names.
        path: The folder to make.
        origin: How the original came; its `preprocessor_config.json` goes along.
        overwrite: Replace what is there.
        card: Text of its README.md; none if empty.
    """
    model.to(next((v.dtype for v in state.values() if v.is_floating_point()), torch.float32)).load_state_dict(state)
    with new_folder(path, overwrite, _foreign) as draft, _quiet():
        model.save_pretrained(draft)  # type: ignore[operator]
        said = origin.beside.get(PREPROCESSOR) if origin else None
        if said is not None:
            (draft / PREPROCESSOR).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        if card:
            (draft / README).write_text(card, encoding="utf-8")
    return Path(path)


def _foreign(folder: Path) -> list[str]:
    """Return the names in a folder that `write_folder` does not write."""
    return [
        p.name
        for p in folder.iterdir()
        if not p.is_file() or not (WRITTEN.fullmatch(p.name) or (p.name == README and is_own(p)))
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Run a block without the library's progress bars."""
    logging = import_transformers().utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


# What transformers raises on configurations and weights that make no sense.
_REFUSALS = (
    safetensors.SafetensorError,
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    OSError,
    ImportError,
)


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _check_own_code(config: Mapping[str, Any]) -> None:
    if "auto_map" in config:
        raise InputError(
            "the configuration names code of its own (auto_map), which came with the file and was not run; build the "
            "model in Python and hand it over"
        )


def from_config(name: str) -> Callable[[dict[str, Any]], nn.Module]:
    """Return the function that builds a network from a configuration, without weights, network or foreign code.

    Args:
        name: A key of `AUTO_CLASSES`.
    """

    def build(config: dict[str, Any]) -> nn.Module:
        if not isinstance(config, dict):
            raise InputError(f"{name} needs its configuration as a mapping, the content of a {CONFIG}")
        _check_own_code(config)
        transformers = import_transformers()
        known = transformers.CONFIG_MAPPING
        kind = config.get("model_type")
        if kind not in known:
            raise InputError(
                f"transformers {transformers.__version__} has no model_type {kind!r}; is it too old for it?"
            )
        rest = {k: v for k, v in config.items() if k not in ("model_type", "dtype", "torch_dtype")}
        auto = getattr(transformers, name.partition(".")[2])
        try:
            made: nn.Module = auto.from_config(known[kind].from_dict(rest))
        except _REFUSALS as error:
            raise InputError(
                f"transformers cannot build the {kind} that {CONFIG} describes: {_first(error)}"
            ) from error
        return made

    return build


def _read_json(file: Path) -> dict[str, Any]:
    """Read one JSON mapping.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no {file}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} holds {type(content).__name__}; needed: a mapping")
    return content


def preprocessor(folder: str | Path) -> dict[str, Any] | None:
    """Return what a folder says of its images' preparation, if it does."""
    file = Path(folder) / PREPROCESSOR
    return _read_json(file) if file.is_file() else None
