"""Two gloo processes add up to one: every rank passes the same samples and gets the full sums."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from efface.curvature import fisher_diagonal
from efface.importance import ablation_importance
from tests.cases import case

ROOT = Path(__file__).resolve().parents[2]


def results(fabric):
    """Everything that is summed over ranks, by name."""
    c = case("residual, in place", samples=13)  # an odd number: the shares differ
    batches = [(c.x[s : s + 4], c.y[s : s + 4]) for s in range(0, 13, 4)]
    found = {}
    for estimator in ("empirical", "true", "mc"):
        fisher = fisher_diagonal(
            c.model,
            batches,
            estimator=estimator,
            sample_weights="class",
            generator=torch.Generator().manual_seed(3),
            fabric=fabric,
        )
        found[f"{estimator}/counts"] = torch.tensor([*fisher.totals, fisher.samples, fisher.saturated])
        found |= {f"{estimator}/{k}/{n}": v for k, one in enumerate(fisher.sums) for n, v in one.items()}
    importance = ablation_importance(c.model, c.x, c.y, fabric=fabric)
    found["drop"], found["rise"] = importance.accuracy_drop, importance.loss_rise
    found["samples"] = torch.tensor([importance.samples, importance.accuracy])
    return found


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workers = []
    for rank in ("0", "1"):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "LOCAL_RANK": rank,
            "RANK": rank,
            "NODE_RANK": "0",
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        }
        workers.append(subprocess.Popen([sys.executable, __file__, str(folder / f"{rank}.pt")], env=environment))
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_equal_one(two_ranks):
    alone = results(None)
    for found in two_ranks:
        assert set(found) == set(alone)
        for name, value in alone.items():
            # The same float64 terms added in another order.
            assert torch.allclose(found[name].double(), value.double(), rtol=1e-10, atol=1e-14), name


def main():
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    assert fabric.world_size == 2
    torch.save(results(fabric), sys.argv[1])
    fabric.barrier()
    torch.distributed.destroy_process_group()  # else gloo's threads may outlive the interpreter, which aborts it


if __name__ == "__main__":
    main()
