"""An original on CIFAR-10 worth forgetting in: ResNet-18 of width 16 by recipes/cifar10_resnet18w16.yaml, on a CPU.

    python experiments/cifar10_original.py --root DATA --out ARTIFACT [--epochs N] [--threads 2]

DATA holds CIFAR10. Writes results/cifar10_resnet18w16_original/epochs_N.json: held-out and test accuracy, and what each
epoch took by the clock and of the processor. The test data is read once, at the end. With --checkpoints FOLDER a
stopped training goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch

import efface
from efface.artifact.case import split_under
from efface.files import read, write_file
from efface.models.predictions import accuracy_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "cifar10_resnet18w16_original"


def main() -> None:
    """Train, save, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", required=True, help="where the artifact goes")
    parser.add_argument("--epochs", type=int, help="other than the recipe's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoints", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = read(HERE / "recipes" / "cifar10_resnet18w16.yaml", efface.Recipe)
    recipe = recipe.but(epochs=options.epochs or recipe.epochs)
    data = efface.load_data("cifar10", root=options.root)
    original = efface.train(
        efface.ModelSpec(build="resnet18", arguments={"width": 16}),
        data,
        recipe=recipe,
        validation=0.02,
        device="cpu",
        checkpoints=options.checkpoints,
    )
    original.save(options.out)
    split = split_under(original.record, data)
    epochs = original.record.history
    result = {
        "test accuracy": accuracy_of(original.model, split.test),
        "held-out accuracy": accuracy_of(original.model, split.validation),
        "epochs": len(epochs),
        "seconds": sum(row["seconds"] for row in epochs),
        "CPU seconds": sum(row["cpu_seconds"] for row in epochs),
        "threads": options.threads,
        "cores": os.cpu_count(),
        "load over 1, 5, 15 minutes at the end": os.getloadavg(),
        "weights_sha256": original.record.weights_after,
        "history": epochs,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_file(RESULTS / f"epochs_{len(epochs)}.json", json.dumps(result, indent=1) + "\n")
    print({k: v for k, v in result.items() if k != "history"})


if __name__ == "__main__":
    main()
