"""What every method promises, checked over the whole catalogue: a new file is covered the day it is added."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.artifact.record import weights_sha256
from efface.data import ArraySamples, Augment, Data, Split
from efface.errors import DataAccessError, InputError, NotPreparedError, UnsupportedRequestError
from efface.methods.applying import apply, prepare
from efface.methods.catalogue import describe, make, methods
from efface.methods.method import Method
from efface.request import Request
from efface.running.run import Run
from tests.methods.conftest import MLP_SPEC, RECIPE, logits, small_cnn, small_mlp

ITEMS: list[int] = np.sort(np.random.default_rng(0).choice(1347, 60, replace=False)).tolist()
QUICK: dict[str, dict[str, Any]] = {
    "amnesiac": {"classes": [0, 3, 8], "items": [7, *ITEMS]},  # has to know before training what may be asked for
    "arcane": {"blocks": 2},
    "boundary-expand": {"epochs": 2, "min_steps": 10},
    "boundary-shrink": {"epochs": 2, "min_steps": 10},
    "certified-removal": {"lam": 10.0, "sigma": 1e4},  # at the defaults so few records leave no budget for one request
    "cf-k": {"epochs": 2},
    "eu-k": {"epochs": 2},
    "erm-ktp": {"reg": 0.1},  # so few steps need a stronger pull before a mask has zeros
    "l1-sparse": {"epochs": 2},
    "lwsf": {"steps": 20},
    "neg-grad-plus": {"epochs": 1},
    "random-labels": {"epochs": 2},
    "salun": {"epochs": 2},
    "scrub": {"retain_steps": 10, "forget_steps": 5},
    "sisa": {"shards": 3, "slices": 2},
    "unsir": {"noise_steps": 5, "noise_batch": 32, "min_steps": 5},
    "zero-shot-gkt": {"pseudo_batches": 3, "batch_size": 32, "student_steps": 2, "generator_width": 16},
    "zero-shot-noise": {"noise_steps": 5, "noise_batch": 32},
}
"""Settings for methods whose defaults take too long here; every other method runs with its defaults."""

GROUPS = np.arange(1347) // 45
GROUPS[ITEMS], GROUPS[7] = 1000, 2000
"""For methods that need them: those of REQUESTS are whole groups."""

NAMES = sorted(methods())
CLASS_METHODS = [n for n in NAMES if "classes" in methods()[n].needs.targets]
ITEM_METHODS = [n for n in NAMES if "items" in methods()[n].needs.targets]
REQUESTS = {
    "one class": Request.of(classes=[0]),
    "two classes": Request.of(classes=[3, 8]),
    "one item": Request.of(items=[7]),
    "items": Request.of(items=ITEMS),
}
CASES = [
    *((n, "mlp", r) for n in CLASS_METHODS for r in ("one class", "two classes")),
    *((n, "mlp", "items") for n in ITEM_METHODS),
    *((n, "cnn", "one class" if n in CLASS_METHODS else "items") for n in NAMES),
    *((n, "cnn", "one item") for n in ITEM_METHODS),  # less than a batch, and BatchNorm meets a single sample
]


class GuardedSamples(ArraySamples):
    """Digits that raise when an input is read at a forbidden position, whichever way the reader got there."""

    def __init__(self, source: ArraySamples, forbidden: np.ndarray) -> None:
        super().__init__(source.inputs, source.labels, source.mean, source.std)
        self.forbidden = torch.from_numpy(forbidden)

    def read(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        wanted = torch.cat([b.flatten() for b in batches])
        touched = wanted[torch.isin(wanted, self.forbidden)]
        if len(touched):
            raise DataAccessError(f"{len(touched)} undeclared samples read, the first at {int(touched[0])}")
        return super().read(batches, device=device, augment=augment, generator=generator)


def guarded(data: Data, request: Request, method: Method) -> Split:
    """The split of a data set whose undeclared samples, and all test samples, raise when read."""
    split = Split.of(data, request)
    parts = {"forget": split.forget, "retain": split.retain, "validation": split.validation}
    declared = np.concatenate([np.empty(0, np.int64), *(parts[k].indices for k in method.reads())])
    forbidden = np.setdiff1d(np.arange(len(data.train)), declared)
    wary = dataclasses.replace(
        data,
        train=GuardedSamples(data.train, forbidden),
        test=GuardedSamples(data.test, np.arange(len(data.test))),
    )
    return Split.of(wary, request)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One method applied once: what went in, what came out."""

    network: str
    method: Method
    given: Artifact
    state_before: dict[str, Tensor]
    memory_before: dict[str, Tensor]
    made: Artifact
    split: Split


