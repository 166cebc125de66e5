"""SCRUB and its rewind: the checks of its sheet by number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import ArraySamples, Data, Split
from efface.errors import InputError
from efface.mechanisms.distillation import kl
from efface.methods.applying import apply
from efface.methods.scrub import SCRUB, rewound
from efface.models.predictions import accuracy_of
from efface.request import Request
from efface.running.run import Run


def run() -> Run:
    return Run(seed=1, device="cpu")


class Logged(ArraySamples):
    """Samples that remember, batch by batch, which positions were read."""

    def __init__(self, source: ArraySamples) -> None:
        super().__init__(source.inputs, source.labels, source.mean, source.std)
        self.log: list[Tensor] = []

    def read(self, batches: Sequence[Tensor], **options: Any) -> Iterator[Tensor]:
        for positions, x in zip(batches, super().read(batches, **options), strict=True):
            self.log.append(positions)
            yield x


def test_check_1_at_the_teacher_the_max_step_has_no_gradient(trained: dict[str, Artifact], class_split: Split) -> None:
    # gamma = alpha = 0 leaves max steps alone; the perceptron has no BatchNorm that would break the tie.
    method = SCRUB(gamma=0, alpha=0, weight_decay=0, warm_up="never")
    new = apply(method, Case(trained["mlp"], class_split, run())).model
    for a, b in zip(trained["mlp"].model.parameters(), new.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)  # rounding, times 20 small steps
    # One pass of min steps first, and the same max steps run away.
    moved = apply(SCRUB(alpha=0, weight_decay=0, lr=2e-3), Case(trained["mlp"], class_split, run()))
    assert moved.record.history[0]["stage"] == "scrub/min"
    assert min(r["loss"] for r in moved.record.history if r["stage"] == "scrub/max") < -1


def test_check_1_batch_norm_in_train_mode_breaks_the_tie(trained: dict[str, Artifact], class_split: Split) -> None:
    method = SCRUB(forget_epochs=1, epochs=2, retain_steps=0)
    made = apply(method, Case(trained["cnn"], class_split, run()))
    assert made.record.history[0]["stage"] == "scrub/max"
    assert made.record.history[0]["loss"] < -0.1


def test_check_2_temperature_squared_keeps_small_distances_comparable() -> None:
    g = torch.Generator().manual_seed(0)
    t = torch.randn(64, 10, generator=g)
    s = t + 0.01 * torch.randn(64, 10, generator=g)
    ratio = SCRUB(temperature=4.0).distance(t, s) / SCRUB(temperature=1.0).distance(t, s)
    assert 0.5 < float(ratio) < 2


def test_check_3_forget_data_is_read_in_the_first_epochs_only(trained: dict[str, Artifact], digits_data: Data) -> None:
    logged = Logged(digits_data.train)
    split = Split.of(dataclasses.replace(digits_data, train=logged), Request.of(classes=[0]))
    SCRUB(forget_epochs=1, epochs=3, warm_up="never", retain_steps=0).forget(trained["cnn"], split, run())
    forget = torch.from_numpy(split.forget.indices)
    touched = [bool(torch.isin(b, forget).any()) for b in logged.log]
    assert sum(len(b) for b, t in zip(logged.log, touched, strict=True) if t) == 2 * len(forget)  # teacher, one pass
    last = max(i for i, t in enumerate(touched) if t)
    after = sum(len(b) for b in logged.log[last + 1 :])
    assert after >= 3 * (len(split.retain) - 1)  # all three min passes come later


def test_check_5_rewind_takes_the_closest_and_the_earliest() -> None:
    assert rewound([0, 40, 90, 100], 55) == 1
    assert rewound([0, 50, 60, 100], 55) == 1
    assert rewound([3, 40], 0) == 0


@pytest.mark.parametrize("lr", [0.0, 3e-3])
def test_check_5_the_rewound_model_is_the_one_whose_error_was_chosen(
    trained: dict[str, Artifact], item_split: Split, lr: float
) -> None:
    method = SCRUB(rewind=True, lr=lr, gamma=1, alpha=0.5, forget_epochs=3, epochs=4, forget_batch=8, retain_steps=20)
    made = apply(method, Case(trained["cnn"], item_split, run()))
    row = next(r for r in made.record.history if r["stage"] == "scrub/rewind")
    errors = [row[f"error {e}"] for e in range(5)]
    assert row["epoch"] == rewound(errors, row["reference"])
    assert 1 - accuracy_of(made.model, item_split.forget) == pytest.approx(errors[row["epoch"]])
    if lr == 0:  # nothing but BatchNorm moves, and the original, epoch 0, can be returned
        assert errors[0] == 1 - accuracy_of(trained["cnn"].model, item_split.forget)


def test_rewind_reads_validation_and_nothing_else_does(trained: dict[str, Artifact]) -> None:
    assert "validation" in SCRUB(rewind=True).reads()
    assert "validation" not in SCRUB().reads()


@pytest.mark.parametrize(("name", "lr"), [("cnn", 5e-4), ("mlp", 2e-3)])
def test_check_8_forgets_the_class_and_keeps_the_rest(
    trained: dict[str, Artifact], class_split: Split, name: str, lr: float
) -> None:
    made = apply(SCRUB(lr=lr), Case(trained[name], class_split, run()))
    assert accuracy_of(made.model, class_split.test_forget) < 0.10
    kept = accuracy_of(made.model, class_split.test_retain)
    assert kept > accuracy_of(trained[name].model, class_split.test_retain) - 0.03


def test_check_8_more_max_steps_without_repair_ruin_the_model(trained: dict[str, Artifact], class_split: Split) -> None:
    alone = SCRUB(lr=5e-3, gamma=0, alpha=0, weight_decay=0, forget_epochs=2, epochs=3, retain_steps=0)
    made = apply(alone, Case(trained["cnn"], class_split, run()))
    assert (
        accuracy_of(made.model, class_split.test_retain)
        < accuracy_of(trained["cnn"].model, class_split.test_retain) - 0.3
    )


def test_both_kinds_of_steps_share_momentum(trained: dict[str, Artifact], class_split: Split) -> None:
    """One step of each by hand: the min step's momentum is still in the max step's buffer."""
    method = SCRUB(
        forget_epochs=1, epochs=2, warm_up="always", alpha=0, gamma=1, weight_decay=0, batch_size=10**6,
        forget_batch=10**6, retain_steps=0, forget_steps=0, milestones=(), lr=0.1,
    )  # fmt: skip
    made = apply(method, Case(trained["mlp"], class_split, run())).model
    slow = run().copied(trained["mlp"].model)
    sgd = torch.optim.SGD(slow.parameters(), lr=0.1, momentum=0.9)
    (xr, yr), (xf, _) = class_split.retain.tensors(), class_split.forget.tensors()
    with torch.no_grad():
        teacher = trained["mlp"].model(xf)
    for kind in ("min", "max", "min", "min"):
        sgd.zero_grad()
        loss = F.cross_entropy(slow(xr), yr) if kind == "min" else -16 * kl(teacher, slow(xf), 4.0).mean()
        loss.backward()
        sgd.step()
    for a, b in zip(slow.parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)  # sums in another order


def test_bad_settings_and_data_are_refused_with_a_way_out(
    trained: dict[str, Artifact], class_split: Split, digits_data: Data
) -> None:
    with pytest.raises(InputError, match="raise epochs"):
        apply(SCRUB(forget_epochs=3, epochs=3), Case(trained["mlp"], class_split, run()))
    item = int(class_split.forget.indices[0])
    one = Split.of(digits_data, Request.of(items=[item]))
    with pytest.raises(InputError, match="freeze_batch_norm"):
        apply(SCRUB(), Case(trained["cnn"], one, run()))
    without = Split.of(digits_data, Request.of(items=[item]), validation=0)
    with pytest.raises(InputError, match="validation fraction"):
        apply(SCRUB(rewind=True), Case(trained["mlp"], without, run()))


def test_ascent_has_no_floor_unless_it_stops_at_chance(trained: dict[str, Artifact], class_split: Split) -> None:
    """A long, fast ascent drives the loss away and the kept classes with it; ours ends when the class is gone."""
    kept, notes = [], []
    for stop in (False, True):
        here = run()
        method = SCRUB(lr=0.02, forget_steps=100, retain_steps=10, stop_at_chance=stop)
        made = apply(method, Case(trained["mlp"], class_split, here))
        kept.append(accuracy_of(made.model, class_split.test_retain))
        notes.append([n for n in here.notes if "ended at chance" in n])
        assert accuracy_of(made.model, class_split.test_forget) < 0.1
    assert kept[1] > kept[0] + 0.1
    assert not notes[0]
    assert notes[1]
