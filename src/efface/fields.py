"""Models of named values that users write themselves: a value that does not fit is answered with a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from efface.errors import InputError, explain

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

__all__ = ["Fields"]


class _Answering(ModelMetaclass):
    """Turns what pydantic says of a call such as `Recipe(lr="fast")` into one sentence.

    `__init__` would do the same, but then pydantic would call it for every nested model, too, and lose where the value
    stood.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - of a metaclass
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            raise InputError(f"{cls.__name__}: {explain(error, cls.model_fields)}") from None  # type: ignore[attr-defined]


class Fields(BaseModel, metaclass=_Answering):
    """A model that is made in Python by its users.

    Raises:
        InputError: An unknown field, or a value that does not fit its field.
    """