class Bench:
    """Trains and forgets once per case and remembers it, so that each promise is its own test at little cost."""

    def __init__(self, data: Data, plain: dict[str, Artifact]) -> None:
        self.data, self.plain = data, plain
        self._trained: dict[tuple[str, str], Artifact] = {}
        self._outcomes: dict[tuple[str, str, str], Outcome] = {}

    def artifact(self, method: Method, network: str) -> Artifact:
        """The plainly trained network, or the one that the method prepared."""
        if not method.needs.prepared:
            return self.plain[network]
        key = (method.name, network)
        if key not in self._trained:
            model = small_mlp() if network == "mlp" else small_cnn()
            spec = MLP_SPEC if network == "mlp" else None
            self._trained[key] = prepare(method, model, Split.of(self.data), RECIPE, Run(device="cpu"), spec=spec)
        return self._trained[key]

    def usual(self, name: str) -> Outcome:
        """The result for one class (or items) on the MLP, or on the CNN where the method refuses an MLP."""
        request = "one class" if name in CLASS_METHODS else "items"
        method = make(name, QUICK.get(name, {}))
        try:
            method.check(self.artifact(method, "mlp"), Split.of(self.data, REQUESTS[request]))
        except InputError:
            return self.outcome(name, "cnn", request)
        return self.outcome(name, "mlp", request)

    def outcome(self, name: str, network: str, request: str) -> Outcome:
        """The result of a case; skipped if the method's own check refuses the network, which must be explained."""
        key = (name, network, request)
        if key not in self._outcomes:
            method = make(name, QUICK.get(name, {}))
            given = self.artifact(method, network)
            split = guarded(self.data, REQUESTS[request], method)
            try:
                method.check(given, split)
            except InputError as error:
                if not any(other in str(error) for other in NAMES if other != name):
                    pytest.fail(f"{name} refuses the {network} without naming a method that would work: {error}")
                pytest.skip(f"{name} refuses the {network}: {error}")
            state = {k: v.clone() for k, v in given.model.state_dict().items()}
            memory = {k: v.clone() for k, v in given.memory.items()}
            made = apply(method, Case(given, split, Run(seed=1, device="cpu")))
            self._outcomes[key] = Outcome(network, method, given, state, memory, made, split)
        return self._outcomes[key]


@pytest.fixture(scope="session")
def bench(digits_data: Data, trained: dict[str, Artifact]) -> Bench:
    return Bench(dataclasses.replace(digits_data, groups=GROUPS), trained)


def batch_norm_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{k}": v
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for k, v in module.named_buffers(recurse=False)
        if k.startswith("running")
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_quick_settings_name_methods_of_the_catalogue() -> None:
    assert set(QUICK) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_runs_on_at_least_one_network(name: str, bench: Bench) -> None:
    method = make(name, QUICK.get(name, {}))
    request = REQUESTS["one class" if name in CLASS_METHODS else "items"]
    accepted = 0
    for network in ("mlp", "cnn"):
        try:
            method.check(bench.artifact(method, network), Split.of(bench.data, request))
            accepted += 1
        except InputError:
            continue
    assert accepted >= 1


