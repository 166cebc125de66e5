"""ERM-KTP: the checks of its sheet by number."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.auditing.measures.probe import few_record_probe, linear_probe
from efface.data import ArraySamples, Data, Split
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.erm_ktp import erm_ktp
from efface.methods.erm_ktp.erm_ktp import MASK, ErmKtp
from efface.methods.erm_ktp.maps import knowledge, last_map, watching
from efface.methods.erm_ktp.mask import density, masking, normalise, penalty, prohibition
from efface.models.head import features
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from tests.methods.conftest import RECIPE, accuracy, small_mlp

METHOD = ErmKtp(reg=0.1)


def pooled_cnn(seed: int = 0) -> nn.Module:
    """Two convolutions, global average pooling, a linear head."""
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 10),
        )


@pytest.fixture(scope="module")
def masked(digits_data: Data) -> Artifact:
    return prepare(METHOD, pooled_cnn(), Split.of(digits_data), RECIPE.but(epochs=9), Run(device="cpu"))


@pytest.fixture(scope="module")
def student(masked: Artifact, class_split: Split) -> Artifact:
    return apply(METHOD, Case(masked, class_split, Run(seed=1, device="cpu")))


def test_check_1_the_trained_network_is_the_network_itself(masked: Artifact, digits_data: Data) -> None:
    plain = pooled_cnn()
    assert plain.state_dict().keys() == masked.model.state_dict().keys()
    plain.load_state_dict(masked.model.state_dict())
    x, _ = Split.of(digits_data).test.take(range(16)).tensors()
    assert torch.equal(plain.eval()(x), masked.model(x))


def test_check_2_every_channel_fully_belongs_to_a_class(masked: Artifact) -> None:
    mask = masked.memory[MASK]
    assert torch.equal(mask.max(1).values, torch.ones(32))
    assert float(mask.min()) >= 0
    rows = [r for r in masked.record.history if r["stage"] == "erm"]
    assert len(rows) == 9
    assert rows[-1]["density"] == pytest.approx(density(mask))
    assert rows[-1]["density"] < 0.5 * rows[2]["density"]
    assert rows[-1]["zeros"] > 0.3


def test_check_2_normalising_by_hand() -> None:
    mask = torch.tensor([[0.2, 0.4, -0.1], [0.5, 0.5, 0.0]])
    normalise(mask)
    torch.testing.assert_close(mask, torch.tensor([[0.5, 1.0, 0.0], [1.0, 1.0, 0.0]]))


def test_check_3_the_penalty_by_hand() -> None:
    assert float(penalty(torch.full((4, 3), 0.5))) == pytest.approx(5.1, rel=1e-6)
    m = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    overlap = sum(float(m[:, i] @ m[:, j]) for i in range(4) for j in range(i + 1, 4))
    assert float(penalty(m)) == pytest.approx(float(m.sum()) - 2 + 0.1 * overlap, rel=1e-12)


def test_check_4_masking_equals_the_loop_over_maps() -> None:
    model, mask = pooled_cnn().eval(), torch.rand(32, 10, generator=torch.Generator().manual_seed(0))
    x, y = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 1, 4, 1, 5, 9])
    with masking(model[9], mask, y):
        fast = model(x)
    area = model[:7](x)
    slow = torch.cat([model[7:](area[i : i + 1] * mask[:, c].reshape(1, -1, 1, 1)) for i, c in enumerate(y.tolist())])
    torch.testing.assert_close(fast, slow)
    assert torch.equal(model(x), model[7:](area)), "the mask stayed on"


def test_check_5_prohibition_is_the_conjunction() -> None:
    mask = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.3, 1.0]])
    assert prohibition(mask, [0]).tolist() == [1, 0, 1]
    assert prohibition(mask, [1]).tolist() == [1, 1, 0]
    assert torch.equal(prohibition(mask, [0, 1]), prohibition(mask, [0]) * prohibition(mask, [1]))


def test_check_5_and_6_the_head_stays_and_answers_zero(student: Artifact, masked: Artifact, digits_data: Data) -> None:
    allowed = prohibition(masked.memory[MASK], [0])
    assert 0.3 <= float(allowed.mean()) < 1
    expected = masked.model[9].weight * allowed
    expected[0] = 0
    assert torch.equal(student.model[9].weight, expected)
    kept = masked.model[9].bias.clone()
    kept[0] = 0
    assert torch.equal(student.model[9].bias, kept)
    x = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 10
    assert torch.equal(student.model(x)[:, 0], torch.zeros(50))
    assert accuracy(student.model, Split.of(digits_data, Request.of(classes=[0])).test_retain) > 0.5


def test_the_map_is_found_where_its_average_is_the_features() -> None:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert last_map(pooled_cnn(), "9", x) == "6"
    mlp = small_mlp()
    name = next(n for n, m in reversed(list(mlp.named_modules())) if isinstance(m, nn.Linear))
    assert last_map(mlp, name, x) is None


def test_check_7_a_student_that_is_the_teacher_has_no_loss(masked: Artifact) -> None:
    """P = 1, in eval mode; with a channel forbidden the loss is what that channel holds."""
    x, model = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), masked.model.eval()

    def loss(allowed: Tensor) -> float:
        with watching(model, "9", "6") as seen, torch.no_grad():
            model(x)
            (area, pooled), (area_0, pooled_1) = seen[0], knowledge(seen, allowed)
        return float(F.mse_loss(area, area_0) + F.mse_loss(pooled, pooled_1))

    one = torch.ones(32)
    assert loss(one) == 0
    one[5] = 0
    with torch.no_grad():
        area = model[:7](x)[:, 5]
    expected = (float(area.square().mean()) + float(area.mean((1, 2)).square().mean())) / 32
    assert loss(one) == pytest.approx(expected, rel=1e-5)
    assert expected > 0


def test_what_weighs_on_the_students_weights(
    masked: Artifact, class_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe's penalty, as in the official code, or the one given; the rest of the recipe does not move."""
    found, fitted = [], erm_ktp.fit
    monkeypatch.setattr(erm_ktp, "fit", lambda *a, **k: (found.append(a[2]), fitted(*a, **k))[1])
    case = Case(masked, class_split, Run(seed=1, device="cpu"))
    chosen = [None, RECIPE.weight_decay, 0.0]
    made = [apply(dataclasses.replace(METHOD, epochs=0.1, weight_decay=w), case) for w in chosen]
    assert RECIPE.weight_decay > 0
    assert [r.weight_decay for r in found] == [RECIPE.weight_decay, RECIPE.weight_decay, 0]
    assert found[0].but(weight_decay=0) == found[2]
    assert made[0].record.weights_after == made[1].record.weights_after != made[2].record.weights_after


