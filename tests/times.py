"""Which tests need more than a second of the processor: `pytest --times` fails those that are not marked `seconds`.

Files with most of them are begun first, so that two workers end at about the same time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator

import pytest

REFUSED = 2.0
"""Seconds of the processor from which a test without the mark fails under --times.

The mark stands from one second on; what lies between may go either way, as machines differ.
"""

MARKS = ("seconds", "slow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", action="store_true", help="fail tests of seconds that are not marked `seconds`")


def processor() -> float:
    """Return the processor's seconds of this process and of those that it has waited for.

    Other work on the machine lengthens the time on the wall, but not this one.
    """
    import resource

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def heaviest_first(items: list[pytest.Item]) -> None:
    """Sort the files by how many tests of seconds they have; the order within a file stays."""
    heavy = Counter(item.path for item in items if any(item.get_closest_marker(mark) for mark in MARKS))
    items.sort(key=lambda item: -heavy[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if not item.config.getoption("--times") or any(item.get_closest_marker(mark) for mark in MARKS):
        return (yield)
    before = processor()
    result = yield
    if (spent := processor() - before) > REFUSED:
        pytest.fail(f"{spent:.1f} s of the processor: make it cheaper, or mark it `seconds`", pytrace=False)
    return result