@pytest.mark.parametrize(("name", "network", "request_name"), CASES)
def test_forgets_reading_only_what_it_declares(name: str, network: str, request_name: str, bench: Bench) -> None:
    """The guarded samples raise on undeclared and on test data, so that having an outcome is the check."""
    outcome = bench.outcome(name, network, request_name)
    before, after = outcome.state_before, outcome.made.model.state_dict()
    assert same(before, outcome.given.model.state_dict()), "the input model was changed"
    assert same(outcome.memory_before, outcome.given.memory), "the input's memory was changed"
    explained = any("the model is unchanged" in note for note in outcome.made.record.notes)
    assert not same(before, after) or explained, "nothing moved, and no note says why"
    shared = {p.data_ptr() for p in outcome.given.model.parameters()}
    assert not shared & {p.data_ptr() for p in outcome.made.model.parameters()}, "the result shares storage"
    if not (outcome.method.needs.prepared or explained):  # methods that prepare may rebuild the network around its head
        assert any(not torch.equal(before[k], p) for k, p in outcome.made.model.named_parameters() if k in before)
    assert not outcome.made.model.training


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_result_whatever_the_global_seed(name: str, bench: Bench) -> None:
    first = bench.usual(name)
    torch.manual_seed(4321)
    np.random.seed(4321)  # noqa: NPY002 - the legacy global state is what must not matter
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = apply(first.method, Case(first.given, first.split, Run(seed=1, device="cpu")))
    assert again.record.weights_after == first.made.record.weights_after
    assert torch.equal(state, torch.get_rng_state()), "the caller's random state was changed"
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_statistics_move_only_where_declared(name: str, bench: Bench) -> None:
    outcome = bench.outcome(name, "cnn", "one class" if name in CLASS_METHODS else "items")
    before, after = batch_norm_buffers(outcome.given.model), batch_norm_buffers(outcome.made.model)
    if before.keys() != after.keys():
        pytest.skip("the method makes another architecture")
    assert same(before, after) != outcome.method.moves_batch_norm


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_stay(name: str, bench: Bench) -> None:
    usual = bench.usual(name)
    model = copy.deepcopy(usual.given.model)
    frozen = [n for n, _ in model.named_parameters()][:2]  # the first layer's weight and bias
    for n, p in model.named_parameters():
        p.requires_grad_(n not in frozen)
    given = dataclasses.replace(usual.given, model=model)
    try:
        made = apply(usual.method, Case(given, usual.split, Run(seed=1, device="cpu")))
    except InputError as error:
        if not any(word in str(error) for word in ("frozen", "trainable", "requires_grad", "requires a gradient")):
            raise
        return
    after = dict(made.model.named_parameters())
    for n in frozen:
        assert torch.equal(after[n], usual.state_before[n])


def rebuilt(model: nn.Module, record: Any) -> nn.Module:
    for step in record.chain:
        if step.method in methods():
            model = make(step.method, step.settings).rebuild(model, step)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_saved_and_loaded_predicts_the_same(name: str, network: str, bench: Bench, tmp_path: Path) -> None:
    outcome = bench.outcome(name, network, "one class" if name in CLASS_METHODS else "items")
    part = Split.of(bench.data).test
    path = outcome.made.save(tmp_path / "forgotten")
    back = Artifact.load(path, None if network == "mlp" else small_cnn(seed=9), rebuild=rebuilt)
    assert torch.equal(logits(back.model, part), logits(outcome.made.model, part))
    assert back.record == outcome.made.record
    assert same(back.memory, outcome.made.memory)


@pytest.mark.parametrize(("name", "network", "request_name"), CASES)
def test_record_tells_the_whole_story(name: str, network: str, request_name: str, bench: Bench) -> None:
    outcome = bench.outcome(name, network, request_name)
    record = outcome.made.record
    assert record.weights_before == outcome.given.record.weights_after
    assert record.weights_after == weights_sha256(outcome.made.model.state_dict())
    assert record.parent == outcome.given.record
    assert record.earlier_requests[-1] == REQUESTS[request_name]
    assert record.seconds["forget"] > 0
    assert make(name, json.loads(record.model_dump_json())["settings"]) == outcome.method


@pytest.mark.parametrize("name", NAMES)
def test_samples_touched_are_counted_and_are_of_declared_kinds(name: str, bench: Bench) -> None:
    """Where data is declared some is read, for classes or for items: ARCANE drops a class without reading any."""
    outcomes = [bench.usual(name)]
    if name in CLASS_METHODS and name in ITEM_METHODS:
        outcomes.append(bench.outcome(name, outcomes[0].network, "items"))
    touched = 0
    for outcome in outcomes:
        spent = outcome.made.record.spent
        assert spent is not None
        for kind, count in spent.samples.items():
            assert isinstance(count, int)
            assert count == 0 or kind in outcome.method.reads()
        touched += spent.touched
    assert (touched > 0) == bool(outcomes[0].method.reads())