def test_a_student_without_normalisation_can_lose_to_the_penalty(digits_data: Data, class_split: Split) -> None:
    """A mean over channels has small gradients: weights that nothing rescales fall to the same penalty at any rate."""
    recipe = RECIPE.but(weight_decay=0.05)
    original = prepare(METHOD, small_mlp(), Split.of(digits_data), RECIPE.but(epochs=9), Run(device="cpu"))
    original = dataclasses.replace(original, record=original.record.model_copy(update={"recipe": recipe}))
    case = Case(original, class_split, Run(seed=1, device="cpu"))
    method = dataclasses.replace(METHOD, least_allowed=0.0, lr=1.0)
    held = [apply(dataclasses.replace(method, weight_decay=w), case).model for w in (None, 0.0)]
    kept = Split.of(digits_data, Request.of(classes=[0])).validation_retain
    assert accuracy(held[0], kept) < 0.5 < accuracy(held[1], kept)


def test_check_7_a_student_that_may_know_all_comes_close(masked: Artifact, class_split: Split) -> None:
    """P = 1, from random weights."""
    open_mask = dataclasses.replace(masked, memory={MASK: torch.cat([torch.zeros(32, 1), torch.ones(32, 9)], 1)})
    made = apply(METHOD, Case(open_mask, class_split, Run(seed=1, device="cpu")))
    losses = [r["loss"] for r in made.record.history if r["stage"] == "erm-ktp"]
    assert losses[-1] < 0.2 * losses[0]
    x, _ = class_split.only(("retain",), "test").retain.take(range(300)).tensors()
    ours, theirs = (features(m, x, "9").detach() for m in (made.model.eval(), masked.model.eval()))
    assert (ours - theirs).square().mean() < 0.2 * (theirs - theirs.mean(0)).square().mean()


