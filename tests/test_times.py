"""`pytest --times`: a test that needs seconds fails if it does not say so, and other tests are left alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import times


def called(monkeypatch, spent: float, *marks: str, asked: bool = True) -> object:
    """Run the hook around a test that uses so many of the processor's seconds."""
    readings = iter([10.0, 10.0 + spent])
    monkeypatch.setattr(times, "processor", lambda: next(readings))
    config = SimpleNamespace(getoption=lambda name: asked and name == "--times")
    item = SimpleNamespace(config=config, get_closest_marker=lambda mark: mark in marks)
    hook = times.pytest_runtest_call(item)
    next(hook)
    with pytest.raises(StopIteration) as ended:
        hook.send("what the test gave")
    return ended.value.value


def test_only_a_test_of_seconds_without_a_mark_fails(monkeypatch):
    for given in ((1.9,), (30.0, "seconds"), (30.0, "slow")):
        assert called(monkeypatch, *given) == "what the test gave"
    assert called(monkeypatch, 30.0, asked=False) == "what the test gave"
    with pytest.raises(pytest.fail.Exception, match=r"2\.1 s of the processor: make it cheaper, or mark it `seconds`"):
        called(monkeypatch, 2.1)


def test_processes_that_have_ended_count():
    import subprocess
    import sys

    before = times.processor()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert times.processor() - before > 0.01
