"""Where something was computed: described alike by one process, and every difference named."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import efface
from efface.running.machine import Machine

HERE = Machine.here()


def test_one_process_describes_itself_alike_with_its_threads():
    assert Machine.here() == HERE
    assert HERE.threads == torch.get_num_threads()
    assert HERE.libraries["torch"] == torch.__version__
    assert HERE.unlike(HERE) == []
    assert Machine.model_validate_json(HERE.model_dump_json()) == HERE
    assert all(str(part) in str(HERE) for part in (HERE.processor, HERE.threads, *HERE.libraries.values()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"threads": 77}, "threads instead of 77"),
        ({"processor": "abacus"}, "instead of abacus"),
        ({"instructions": "NONE"}, "instead of NONE"),
        ({"accelerator": "a GPU"}, "accelerator none instead of a GPU"),
        ({"libraries": {**HERE.libraries, "numpy": "0.1"}}, "instead of 0.1"),
        ({"libraries": {k: v for k, v in HERE.libraries.items() if k != "numpy"}}, "instead of none"),
    ],
)
def test_every_difference_is_named(change, named):
    (found,) = HERE.unlike(HERE.model_copy(update=change))
    assert named in found


MAKE = """
import sys, torch, efface
torch.set_num_threads(int(sys.argv[1]))
data = efface.load_data("digits")
made = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=512), device="cpu")
print(made.record.weights_after, made.record.machine.threads)
"""


@pytest.mark.slow  # three processes
def test_equal_machines_make_equal_bits_and_the_record_says_on_how_many_threads():
    def made(threads: int) -> list[str]:
        said = subprocess.run([sys.executable, "-c", MAKE, str(threads)], capture_output=True, text=True, check=True)
        return said.stdout.split()

    one, again, two = made(1), made(1), made(2)
    assert one == again
    assert (one[1], two[1]) == ("1", "2")


def test_records_and_audits_hold_it():
    data = efface.load_data("digits")
    made = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=256), device="cpu")
    assert made.record.machine == HERE
