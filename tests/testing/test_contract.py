"""What the contract does to whoever runs it beside tests of their own."""

from __future__ import annotations

import numpy as np
import torch

from efface.data import load
from efface.methods.catalogue import make
from efface.testing.bench import Bench, plainly_trained
from efface.testing.contract import test_same_seed_same_result_whatever_the_global_seed as same_seed


def test_the_global_generators_are_where_they_were_for_the_tests_that_follow() -> None:
    data = load("digits")
    bench = Bench(data, plainly_trained(data))
    state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=True)[1]  # noqa: NPY002
    same_seed(make("logit-mask"), bench)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state(legacy=True)[1], numpy_state)  # noqa: NPY002
