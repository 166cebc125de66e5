"""Reading recipes, plans and method settings from YAML or JSON into checked models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from efface.errors import InputError, explain, nearest

__all__ = ["checked", "read", "read_mapping"]

B = TypeVar("B", bound=BaseModel)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read one YAML (or JSON) mapping with the safe loader.

    Raises:
        InputError: The file is missing, is not YAML, or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path}; needed: a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise InputError(f"{path} holds {type(content).__name__}; needed: a mapping of names to values")
    return content


def checked(kind: type[B], values: dict[str, Any], where: str = "") -> B:
    """Validate values as `kind`; an unknown name is answered with the nearest right one.

    Raises:
        InputError: An unknown field, or a value that does not fit its field.
    """
    prefix = f"{where}: " if where else ""
    for name in values:
        if name not in kind.model_fields:
            raise InputError(f"{prefix}{kind.__name__} has no {name!r}. {nearest(name, kind.model_fields)}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{prefix}{explain(error)}") from None


def read(path: str | Path, kind: type[B]) -> B:
    """Read a YAML file as `kind`; see `read_mapping` and `checked` for the errors."""
    return checked(kind, read_mapping(path), str(path))
