"""Training on two processes gives what one process gives: each batch is shared, gradients are averaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from efface.data import Split, load
from efface.models.spec import ModelSpec, build
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe

data = load("digits")
model = build(ModelSpec(build="mlp", arguments={"hidden": [16]}), input_shape=(1, 8, 8), num_classes=10)
part = Split.of(data).train
part = part.take(range(1152))  # whole batches of 64, so that both halves of each weigh the same
run = Run(device="cpu", devices=int(sys.argv[2]))
fit(model, part, Recipe(lr=0.1, epochs=2, batch_size=64), run)
if run.fabric.global_rank == 0:
    save_file(model.state_dict(), sys.argv[1])
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, script, tmp_path / "two.safetensors", "2"], check=True, timeout=240)
    subprocess.run([sys.executable, script, tmp_path / "one.safetensors", "1"], check=True, timeout=240)
    one, two = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "two.safetensors")
    for name, weights in one.items():
        # The order of additions differs, and 36 steps carry the rounding on.
        torch.testing.assert_close(two[name], weights, rtol=1e-4, atol=1e-5)
