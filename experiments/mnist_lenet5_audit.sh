#!/usr/bin/env bash
# Level (c) audits on MNIST, LeNet-5, class 0: four methods against 64 retrained models, with 16 further runs of each method.
# Run: experiments/mnist_lenet5_audit.sh DATA WORK   (DATA holds MNIST/raw; WORK keeps models, so that a stopped run resumes)
set -euo pipefail
data=${1:?folder that holds MNIST/raw} work=${2:?folder for models}
results=$(dirname "$0")/results/mnist_lenet5_audit
recipe=(--recipe-set optimiser=adam --recipe-set lr=0.001 --recipe-set weight_decay=0 --recipe-set epochs=2 --recipe-set batch_size=128)
[ -d "$work/original" ] || efface train --data mnist --root "$data" --model lenet5 --method mnemonic --set codes=normal "${recipe[@]}" --out "$work/original"
references=(efface train --from "$work/original" --references 64 --classes 0 --root "$data" --out "$work/references")
"${references[@]}"
for method in mnemonic decay ssd fine-tune; do
  search=(); [ "$method" = mnemonic ] && search=(--set search=true)
  # What ended but did not forget, as SSD here, is status 1; it is audited all the same.
  [ -d "$work/$method" ] || efface forget "$work/original" --method "$method" "${search[@]}" --classes 0 --root "$data" --out "$work/$method" || [ -d "$work/$method" ]
  "${references[@]}" --repeats 16 --method "$method" "${search[@]}"
  efface audit "$work/$method" --original "$work/original" --references "$work/references" --root "$data" --out "$results/$method"
done
