"""Project, damage, distil: project_distil.md section 5, and every switch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data, Split
from efface.data.epoch import Epoch
from efface.errors import DataAccessError, InputError
from efface.mechanisms.dampening import dampen_by_contrast
from efface.methods.applying import apply, prepare
from efface.methods.class_means import ClassMeans
from efface.methods.project_distil import ProjectDistil
from efface.models.reset import reset
from efface.running.run import Run
from efface.running.seeding import seeded
from tests.methods.conftest import MLP_SPEC, RECIPE, accuracy, logits, small_mlp

# As before the transport: directions of means, the row placed first, the head's kept rows left to the repair.
MEANS = {"directions": "means", "head_steps": 0, "row": "before"}
STILL = ProjectDistil(**MEANS, strength=0.0, alpha=0.0, epochs=0.0)


@pytest.fixture(scope="module")
def kept(digits_data: Data) -> Artifact:
    return prepare(
        None, small_mlp(), Split.of(digits_data), RECIPE, Run(device="cpu"), spec=MLP_SPEC, keep=["class-means"]
    )


def test_forgets_the_class_and_keeps_the_rest(trained: dict[str, Artifact], class_split: Split) -> None:
    for network in ("mlp", "cnn"):
        made = apply(ProjectDistil(epochs=2), Case(trained[network], class_split, Run(device="cpu"))).model
        assert accuracy(made, class_split.test_forget) == 0
        before = accuracy(trained[network].model, class_split.test_retain)
        assert accuracy(made, class_split.test_retain) > before - 0.02


def test_check_4_data_to_forget_is_read_for_its_means_alone(
    trained: dict[str, Artifact], kept: Artifact, class_split: Split
) -> None:
    retain = class_split.only(("retain",), "the check")
    apply(ProjectDistil(**MEANS), Case(kept, retain, Run(device="cpu")))  # means="auto" finds those that training kept
    apply(ProjectDistil(directions="none"), Case(trained["mlp"], retain, Run(device="cpu")))
    assert ProjectDistil(**MEANS, means="kept").reads() == ("retain",)
    with pytest.raises(DataAccessError):
        apply(ProjectDistil(), Case(kept, retain, Run(device="cpu")))  # the transport needs the records themselves
    with pytest.raises(DataAccessError):
        apply(ProjectDistil(), Case(trained["mlp"], retain, Run(device="cpu")))
    with pytest.raises(DataAccessError):
        apply(ProjectDistil(directions="fisher"), Case(kept, retain, Run(device="cpu")))


def test_check_5_everything_off_changes_the_new_row_alone(trained: dict[str, Artifact], class_split: Split) -> None:
    for network, head in (("mlp", "fc2"), ("cnn", "9")):
        made = apply(STILL, Case(trained[network], class_split, Run(device="cpu"))).model.state_dict()
        for name, before in trained[network].model.state_dict().items():
            if name.startswith(f"{head}."):
                assert torch.equal(made[name][1:], before[1:])
                assert not torch.equal(made[name][0], before[0])
            else:
                assert torch.equal(made[name], before)


def test_no_damage_and_no_repair_is_class_means(kept: Artifact, class_split: Split) -> None:
    bare = apply(
        ProjectDistil(**MEANS, strength=0.5, alpha=0.0, epochs=0.0), Case(kept, class_split, Run(device="cpu"))
    )
    half = apply(ClassMeans(), Case(kept, class_split, Run(device="cpu")))
    weights = [dict(m.model.named_parameters())["fc1.weight"] for m in (bare, half)]
    assert torch.equal(*weights)


def test_full_damage_before_repair_knows_nothing_of_the_original(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    method = ProjectDistil(directions="none", alpha=1.0, epochs=0.0, head_steps=0, row="before")
    made = apply(method, Case(trained["mlp"], class_split, Run(seed=5, device="cpu"))).model
    fresh = reset(trained["mlp"].model, Run(seed=5, device="cpu").number("project-distil/noise"))
    assert torch.equal(made.get_parameter("fc1.weight"), fresh.get_parameter("fc1.weight"))
    assert torch.equal(made.get_parameter("fc2.weight")[1:], fresh.get_parameter("fc2.weight")[1:])
    assert torch.equal(made.get_parameter("fc2.bias"), fresh.get_parameter("fc2.bias"))


def test_check_6_head_after_repair(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(ProjectDistil(), Case(trained["mlp"], class_split, Run(device="cpu"))).model
    bias, norms = made.get_parameter("fc2.bias"), made.get_parameter("fc2.weight").norm(dim=1)
    others = torch.arange(1, 10)
    assert abs(bias[0] - bias[others].mean()) < 4 * bias[others].std()
    assert norms[0] < 2 * norms[others].max()
    z = logits(made, class_split.retain)
    assert (z[:, 0] < z[:, 1:].max(1).values).all()


def test_depth_changes_the_ends_as_asked(trained: dict[str, Artifact], class_split: Split) -> None:
    made = apply(
        ProjectDistil(directions="none", alpha=0.0, alpha_last=1.0, epochs=0.0, head_steps=0, row="before"),
        Case(trained["mlp"], class_split, Run(seed=5, device="cpu")),
    ).model
    before = trained["mlp"].model
    fresh = reset(before, Run(seed=5, device="cpu").number("project-distil/noise"))
    assert torch.equal(made.get_parameter("fc1.weight"), before.get_parameter("fc1.weight"))
    assert torch.equal(made.get_parameter("fc2.weight")[1:], fresh.get_parameter("fc2.weight")[1:])


def test_fisher_contrast_shrinks_what_the_forget_data_needs_more(
    trained: dict[str, Artifact], class_split: Split
) -> None:
    """Against per-sample gradients taken one by one."""
    model = Run(device="cpu").copied(trained["mlp"].model)
    forget, retain = class_split.forget.take(range(6)), class_split.retain.take(range(9))
    squares = []
    for part in (forget, retain):
        total = torch.zeros_like(model.get_parameter("fc1.weight"))
        for x, y in part.batches(Epoch(1)):
            (gradient,) = torch.autograd.grad(
                nn.functional.cross_entropy(model(x), y), model.get_parameter("fc1.weight")
            )
            total += gradient**2
        squares.append(total / len(part))
    gone, held = squares
    q = ((gone - held) / (gone + held)).nan_to_num(0).clamp(min=0)
    expected = model.get_parameter("fc1.weight").detach() * (1 - 0.8 * q)
    dampen_by_contrast(model, forget, retain, 0.8, Run(device="cpu"))
    torch.testing.assert_close(model.get_parameter("fc1.weight").detach(), expected, rtol=1e-3, atol=1e-5)
    assert 0 < float(q.mean()) < 1


def test_a_push_ends_further_from_the_original(trained: dict[str, Artifact], class_split: Split) -> None:
    def distance(method: ProjectDistil) -> float:
        made = apply(method, Case(trained["mlp"], class_split, Run(device="cpu"))).model
        pairs = zip(made.parameters(), trained["mlp"].model.parameters(), strict=True)
        return sum(float((p - q).detach().square().sum()) for p, q in pairs)

    assert distance(ProjectDistil(epochs=2, push=5.0)) > 1.1 * distance(ProjectDistil(epochs=2))


def test_items_are_refused_with_methods_that_can(trained: dict[str, Artifact], item_split: Split) -> None:
    with pytest.raises(InputError, match=r"project-distil forgets classes, not items.*undo"):
        apply(ProjectDistil(), Case(trained["mlp"], item_split, Run(device="cpu")))


class Attentive(nn.Module):
    """The rows of an image as tokens, one attention layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 24)
        self.attention = nn.MultiheadAttention(24, 2, batch_first=True)
        self.place = nn.Linear(8 * 24, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.embed(x.flatten(1, 2)).relu()
        t = t + self.attention(t, t, t, need_weights=False)[0]
        return self.head(self.place(t.relu().flatten(1)).relu())


def test_attention_is_projected_and_the_class_forgotten(digits_data: Data, class_split: Split) -> None:
    with seeded(0):
        model = Attentive()
    recipe = RECIPE.but(optimiser="adam", lr=0.003, epochs=12)
    given = prepare(None, model, Split.of(digits_data), recipe, Run(device="cpu"))
    bare = apply(ProjectDistil(**MEANS, alpha=0.0, epochs=0.0), Case(given, class_split, Run(device="cpu")))
    assert "attention.query, attention.key, attention.value, attention.out_proj" in bare.record.notes[0]
    for name in ("attention.in_proj_weight", "attention.out_proj.weight"):
        assert not torch.equal(bare.model.get_parameter(name), given.model.get_parameter(name))
    for method in (ProjectDistil(epochs=2), ProjectDistil(**MEANS, epochs=2)):
        made = apply(method, Case(given, class_split, Run(device="cpu"))).model
        assert accuracy(made, class_split.test_forget) == 0
        assert accuracy(made, class_split.test_retain) > accuracy(given.model, class_split.test_retain) - 0.03
