"""Weights from a user's file into a user's model: read without unpickling, checked before anything changes."""

from __future__ import annotations

import argparse
import logging
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import JsonValue
from torch import nn

from efface.errors import InputError
from efface.models.checkpoints.origin import CAST, PREPROCESSOR, Origin, kept_beside
from efface.models.hugging_face import is_folder, preprocessor, state_of, stored_as

__all__ = ["diverged", "load_checkpoint", "load_weights", "read_state"]

# Where training scripts put the state dict inside a checkpoint, and what wrappers put before every name.
NESTS = ("state_dict", "model_state_dict", "model", "net")

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")

log = logging.getLogger(__name__)


def load_weights(model: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Copy the weights in a file into a model; see `load_checkpoint`.

    Returns:
        What was adapted (nesting, prefix, counters not in the file), one sentence each.

    Raises:
        InputError: As `load_checkpoint`.
    """
    return load_checkpoint(model, path)[1]


def load_checkpoint(model: nn.Module, path: str | Path) -> tuple[Origin, tuple[str, ...]]:
    """Copy the weights in a file into a model, in place, after every check has passed.

    Accepts .safetensors, or what `torch.save(model.state_dict(), path)` wrote, also nested under "state_dict",
    "model_state_dict", "model" or "net", and with the prefix that DataParallel, torch.compile or Lightning adds. Where
    a prefix marks all of the model's weights, entries without it (a loss with weights, a metric) are left out.

    Args:
        model: The model; unchanged if anything is wrong.
        path: The file, or a folder written by Hugging Face's `save_pretrained`.

    Returns:
        What the file was, so that weights can go back as they came; and what was adapted (nesting, prefix, type,
        counters that are missing), one sentence each, also logged as warnings.

    Raises:
        InputError: No such file; truncated or foreign; a pickle that would run code; keys missing, unexpected or of
            another shape; NaN or infinite values. The message names them.
    """
    path = Path(path)
    state, notes, origin = _read_folder(path) if path.is_dir() and is_folder(path) else _read(path)
    expected = model.state_dict(keep_vars=True)
    state, prefix, prefix_notes = _strip_prefixes(state, expected)
    absent = [name for name in expected if name not in state]
    # BatchNorm's counter is missing in checkpoints from before PyTorch 0.4.1, torchvision's own among them; it only
    # matters with momentum=None. A tied weight is there under its other name.
    counters = [name for name in absent if name.endswith("num_batches_tracked")]
    present = {id(expected[name]) for name in expected if name in state}
    missing = [name for name in absent if name not in counters and id(expected[name]) not in present]
    if counters:
        notes.append(f"{len(counters)} counters num_batches_tracked are not in the file and keep the model's values.")
    notes += prefix_notes
    _check_fit(path, state, expected, missing)
    cast = {(str(v.dtype), str(expected[name].dtype)) for name, v in state.items() if v.dtype != expected[name].dtype}
    notes += [f"weights of type {theirs} were cast to {ours}." for theirs, ours in sorted(cast)]
    kinds = {str(v.dtype).removeprefix("torch.") for v in state.values() if v.is_floating_point()}
    if len(kinds) == 1 and kinds <= set(CAST):
        origin = origin.model_copy(update={"dtype": kinds.pop()})
    bad = diverged(model, state)
    if bad:
        raise InputError(
            f"{path}: {_some(bad)} hold NaN or infinite values. Such a model has no meaningful outputs: "
            "give a checkpoint from before training diverged."
        )
    model.load_state_dict(state, strict=False)
    for note in notes:
        log.warning("%s: %s", path, note)
    return origin.model_copy(update={"prefix": prefix}), tuple(notes)


def read_state(path: str | Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Read a file into names and tensors on the CPU, without running any code from it.

    Returns:
        The tensors by name, and sentences that say what was adapted.

    Raises:
        InputError: As `load_checkpoint`, for all that concerns the file alone.
    """
    return _read(Path(path))[:2]


def _read(path: Path) -> tuple[dict[str, torch.Tensor], list[str], Origin]:
    """Read a file as `read_state` does, and say what it was."""
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file. Give a .safetensors file or a state dict saved by torch.save."
        )
    safe = path.suffix == ".safetensors"
    loaded = _read_safetensors(path) if safe else _read_torch(path)
    origin = Origin(format="safetensors" if safe else "torch", name=path.name)
    notes: list[str] = []
    for nest in NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(nest), Mapping):
            kept, others = kept_beside(loaded, nest)
            origin = origin.model_copy(update={"nest": nest, "beside": kept})
            loaded = loaded[nest]
            notes.append(f"the weights were taken from the entry {nest!r} of the checkpoint.")
            if others:
                notes.append(f"beside them stood {_some(others)}, which are not used and not written back.")
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path}: this holds {_describe(loaded)}, not a state dict. {_SAVE}")
    foreign = [str(name) for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise InputError(
            f"{path}: a state dict holds tensors only, but {_some(foreign)} are something else; looked for the state "
            f"dict at the top and under {', '.join(map(repr, NESTS))}. {_SAVE}"
        )
    return {str(name): value for name, value in loaded.items()}, notes, origin


def _read_folder(folder: Path) -> tuple[dict[str, torch.Tensor], list[str], Origin]:
    """Read the weights of a folder of Hugging Face's as `_read` does."""
    said = preprocessor(folder)
    beside: dict[str, JsonValue] = {} if said is None else {PREPROCESSOR: said}
    stored = stored_as(folder)
    dtype = stored if stored in CAST else ""
    notes = [f"weights of type torch.{dtype} were cast to torch.float32."] if dtype else []
    return (
        state_of(folder),
        notes,
        Origin(format="hugging-face", name=folder.resolve().name, beside=beside, dtype=dtype),
    )


def diverged(model: nn.Module, state: Mapping[str, torch.Tensor] | None = None) -> list[str]:
    """Return the names of weights that show that training diverged: NaN or infinite values.

    A buffer may hold infinite values, as an attention mask does; a BatchNorm layer's statistics may not.

    Args:
        model: Tells parameters, statistics and other buffers apart.
        state: Values by the names of the model's state dict; its own, if not given.
    """
    statistics = {
        f"{name}.{key}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for key in ("running_mean", "running_var")
    }
    strict = {name for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, nn.Parameter)}
    strict |= statistics
    found = []
    for name, value in (model.state_dict() if state is None else state).items():
        if not value.is_floating_point():
            continue
        wide = value.float() if value.dtype.itemsize == 1 else value  # torch does not ask float8 for infinities
        if bool((~wide.isfinite() if name in strict else wide.isnan()).any()):
            found.append(name)
    return found


