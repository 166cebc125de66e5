"""Work shared out over cores: every sample of every layer once, and the same sums whoever computes them."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from efface.curvature import fisher_diagonal
from efface.curvature import layers_on_cores as cores
from efface.curvature.layers_on_cores import LayerWork, each_on_one_core, shared_out
from tests.cases import NAMES, case


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=5),
    samples=st.integers(1, 9),
    threads=st.integers(1, 5),
    limits=st.tuples(st.integers(0, 3000), st.integers(0, 200)),
)
def test_every_sample_of_every_layer_is_done_once(sizes, samples, threads, limits):
    work = [
        LayerWork(nn.Conv1d(c, o, 1), torch.arange(samples).view(-1, 1, 1).expand(-1, c, 3), torch.zeros(samples, o, 3))
        for c, o in sizes
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cores, "_LARGE", limits[0])
        patch.setattr(cores, "_LARGEST_CUT", limits[1])
        together, pieces = shared_out(work, threads)
    assert [piece.cost for piece in pieces] == sorted((piece.cost for piece in pieces), reverse=True)
    share = sum(layer.cost for layer in work if layer.cost >= limits[0] * samples) / threads
    for layer in work:
        own = [piece for piece in [*together, *pieces] if piece.module is layer.module]
        places = sorted(place for piece in own for place in range(piece.first, piece.first + len(piece.a)))
        assert places == list(range(samples))
        assert all(piece.a[:, 0, 0].tolist() == list(range(piece.first, piece.first + len(piece.a))) for piece in own)
        if len(own) > 1:  # never more shares than samples, and none above half of a core's part and one sample
            assert all(piece.cost <= share / 2 + layer.cost / samples for piece in own)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.seconds
def test_sums_do_not_depend_on_who_computes_them(name, monkeypatch, two_threads):
    c = case(name)
    expected = fisher_diagonal(c.model, c.x, c.y, estimator="true").sum()
    monkeypatch.setattr(cores, "_LARGE", 1)
    found = fisher_diagonal(c.model, c.x, c.y, estimator="true").sum()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-11, atol=1e-13 * float(value.abs().max()))


def test_each_on_one_core_keeps_order_threads_and_errors(two_threads):
    weight = torch.ones(2, requires_grad=True)

    def task(i):
        assert torch.get_num_threads() == 1
        assert not (weight * i).requires_grad
        return i

    assert each_on_one_core([lambda i=i: task(i) for i in range(20)]) == list(range(20))
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError):
        each_on_one_core([lambda: 1 // 0, lambda: task(1)])
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]  # threads that others start are not held to one core
