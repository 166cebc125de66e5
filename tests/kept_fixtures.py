"""Fixtures that one run of the tests leaves to the next in the same process, or one forked from it.

`tests/mutate.py` runs the tests once to see which functions each reaches, and then, for every change to a file, again
in a forked process: without this each of these would train the fixtures' models anew. A fixture that reaches a function
of the file itself is made anew each time.
"""

from __future__ import annotations

import inspect
import os
import time
from typing import Any

import pytest
from _pytest.fixtures import FixtureDef, SubRequest
from _pytest.fixtures import pytest_fixture_setup as set_up

__all__ = ["KEEP", "WITHOUT", "leave_out", "pytest_fixture_setup"]

KEEP = "EFFACE_KEEP_FIXTURES"
"""Set by `tests/mutate.py`; without it every run makes its own."""

WITHOUT = "EFFACE_WITHOUT_FIXTURES"
"""Names of fixtures, divided by commas, whose tests are left out."""

_KEPT: dict[tuple[str, str, Any], Any] = {}


def _reaches_what_is_changed(fixturedef: FixtureDef[Any], request: SubRequest) -> bool:
    """Set a fixture up, and say whether that called a function of the files to be changed."""
    from mutmut.state import state

    called, before = state()._stats, set(state()._stats)
    called.clear()
    started = time.process_time()
    set_up(fixturedef, request)
    found = bool(called)
    called |= before
    if found:  # tests are tried from the quickest on, and this is part of what its first one takes
        state().duration_by_test[request._pyfuncitem.nodeid] += time.process_time() - started
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: FixtureDef[Any], request: SubRequest) -> object:
    """Take a module's or a session's fixture from an earlier run, but for those with folders or an end of their own."""
    if (
        KEEP not in os.environ
        or fixturedef.scope not in {"module", "session"}
        or not fixturedef.baseid.startswith("tests")
        or "tmp_path_factory" in fixturedef.argnames
        or inspect.isgeneratorfunction(fixturedef.func)
    ):
        return None
    key = (fixturedef.baseid, fixturedef.argname, fixturedef.cache_key(request))
    if key in _KEPT:
        fixturedef.cached_result = (_KEPT[key], key[-1], None)
    elif os.environ.get("MUTANT_UNDER_TEST") != "stats":
        return None
    elif not _reaches_what_is_changed(fixturedef, request):
        _KEPT[key] = fixturedef.cached_result[0]
    return fixturedef.cached_result[0]


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the fixtures that `WITHOUT` names."""
    without = set(os.environ.get(WITHOUT, "").split(","))
    left = [item for item in items if without & set(getattr(item, "fixturenames", ()))]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