_SAVE = "Save the weights with torch.save(model.state_dict(), path) or safetensors.torch.save_file, and give that file."


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, *_UNREADABLE) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: truncated, or no safetensors file ({first}). {_SAVE}") from error


def _read_torch(path: Path) -> Any:
    """Read a torch.save file; the restricted unpickler knows tensors and containers, and calls nothing else."""
    if _scripted(path):
        raise InputError(
            f"{path}: refused, because this is a scripted or traced model (torch.jit.save), code and all. Go "
            f"back to the module that it was made from. {_SAVE}"
        )
    try:
        # timm's training script and many others keep their arguments beside the weights: a bag of attributes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is not None or _calls_something(path):
            wish = f"to call {named[1]}" if named is not None else "to call functions of its own choice"
            raise InputError(
                f"{path}: refused, because this file is a pickle that wants {wish}, and reading it would run code that "
                f"came with the file. Whole models saved by torch.save(model, path) are such files, too. {_SAVE}"
            ) from error
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: truncated, or no PyTorch checkpoint ({first}). {_SAVE}") from error


# What torch.load raises on bytes that are no checkpoint: each of these was met with a truncated or altered file.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)


def _scripted(path: Path) -> bool:
    """Say whether the file is what `torch.jit.save` writes: an archive that holds constants of its code, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, *_UNREADABLE):
        return False  # no archive: what it is else, torch says


def _calls_something(path: Path) -> bool:
    """Say whether the file is a bare pickle that imports or calls anything, from its opcodes and without running it."""
    try:
        with path.open("rb") as file:
            return any(op.name in ("GLOBAL", "STACK_GLOBAL", "INST", "REDUCE") for op, _, _ in pickletools.genops(file))
    except (ValueError, OSError):
        return False  # no pickle at all, or it breaks off before it calls anything


def _strip_prefixes(
    state: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str, list[str]]:
    """Take off a wrapper's prefix that the model's own names do not bear; also return it, and what was done."""
    notes: list[str] = []
    taken = ""
    found = True
    while found:
        found = False
        for prefix in PREFIXES:
            marked = [name for name in state if name.startswith(prefix)]
            if not marked or any(name.startswith(prefix) for name in expected):
                continue
            rest = [name for name in state if not name.startswith(prefix)]
            inner = {name.removeprefix(prefix): state[name] for name in marked}
            whole = expected.keys() <= inner.keys()
            if rest and not whole and not expected.keys() & inner.keys():
                continue
            others = {} if whole else {name: state[name] for name in rest}  # for the error to name
            state, taken, found = inner | others, taken + prefix, True
            notes.append(f"the prefix {prefix!r} was taken off every name.")
            if rest and whole:
                notes.append(f"names without it are no part of the network and were left out: {_some(rest)}.")
    return state, taken, notes


def _check_fit(
    path: Path, state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], missing: list[str]
) -> None:
    """Compare names, shapes and kinds, and report everything that is wrong at once."""
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    changed = [
        f"{name} {value.dtype} instead of {expected[name].dtype}"
        for name, value in state.items()
        if name in expected and not _is_like(value, expected[name])
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    wrong = [f"{word}: {_some(names)}" for word, names in (*found, ("of another type", changed)) if names]
    if wrong:
        raise InputError(
            f"{path}: these weights do not fit the model; {'; '.join(wrong)}. {_other_head(state, expected)}Build the "
            "model as it was when the weights were saved: same architecture, same width, same number of classes and "
            "input channels."
        )


def _is_like(value: torch.Tensor, expected: torch.Tensor) -> bool:
    """Say whether a value is a plain tensor that may be copied into another without changing its kind."""
    plain = value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"
    alike = value.is_complex() == expected.is_complex() and value.is_floating_point() == expected.is_floating_point()
    return plain and alike


def _other_head(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """Say how many classes each side has, where weights and network differ in nothing but the last layer's width."""
    differing = [n for n in expected if n in state and state[n].shape != expected[n].shape]
    if not differing or state.keys() != expected.keys() or len({n.rpartition(".")[0] for n in differing}) > 1:
        return ""
    last = list(expected)[-1].rpartition(".")[0]
    if differing[0].rpartition(".")[0] != last:
        return ""
    theirs, ours = (tuple(of[differing[0]].shape) for of in (state, expected))
    if not theirs or not ours or theirs[1:] != ours[1:]:
        return ""
    return (
        f"Only the last layer differs: the weights were trained for {theirs[0]} outputs, the network is built for "
        f"{ours[0]}. Is this the data, with all its classes, that the model was trained on? "
    )


def _describe(loaded: object) -> str:
    if isinstance(loaded, Mapping):
        return "no entries"
    return f"a {type(loaded).__name__}"


def _some(names: list[str], limit: int = 8) -> str:
    """Join names, the first few of many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
