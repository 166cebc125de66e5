"""Fine-tuning: baselines.md section 7, check 2."""

from __future__ import annotations

import pytest
import torch

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Split
from efface.data.epoch import Epoch
from efface.errors import InputError
from efface.methods.applying import apply
from efface.methods.catalogue import make
from efface.methods.fine_tune import FineTune
from efface.running.run import Run


def test_check_2_rate_zero_changes_batch_norm_buffers_only(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(FineTune(lr=0, epochs=1), Case(trained["cnn"], class_split, Run(device="cpu"))).model
    original = trained["cnn"].model
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), original.parameters(), strict=True))
    moved = {k for k, v in made.state_dict().items() if not torch.equal(v, original.state_dict()[k])}
    assert moved == {k for k, _ in original.named_buffers()}


def test_equals_a_bare_loop_from_the_original_weights(trained: dict[str, Artifact], class_split: Split) -> None:
    """One epoch, same order, plain SGD: bit for bit."""
    made = apply(FineTune(lr=0.05), Case(trained["mlp"], class_split, Run(seed=3, device="cpu"))).model
    run = Run(seed=3, device="cpu")
    bare = run.copied(trained["mlp"].model).train()
    recipe = trained["mlp"].record.recipe
    optimiser = torch.optim.SGD(bare.parameters(), lr=0.05, momentum=0.9, weight_decay=recipe.weight_decay, fused=True)
    for x, y in class_split.retain.batches(Epoch(recipe.batch_size, generator=run.generator("fine-tune/epoch 0"))):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(bare(x), y).backward()
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), bare.parameters(), strict=True))


def test_a_fraction_of_an_epoch_is_allowed_and_a_negative_rate_is_not(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    run = Run(device="cpu")
    apply(FineTune(epochs=0.5), Case(trained["mlp"], class_split, run))
    assert run.history.of("fine-tune") == []  # no epoch was completed
    with pytest.raises(InputError, match="lr"):
        make("fine-tune", {"lr": -1})
