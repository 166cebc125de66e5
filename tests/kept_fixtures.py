"""Fixtures that one run of the tests leaves to the next in the same process, or one forked from it.

`tests/mutate.py` runs the tests once and then, for every change to a file, again in a forked process: without this each
of these would train the fixtures' models anew. What a fixture made with the unchanged file is then used on; a change
that only the fixture would notice counts as not noticed.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest
from _pytest.fixtures import FixtureDef, SubRequest
from _pytest.fixtures import pytest_fixture_setup as set_up

__all__ = ["KEEP", "pytest_fixture_setup"]

KEEP = "EFFACE_KEEP_FIXTURES"
"""Set by `tests/mutate.py`; without it every run makes its own."""

_KEPT: dict[tuple[str, str, Any], Any] = {}


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
    if key not in _KEPT:
        _KEPT[key] = set_up(fixturedef, request)
    fixturedef.cached_result = (_KEPT[key], fixturedef.cache_key(request), None)
    return _KEPT[key]