def forbidden_area(artifact: Artifact, allowed: Tensor, x: Tensor) -> float:
    return float(artifact.model[:7](x)[:, allowed == 0].square().mean())


def test_check_8_the_leak_teaches_forbidden_channels(masked: Artifact, class_split: Split, student: Artifact) -> None:
    """The leaking student's map holds what the masked one's does not, so a probe can find it."""
    leaky = apply(dataclasses.replace(METHOD, leak_map0=True), Case(masked, class_split, Run(seed=1, device="cpu")))
    allowed = prohibition(masked.memory[MASK], [0])
    x, _ = class_split.forget.tensors()
    assert forbidden_area(leaky, allowed, x) > 5 * forbidden_area(student, allowed, x)


def five_marks(n: int, seed: int) -> ArraySamples:
    """Noise with a mark of the record's class in two places; in every second record a fainter one of class 0, too."""
    g = torch.Generator().manual_seed(seed)
    marks = nn.functional.normalize(torch.randn(5, 9, generator=torch.Generator().manual_seed(7)), dim=1)
    y, x = torch.arange(n) % 5, 0.5 * torch.randn(n, 1, 10, 10, generator=g)
    for image, c in zip(x, y.tolist(), strict=True):
        faint = 1.5 * int(torch.randint(2, (1,), generator=g))
        for mark, strength in ((c, 3.0), (c, 3.0), (0, faint)):
            i, j = torch.randint(0, 8, (2,), generator=g).tolist()
            image[0, i : i + 3, j : j + 3] += strength * marks[mark].reshape(3, 3)
    return ArraySamples(x, y)


@pytest.mark.seconds
def test_check_8_a_probe_recalls_less_of_the_class_from_the_masked_student() -> None:
    """Five classes, 20 epochs, the same seeds: a new head finds the class more easily where the map was leaked."""
    data = Data("five marks", five_marks(600, 0), five_marks(500, 1), tuple("01234"))
    with seeded(0):
        network = pooled_cnn()
        network[9] = nn.Linear(32, 5)
    original = prepare(METHOD, network, Split.of(data), RECIPE.but(epochs=20), Run(device="cpu"))

    def recalled(leak: bool, seed: int) -> list[float]:
        split = Split.of(data, Request.of(classes=[0]))
        method = dataclasses.replace(METHOD, leak_map0=leak)
        model = apply(method, Case(original, split, Run(seed=seed, device="cpu"))).model.eval()
        x, y = Split.of(data).train.tensors()
        unseen, _ = split.test_forget.tensors()
        seen, unseen = (features(model, z, "9").detach() for z in (x, unseen))
        few = few_record_probe(seen, y, unseen, torch.Generator().manual_seed(0), per_class=5)[:, 0].double().mean()
        return [float(few), float((linear_probe(seen, y, unseen) == 0).float().mean())]

    masked, leaky = (torch.tensor([recalled(leak, seed) for seed in range(3)]).mean(0) for leak in (False, True))
    assert masked[0] < leaky[0] - 0.01  # heads of five records per class
    assert masked[1] < leaky[1] - 0.01  # the head of all records


def test_what_is_forbidden_stays_forbidden(student: Artifact, masked: Artifact) -> None:
    dead = prohibition(masked.memory[MASK], [0]) == 0
    assert torch.equal(prohibition(student.memory[MASK], [5])[dead], torch.zeros(int(dead.sum())))
    assert torch.equal(student.memory[MASK][~dead], masked.memory[MASK][~dead])


def test_a_mask_that_serves_everything_is_refused(masked: Artifact, class_split: Split) -> None:
    full = dataclasses.replace(masked, memory={MASK: torch.ones(32, 10)})
    with pytest.raises(InputError, match=r"only 0% of the channels.*retrain"):
        apply(METHOD, Case(full, class_split, Run(device="cpu")))
