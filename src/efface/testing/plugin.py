"""The pytest plugin: `pytest --efface-methods my_package` collects the contract for the methods of that package.

pytest loads it through the entry point `pytest11` wherever Efface is installed; it imports nothing else until asked.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["Contract", "pytest_addoption", "pytest_collection_modifyitems"]

OPTION = "--efface-methods"
CONTRACT = "efface.testing.contract"

pytest.register_assert_rewrite(CONTRACT, "efface.testing.bench")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("efface").addoption(
        OPTION,
        action="append",
        default=[],
        metavar="PATH",
        help="check what every unlearning method promises on these: my_package, my_package:MyMethod or "
        "my_package:INSTANCE; repeat it, or separate by commas",
    )


class Contract(pytest.Module):
    """The contract's tests, wherever Efface is installed."""

    def _getobj(self) -> ModuleType:
        # By its name: pytest's own import by path would put the installation's folder in front of the user's.
        return importlib.import_module(CONTRACT)


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the contract's tests to what was collected, if methods are named.

    Raises:
        pytest.UsageError: A path leads to no method.
    """
    if not config.getoption(OPTION):
        return
    from efface.errors import InputError
    from efface.testing.subjects import subjects_of

    try:
        subjects_of(config.getoption(OPTION))
    except InputError as error:
        raise pytest.UsageError(f"{OPTION}: {error}") from error
    path = Path(__file__).with_name("contract.py")
    items.extend(session.genitems(Contract.from_parent(session, path=path)))
