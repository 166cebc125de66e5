"""Weights from a user's file into a user's model: read without unpickling, checked before anything changes."""

from __future__ import annotations

import logging
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from efface.errors import InputError

__all__ = ["diverged", "load_weights", "read_state"]

# Where training scripts put the state dict inside a checkpoint, and what wrappers put before every name.
NESTS = ("state_dict", "model_state_dict", "model")

PREFIXES = ("module.", "_orig_mod.", "model.")

log = logging.getLogger(__name__)


def load_weights(model: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Copy the weights in a file into a model, in place, after every check has passed.

    Accepts .safetensors, or what `torch.save(model.state_dict(), path)` wrote, also nested under "state_dict",
    "model_state_dict" or "model", and with the prefix that DataParallel, torch.compile or Lightning adds.

    Args:
        model: The model; unchanged if anything is wrong.
        path: The file.

    Returns:
        What was adapted (nesting, prefix, counters not in the file), one sentence each; also logged as warnings.

    Raises:
        InputError: No such file; truncated or foreign; a pickle that would run code; keys missing, unexpected or of
            another shape; NaN or infinite values. The message names them.
    """
    path = Path(path)
    state, notes = read_state(path)
    expected = model.state_dict(keep_vars=True)
    state, prefix_notes = _strip_prefixes(state, expected)
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
    bad = diverged(model, state)
    if bad:
        raise InputError(
            f"{path}: {_some(bad)} hold NaN or infinite values. Such a model has no meaningful outputs: "
            "give a checkpoint from before training diverged."
        )
    model.load_state_dict(state, strict=False)
    for note in notes:
        log.warning("%s: %s", path, note)
    return tuple(notes)


def read_state(path: str | Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Read a file into names and tensors on the CPU, without running any code from it.

    Returns:
        The tensors by name, and sentences that say what was adapted.

    Raises:
        InputError: As `load_weights`, for all that concerns the file alone.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file. Give a .safetensors file or a state dict saved by torch.save."
        )
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    notes: list[str] = []
    for nest in NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(nest), Mapping):
            loaded = loaded[nest]
            notes.append(f"the weights were taken from the entry {nest!r} of the checkpoint.")
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path}: this holds {_describe(loaded)}, not a state dict. {_SAVE}")
    foreign = [str(name) for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise InputError(
            f"{path}: a state dict holds tensors only, but {_some(foreign)} are something else; looked for the state "
            f"dict at the top and under {', '.join(map(repr, NESTS))}. {_SAVE}"
        )
    return {str(name): value for name, value in loaded.items()}, notes


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
        if value.is_floating_point() and bool((~value.isfinite() if name in strict else value.isnan()).any()):
            found.append(name)
    return found


_SAVE = "Save the weights with torch.save(model.state_dict(), path) or safetensors.torch.save_file, and give that file."


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: truncated, or no safetensors file ({error}). {_SAVE}") from error


def _read_torch(path: Path) -> Any:
    """Read a torch.save file; the restricted unpickler knows tensors and containers, and calls nothing else."""
    try:
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
)


def _calls_something(path: Path) -> bool:
    """Say whether the file is a bare pickle that imports or calls anything, from its opcodes and without running it."""
    try:
        with path.open("rb") as file:
            return any(op.name in ("GLOBAL", "STACK_GLOBAL", "INST", "REDUCE") for op, _, _ in pickletools.genops(file))
    except (ValueError, OSError):
        return False  # no pickle at all, or it breaks off before it calls anything


def _strip_prefixes(
    state: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Take off a wrapper's prefix that every name bears and that the model's own names do not."""
    notes: list[str] = []
    found = True
    while found:
        found = False
        for prefix in PREFIXES:
            ours = any(name.startswith(prefix) for name in expected)
            if not ours and all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
                notes.append(f"the prefix {prefix!r} was taken off every name.")
                found = True
    return state, notes


def _check_fit(
    path: Path, state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], missing: list[str]
) -> None:
    """Compare names and shapes, and report everything that is wrong at once."""
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    wrong = [
        f"{word}: {_some(names)}"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if wrong:
        raise InputError(
            f"{path}: these weights do not fit the model; {'; '.join(wrong)}. Build the model as it was when the "
            "weights were saved: same architecture, same width, same number of classes and input channels."
        )


def _describe(loaded: object) -> str:
    if isinstance(loaded, Mapping):
        return "no entries"
    return f"a {type(loaded).__name__}"


def _some(names: list[str], limit: int = 8) -> str:
    """Join names, the first few of many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
