#!/usr/bin/env bash
# Full-size CIFAR-10 and the benchmarks on one GPU. Finished cells are kept, so a stopped run resumes.
# Run: experiments/on_gpu.sh DATA   (DATA holds CIFAR10; with src on PYTHONPATH no installation is needed)
set -euo pipefail
data=${1:?folder that holds CIFAR10}
here=$(cd "$(dirname "$0")" && pwd)
python3 -m efface.cli compare "$here/cifar10_resnet18_methods.yaml" --root "$data" --device cuda --cells "$here/results/.cells"
python3 "$here/../benchmarks/run.py" --device cuda
