"""Every method on models and data as people have them: the right result, or an error that says what to do.

Each kind of model or data is a row of `KINDS`; one test runs over all rows and all methods.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case, given
from efface.auditing.settings import AuditSettings
from efface.data import ArraySamples, Data, Split
from efface.errors import InputError
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import make, methods
from efface.models.adapt import adapted
from efface.models.checkpoints import diverged
from efface.models.spec import ModelSpec, build
from efface.request import Request
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.training.recipe import Recipe
from efface.verbs.audit import audit
from efface.verbs.forget import forget
from tests.methods.test_contract import NAMES, QUICK

RECIPE = Recipe(lr=0.05, epochs=1, batch_size=16)
N = 48
GROUPS = np.arange(N) + 100
GROUPS[[1, 4]] = 7  # for methods of groups: the items to forget are a whole one

TIMES = {"seconds", "speedup", "peak_memory"}
OWN: dict[str, dict[str, Any]] = {
    "amnesiac": {"classes": [0], "items": [1, 4]},
    "erm-ktp": {"reg": 10.0, "mask_lr": 2.0, "period": 1, "least_allowed": 0.05},  # zeros in the mask after six steps
    "certified-removal": {"noise": "run"},  # by default it is secret, and no two results are equal
}


def arrays(classes: int = 3, ids: bool = False) -> tuple[Tensor, Tensor]:
    """A few well separated images of 4 x 4, or sentences of 6 tokens, and their labels."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(N) % classes
    centres = 2 * torch.randn(classes, 1, 4, 4, generator=g)
    x = centres[y] + 0.5 * torch.randn(N, 1, 4, 4, generator=g)
    if ids:
        x = torch.randint(0, 7, (N, 6), generator=g) + 7 * y[:, None]
    return x, y


def tiny(
    classes: int = 3, ids: bool = False, tested: tuple[int, ...] = (0, 1, 2), groups: Any = GROUPS, enlarged: int = 1
) -> Data:
    x, y = arrays(classes, ids)
    if enlarged > 1:
        x = x.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    seen = torch.isin(y, torch.tensor(tested))
    names = tuple(map(str, range(classes)))
    return Data("tiny", ArraySamples(x, y), ArraySamples(x[seen], y[seen]), names, groups=groups)


def labelled(like: Callable[[np.ndarray], Any]) -> Data:
    """The images with labels of another type."""
    x, y = arrays()
    return Data("tiny", ArraySamples(x, like(y.numpy())), ArraySamples(x, like(y.numpy())), tuple("012"), groups=GROUPS)


def with_gradients() -> Data:
    """Arrays for training, a dataset for testing; both require gradients."""
    x, y = arrays()
    tested = Data.of(*[TensorDataset(x.clone().requires_grad_(), y)] * 2)
    return Data("tiny", ArraySamples(x.clone().requires_grad_(), y), tested.test, tuple("012"), groups=GROUPS)


def single_numbers(listed: bool) -> Data:
    """Inputs without an axis: an array of one number each, or a dataset of tensors without any."""
    x, y = arrays()
    flat = x[:, 0, 0, 0]
    if listed:
        return Data.of(*[TensorDataset(flat, y)] * 2)
    return Data("tiny", ArraySamples(flat, y), ArraySamples(flat, y), tuple("012"))


def network(outputs: int = 3) -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
            nn.Linear(96, 16), nn.ReLU(), nn.Linear(16, outputs),
        )  # fmt: skip


class Around(nn.Module):
    """The network inside something of a user's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


class Objects(Around):
    """Outputs are objects with logits."""

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=self.inner(x))


class Drawing(Around):
    """Every forward pass draws from the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.01 * torch.randn_like(x))


class Masked(Around):
    """A buffer holds minus infinity."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x @ self.mask.softmax(-1).T)


class Text(nn.Module):
    """Mean of token embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(21, 8), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.embed(tokens).mean(1))))


def text() -> nn.Module:
    with seeded(0):
        return Text()


