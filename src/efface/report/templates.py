"""Templates of pages: every value is escaped, and a name that is not given is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["environment"]


def environment(*rooms: str) -> Environment:
    """Return Jinja's environment over the templates of some rooms of the package; of two of one name the first's.

    Args:
        rooms: Folders below `efface`.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader("efface", room) for room in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