def test_retraining_touches_every_kept_sample_once_an_epoch(bench: Bench) -> None:
    outcome = bench.usual("retrain")
    assert outcome.made.record.spent is not None
    assert outcome.made.record.spent.samples == {
        "forget": 0,
        "retain": int(RECIPE.epochs) * len(Split.of(bench.data, REQUESTS["one class"]).retain),
        "validation": 0,
    }


@pytest.mark.parametrize("name", [n for n in NAMES if len(methods()[n].needs.targets) == 1])
def test_unsupported_target_names_methods_that_can(name: str, bench: Bench) -> None:
    other = "items" if name in CLASS_METHODS else "one class"
    target = "items" if name in CLASS_METHODS else "classes"
    method = make(name, QUICK.get(name, {}))
    split = guarded(bench.data, REQUESTS[other], method)
    with pytest.raises(UnsupportedRequestError) as caught:
        apply(method, Case(bench.plain["mlp"], split, Run(device="cpu")))
    listed = str(caught.value).rpartition(":")[2].replace(",", " ").split()
    assert listed
    assert all(target in methods()[n].needs.targets for n in listed)
    assert name not in listed


@pytest.mark.parametrize("name", [n for n in NAMES if methods()[n].needs.prepared])
def test_unprepared_artifact_is_refused_before_work(name: str, bench: Bench) -> None:
    method = make(name, QUICK.get(name, {}))
    request = REQUESTS["one class" if name in CLASS_METHODS else "items"]
    split = Split.of(bench.data, request).only((), "the check")
    with pytest.raises(NotPreparedError):
        apply(method, Case(bench.plain["mlp"], split, Run(device="cpu")))


@pytest.mark.parametrize("name", NAMES)
def test_a_split_without_a_request_is_refused(name: str, bench: Bench) -> None:
    with pytest.raises(InputError, match="no request"):
        apply(make(name), Case(bench.plain["mlp"], Split.of(bench.data), Run(device="cpu")))


@pytest.mark.parametrize("name", NAMES)
def test_is_declared_documented_and_validated(name: str) -> None:
    kind = methods()[name]
    assert name == name.lower().replace("_", "-")
    assert set(kind.needs.targets) <= {"classes", "items"}
    assert kind.needs.targets
    assert kind.cost
    assert kind.memory
    assert kind.source
    doc = inspect.getdoc(kind) or ""
    assert "Source" in doc
    fields = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for field in fields:
        assert f"{field}:" in doc, f"{name}: {field} is not described under Attributes"
    assert set(make(name).reads()) <= set(kind.needs.reads)
    with pytest.raises(InputError, match="no hyper-parameter"):
        make(name, {"no_such_setting": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        make(name).anything = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json(name: str) -> None:
    for method in (make(name), make(name, QUICK.get(name, {}))):
        assert make(name, json.loads(json.dumps(method.settings()))) == method


NOTHING_TO_SEARCH = {"logit-mask", "retrain"}


@pytest.mark.parametrize("name", sorted(methods()))
def test_its_search_space_is_made_of_its_fields_and_valid_at_both_ends(name: str) -> None:
    kind = methods()[name]
    assert bool(kind.space) != (name in NOTHING_TO_SEARCH)
    for field, axis in kind.space.items():
        low, high = (axis.choices[0], axis.choices[-1]) if axis.choices else (axis.low, axis.high)
        assert low != high
        if not axis.choices:
            assert axis.low < axis.high
            assert axis.low > 0 or not axis.log
        for value in (*axis.choices, low, high):
            assert make(name, {field: value}).settings()[field] == value


def test_the_catalogue_describes_every_method_in_a_sentence() -> None:
    rows = describe()
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        assert row["summary"].endswith(".")
        assert row["cost"].startswith("O(") or "O(" in row["cost"]
    json.dumps(rows)
