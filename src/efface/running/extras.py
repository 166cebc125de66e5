"""Optional packages: each is imported in one place, with one sentence when it is missing."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

import torch

from efface.errors import InputError

__all__ = ["import_optuna", "import_pillow", "import_ray", "import_timm", "import_torchvision", "import_transformers"]

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library withdraws its operators when it is collected: the declarations live as long as this list.
_DECLARED: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, whether or not its compiled operators load.

    Returns:
        The module `torchvision`, with `torchvision.datasets`, `.models` and `.transforms` imported.

    Raises:
        InputError: torchvision is not installed.
    """
    if "torchvision" not in sys.modules:
        _declare_missing_operators(_locate("torchvision"))
    return importlib.import_module("torchvision")


def import_timm() -> ModuleType:
    """Import timm, whether or not the torchvision it builds on has its compiled operators.

    Returns:
        The module `timm`.

    Raises:
        InputError: timm or torchvision is not installed.
    """
    _locate("timm")
    import_torchvision()
    return importlib.import_module("timm")


def import_transformers() -> ModuleType:
    """Import Hugging Face's transformers; what it builds on torchvision works without compiled operators, too.

    Returns:
        The module `transformers`.

    Raises:
        InputError: transformers is not installed.
    """
    _locate("transformers", "hf")
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    return importlib.import_module("transformers")


def import_pillow() -> ModuleType:
    """Import Pillow's `PIL.Image`.

    Returns:
        The module `PIL.Image`.

    Raises:
        InputError: Pillow is not installed.
    """
    _locate("PIL")
    return importlib.import_module("PIL.Image")


def import_ray() -> ModuleType:
    """Import Ray.

    Returns:
        The module `ray`.

    Raises:
        InputError: Ray is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise InputError("Ray is not installed; pip install 'efface[ray]', or use another engine") from None


def import_optuna() -> ModuleType:
    """Import Optuna.

    Returns:
        The module `optuna`.

    Raises:
        InputError: Optuna is not installed.
    """
    _locate("optuna", "search")
    return importlib.import_module("optuna")


def _locate(package: str, extra: str = "vision") -> str:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"The package {package!r} is needed here but not installed. Install it with: pip install 'efface[{extra}]'"
        )
    return next(iter(spec.submodule_search_locations))


def _declare_missing_operators(folder: str) -> None:
    """Load torchvision's compiled operators from `folder` as torchvision would, and declare those that stay missing."""
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    finder = importlib.machinery.FileFinder(folder, (importlib.machinery.ExtensionFileLoader, suffixes))
    compiled = finder.find_spec("_C")
    if compiled is not None and compiled.origin is not None:
        try:
            torch.ops.load_library(compiled.origin)
        except OSError:
            compiled = None  # built for another torch; torchvision itself would carry on without it, too
    missing = [schema for name, schema in SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _DECLARED.append(library)
