"""Peak memory: what work holds at most above what was held before it, also if it is given back."""

import sys
import threading
import time

import pytest
import torch

from efface.running.peak import watched_memory

CPU = torch.device("cpu")
MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells resident memory in /proc")
def test_a_tensor_that_is_given_back_is_seen():
    with watched_memory(CPU, every=0.001) as peak:
        held = torch.ones(64 * MIB // 4)
        time.sleep(0.05)
        del held
    assert peak.taken is not None
    assert 60 * MIB <= peak.taken < 200 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells resident memory in /proc")
def test_work_that_holds_nothing_takes_next_to_nothing():
    with watched_memory(CPU) as peak:
        assert peak.taken is None
    assert peak.taken is not None
    assert 0 <= peak.taken < 16 * MIB


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr("efface.running.peak._RESIDENT", tmp_path / "none")
    with watched_memory(CPU) as peak:
        pass
    assert peak.taken is None


def test_the_watcher_ends_with_the_work_also_if_it_fails():
    def failing():
        assert any(t.name == "efface-memory" for t in threading.enumerate())
        raise ArithmeticError

    with pytest.raises(ArithmeticError), watched_memory(CPU):
        failing()
    assert not any(t.name == "efface-memory" for t in threading.enumerate())