class Transformer(nn.Module):
    """Patches of 2 x 2 as tokens, a token for the class, one layer of attention, LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.first = nn.Conv2d(1, 8, 2, stride=2), nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.zeros(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.first, std=0.02)
        nn.init.normal_(self.places, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.first.expand(len(x), -1, -1), patches], 1) + self.places
        return self.head(self.norm(self.layer(tokens))[:, 0])


def transformer() -> nn.Module:
    with seeded(0):
        return Transformer()


def depthwise() -> nn.Module:
    """Return a network of depthwise and pointwise convolutions, as MobileNet and ConvNeXt are made of."""
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 6, 1), nn.BatchNorm2d(6), nn.Hardswish(), nn.Conv2d(6, 6, 3, padding=1, groups=6),
            nn.BatchNorm2d(6), nn.Hardswish(), nn.Conv2d(6, 12, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(48, 3),
        )  # fmt: skip


def lenet5() -> nn.Module:
    return build(ModelSpec(build="lenet5"), input_shape=(1, 16, 16), num_classes=3, seed=0)


def mlp() -> nn.Module:
    return build(ModelSpec(build="mlp", arguments={"hidden": [16]}), input_shape=(1, 4, 4), num_classes=3, seed=0)


def lazy() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 3))


@dataclass(frozen=True)
class Kind:
    """One way in which a model or its data is not like ours.

    Attributes:
        build: Makes the module that is trained.
        handed: Makes of the trained module what the user hands over.
        load: Makes the data.
        like_plain: Whether every method must do exactly what it does for the plain kind.
        refused: What the error says, where no method can have it; a regular expression.
        recipe: Of training.
    """

    build: Callable[[], nn.Module] = network
    handed: Callable[[nn.Module], Any] = lambda trained: trained
    load: Callable[[], Data] = tiny
    like_plain: bool = False
    refused: str = ""
    recipe: Recipe = RECIPE

    @cached_property
    def data(self) -> Data:
        return self.load()


def traced(model: nn.Module) -> Any:
    return torch.jit.trace(model, arrays()[0])


def too_sure(trained: nn.Module) -> nn.Module:
    """Make logits of 1e38."""
    with torch.no_grad():
        trained.inner[6].weight.mul_(1e37)
    return trained


CAST = {"float64": "float64", "bfloat16": "bfloat16", "half": "float16"}

LIKE = partial(Kind, like_plain=True)

KINDS = {
    "plain": Kind(),  # convolution and BatchNorm
    "mlp": Kind(mlp),
    "lenet5": Kind(lenet5, load=lambda: tiny(enlarged=4)),
    "transformer": Kind(transformer),
    "depthwise": Kind(depthwise),
    "float64": LIKE(handed=nn.Module.double),
    "bfloat16": LIKE(handed=nn.Module.bfloat16),
    "half": LIKE(handed=nn.Module.half),
    "compiled": LIKE(handed=torch.compile),
    "data-parallel": LIKE(handed=nn.DataParallel),
    "objects with logits": LIKE(handed=lambda trained: Objects(trained)),
    "scripted": Kind(handed=torch.jit.script, refused=r"scripted or traced.*Give the Python module"),
    "traced": Kind(handed=traced, refused=r"scripted or traced.*Give the Python module"),
    "lazy without weights": Kind(handed=lambda _: lazy(), refused="lazy layers that hold no weights.*Run one batch"),
    "one logit": Kind(lambda: network(1), load=lambda: tiny(2)),
    "token ids": Kind(text, load=lambda: tiny(ids=True)),
    "draws in forward": Kind(lambda: Drawing(network())),
    "buffer of -inf": Kind(lambda: Masked(network())),
    "logits of 1e38": Kind(lambda: Around(network()), too_sure),
    "one sample per batch": Kind(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
        recipe=RECIPE.but(batch_size=1),
    ),
    "test set of the forgotten class": LIKE(load=lambda: tiny(tested=(0,))),
    "labels as uint64": LIKE(load=lambda: labelled(lambda y: y.astype(np.uint64))),
    "labels as objects": LIKE(load=lambda: labelled(lambda y: y.astype(object))),
    "labels as strings": Kind(
        load=lambda: labelled(lambda y: np.array(["cat", "dog", "cow"])[y]), refused="names such as.*return_inverse"
    ),
    "inputs that require gradients": LIKE(load=with_gradients),
    "0-d inputs in an array": Kind(
        load=lambda: single_numbers(listed=False), refused=r"single numbers.*reshape\(-1, 1\)"
    ),
    "0-d inputs in a dataset": Kind(load=lambda: single_numbers(listed=True), refused=r"single numbers.*reshape\(1\)"),
    "groups of mixed types": Kind(
        load=lambda: tiny(groups=np.array([7, "7"] * (N // 2), dtype=object)), refused="of type int, str.*needed: all"
    ),
}


class Foreign:
    """Trains once per kind, forgets once per kind and method."""

    def __init__(self) -> None:
        self._handed: dict[str, nn.Module] = {}
        self._made: dict[tuple[str, str], Artifact | InputError] = {}

    def handed(self, name: str) -> nn.Module:
        """Return a trained module as its user hands it over; each call gives a new copy."""
        kind = KINDS[name]
        if name not in self._handed:
            with torch.random.fork_rng():
                module = kind.build()
            split = Split.of(kind.data)
            model, _ = adapted(module, kind.data.input_shape, len(kind.data.classes), kind.data.input_dtype)
            trained = prepare(None, model, split, RECIPE.but(epochs=2), Run(device="cpu")).model.state_dict()
            # Weights that every precision holds, so that a cast changes nothing.
            held = {k: v.half().bfloat16().float() if v.is_floating_point() else v for k, v in trained.items()}
            module.load_state_dict(held)
            self._handed[name] = module
        return kind.handed(copy.deepcopy(self._handed[name]).eval())

    def given(self, name: str) -> Artifact:
        kind = KINDS[name]
        return given(self.handed(name), Split.of(kind.data), kind.recipe, Run(device="cpu"))

    def made(self, name: str, method_name: str) -> Artifact | InputError:
        key = (name, method_name)
        if key not in self._made:
            try:
                self._made[key] = self._forget(KINDS[name], self.given(name), method_name)
            except InputError as error:
                self._made[key] = error
        return self._made[key]

    def _forget(self, kind: Kind, artifact: Artifact, name: str) -> Artifact:
        method = make(name, {**QUICK.get(name, {}), **OWN.get(name, {})})
        request = Request.of(classes=[0]) if "classes" in method.needs.targets else Request.of(items=[1, 4])
        if method.needs.prepared:
            artifact = prepare(method, artifact.model, Split.of(kind.data), kind.recipe, Run(device="cpu"))
        return apply(method, Case(artifact, Split.of(kind.data, request), Run(seed=1, device="cpu")))


@pytest.fixture(scope="module")
def foreign() -> Foreign:
    return Foreign()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_right_result_or_an_error_that_says_what_to_do(kind: str, name: str, foreign: Foreign) -> None:
    """Anything else than an `InputError` fails here; so does a model that is silently unchanged."""
    state = torch.get_rng_state()
    made = foreign.made(kind, name)
    assert torch.equal(state, torch.get_rng_state()), "the caller's random numbers were moved"
    if KINDS[kind].refused:
        assert isinstance(made, InputError)
        assert re.search(KINDS[kind].refused, str(made)), made
        return
    if isinstance(made, InputError):
        assert len(str(made)) > 60, "an error says what was given, what is allowed, and what to do"
        if KINDS[kind].like_plain:
            assert str(made) == str(foreign.made("plain", name))
        return
    assert not diverged(made.model)
    explained = any("the model is unchanged" in note for note in made.record.notes)
    assert explained or made.record.weights_before != made.record.weights_after
    told = [note for note in made.record.notes if note.startswith("the weights came as")]
    if not methods()[name].needs.prepared:
        said = "the weights came as {}: they were changed, and are kept, in float32"
        assert told == ([said.format(CAST[kind])] if kind in CAST else [])
        assert made.record.weights_before == foreign.given(kind).record.weights_after
    if KINDS[kind].like_plain:
        plain = foreign.made("plain", name)
        assert isinstance(plain, Artifact)
        for a, b in zip(made.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
            assert torch.equal(a, b)


NEED_A_ROW = {
    "boundary-expand", "certified-removal", "class-means", "class-transport", "erm-ktp", "logit-mask", "lwsf", "msg",
    "ntk-f", "project-distil", "sfdn", "undo",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "mlp", "lenet5", "transformer", "depthwise", "one logit"])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_runs_on_every_network_that_has_what_it_is_about(name: str, kind: str, foreign: Foreign) -> None:
    """Connection tampering is about kernels; of one logit for two classes no class has a row of weights."""
    made = foreign.made(kind, name)
    if kind == "one logit" and name in NEED_A_ROW:
        assert "one output for two classes" in str(made)
    elif (kind, name) == ("mlp", "ct"):
        assert "transposes convolution kernels" in str(made)
    else:
        assert isinstance(made, Artifact), made


@pytest.mark.parametrize("name", NAMES)
def test_methods_that_make_inputs_are_those_that_refuse_token_ids(name: str, foreign: Foreign) -> None:
    made = foreign.made("token ids", name)
    refused = isinstance(made, InputError) and "token ids" in str(made)
    assert refused == methods()[name].makes_inputs


@pytest.mark.parametrize(
    "kind", ["float64", "bfloat16", "half", "one logit", "token ids", "draws in forward", "buffer of -inf"]
)
def test_modules_as_they_are_go_through_forget_and_audit(kind: str, foreign: Foreign) -> None:
    """The user's own module is original, candidate and reference; asking it twice gives one answer."""
    data, request = KINDS[kind].data, Request.of(classes=[0])
    mine = foreign.handed(kind)
    before, state = {k: v.clone() for k, v in mine.state_dict().items()}, torch.get_rng_state()
    made = forget(mine, data, request, method="gradient-ascent", recipe=RECIPE, device="cpu")
    first, second = (
        audit(made, data, original=mine, others={"mine": mine}, device="cpu", settings=AuditSettings(relearn_cap=0))
        for _ in range(2)
    )
    scores = [
        {row.name: {k: s.value for k, s in row.scores.items() if k not in TIMES} for row in a.rows}
        for a in (first, second)
    ]
    assert scores[0] == scores[1]
    assert scores[0]["mine"]["retain_accuracy"] == scores[0]["original"]["retain_accuracy"] > 0.4
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in mine.state_dict().items())
    assert list(made.model.state_dict()) == list(before)
