"""The promises of every method, as tests; `pytest --efface-methods my_package:MyMethod` runs them on one from outside.

A test module that imports everything from here and sets `SUBJECTS` runs them on those methods instead.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.artifact.record import weights_sha256
from efface.data import Part, Split, load
from efface.errors import InputError, NotPreparedError, UnsupportedRequestError
from efface.methods.applying import apply, prepare, rebuilt
from efface.methods.catalogue import make, methods
from efface.methods.method import Method
from efface.running.run import Run
from efface.running.seeding import seeded
from efface.testing.bench import RECIPE, REQUESTS, Bench, guarded, plainly_trained, request_for, small_cnn, small_mlp
from efface.testing.subjects import subjects_of
from efface.training.checkpoint import Checkpoint

NETWORKS = ("mlp", "cnn")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its methods, and its networks and requests where it asks for them."""
    subjects: list[Method] | None = getattr(metafunc.module, "SUBJECTS", None)
    if subjects is None:
        subjects = subjects_of(metafunc.config.getoption("--efface-methods"))
    names = set(metafunc.fixturenames)
    if "request_name" in names:
        cases = [(m, network, request) for m in subjects for network, request in _cases(m)]
        metafunc.parametrize(
            ("method", "network", "request_name"), cases, ids=[f"{m.name}-{n}-{r}" for m, n, r in cases]
        )
    elif "network" in names:
        pairs = [(m, network) for m in subjects for network in NETWORKS]
        metafunc.parametrize(("method", "network"), pairs, ids=[f"{m.name}-{n}" for m, n in pairs])
    else:
        kinds = {
            "method": subjects,
            "single_minded": [m for m in subjects if len(m.needs.targets) == 1],
            "prepared": [m for m in subjects if m.needs.prepared],
        }
        for name in names & kinds.keys():
            metafunc.parametrize(name, kinds[name], ids=[m.name for m in kinds[name]])


def _cases(method: Method) -> list[tuple[str, str]]:
    """Return the networks and requests that a method is tried on."""
    found = [("cnn", request_for(method))]
    if "classes" in method.needs.targets:
        found += [("mlp", "one class"), ("mlp", "two classes")]
    if "items" in method.needs.targets:
        found += [("mlp", "items"), ("cnn", "one item")]  # less than a batch, and BatchNorm meets a single sample
    return found


@pytest.fixture(scope="session")
def bench() -> Bench:
    """Return the problem on which all of them are tried."""
    data = load("digits")
    return Bench(data, plainly_trained(data))


def _logits(model: nn.Module, part: Part) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(part.tensors()[0])
    return found


def _batch_norm_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{k}": v
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for k, v in module.named_buffers(recurse=False)
        if k.startswith("running")
    }


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_runs_on_at_least_one_network(method: Method, bench: Bench) -> None:
    """Of an MLP and a small CNN with BatchNorm."""
    request = REQUESTS[request_for(method)]
    accepted = 0
    for network in NETWORKS:
        try:
            method.check(bench.artifact(method, network), Split.of(bench.data, request))
            accepted += 1
        except InputError:
            continue
    assert accepted >= 1


def test_forgets_reading_only_what_it_declares(method: Method, network: str, request_name: str, bench: Bench) -> None:
    """The guarded samples raise on undeclared and on test data, so that having an outcome is the check."""
    outcome = bench.outcome(method, network, request_name)
    before, after = outcome.state_before, outcome.made.model.state_dict()
    assert _same(before, outcome.given.model.state_dict()), "the input model was changed"
    assert _same(outcome.memory_before, outcome.given.memory), "the input's memory was changed"
    explained = any("the model is unchanged" in note for note in outcome.made.record.notes)
    assert not _same(before, after) or explained, "nothing moved, and no note says why"
    shared = {p.data_ptr() for p in outcome.given.model.parameters()}
    assert not shared & {p.data_ptr() for p in outcome.made.model.parameters()}, "the result shares storage"
    if not (method.needs.prepared or explained):  # methods that prepare may rebuild the network around its head
        assert any(not torch.equal(before[k], p) for k, p in outcome.made.model.named_parameters() if k in before)
    assert not outcome.made.model.training


def test_same_seed_same_result_whatever_the_global_seed(method: Method, bench: Bench) -> None:
    """Random numbers come from the run, and the caller's generators are left where they were."""
    first = bench.usual(method)
    with _global_seeds(4321):
        state, numpy_state = torch.get_rng_state(), _legacy_state()
        again = apply(first.method, Case(first.given, first.split, Run(seed=1, device="cpu")))
        assert again.record.weights_after == first.made.record.weights_after
        assert torch.equal(state, torch.get_rng_state()), "PyTorch's global random state was changed"
        assert (numpy_state == _legacy_state()).all(), "NumPy's global random state was changed"


@contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    """Run a block with both global generators at a seed, and put them back afterwards."""
    before = np.random.get_state()  # noqa: NPY002 - the legacy global state is what must not matter
    try:
        np.random.seed(seed)  # noqa: NPY002
        with seeded(seed):
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _legacy_state() -> np.ndarray:
    return np.array(np.random.get_state(legacy=True)[1])  # type: ignore[index]  # noqa: NPY002


class _StoppedError(Exception):
    """What ends a training early here."""


def _stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Keep a checkpoint as often as one may be kept, and end the training after so many."""
    kept = 0
    save = Checkpoint.save

    def saved(self: Checkpoint) -> None:
        nonlocal kept
        save(self)
        kept += 1
        if kept == after:
            raise _StoppedError

    monkeypatch.setattr("efface.training.checkpoint.EVERY", 0.0)
    monkeypatch.setattr(Checkpoint, "save", saved)


def test_stopped_training_goes_on_to_the_same_bits(
    prepared: Method, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what it prepares: weights and memory; `carried` of `fit` is for what a loss or a hook keeps between steps."""
    network = bench.usual(prepared).network
    whole = bench.artifact(prepared, network)
    model = small_mlp() if network == "mlp" else small_cnn()

    def trained() -> Artifact:
        run = Run(device="cpu", checkpoints=tmp_path)
        return prepare(prepared, model, Split.of(bench.data), RECIPE, run)

    with monkeypatch.context() as patch:
        _stopping(patch, after=4)
        with contextlib.suppress(_StoppedError):  # one that trains apart, or not at all, is not stopped here
            trained()
    made = trained()
    assert made.record.weights_after == whole.record.weights_after
    assert _same(made.memory, whole.memory)


def test_stopped_forgetting_goes_on_to_the_same_bits(
    method: Method, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its training does."""
    usual = bench.usual(method)

    def forgotten() -> Artifact:
        return apply(method, Case(usual.given, usual.split, Run(seed=1, device="cpu", checkpoints=tmp_path)))

    with monkeypatch.context() as patch:
        _stopping(patch, after=1)
        with contextlib.suppress(_StoppedError):
            forgotten()
    made = forgotten()
    assert made.record.weights_after == usual.made.record.weights_after
    assert _same(made.memory, usual.made.memory)


def test_batch_norm_statistics_move_only_where_declared(method: Method, bench: Bench) -> None:
    """Where `moves_batch_norm` says so."""
    outcome = bench.outcome(method, "cnn", request_for(method))
    before, after = _batch_norm_buffers(outcome.given.model), _batch_norm_buffers(outcome.made.model)
    if before.keys() != after.keys():
        pytest.skip("the method makes another architecture")
    assert _same(before, after) != method.moves_batch_norm


def test_frozen_parameters_stay(method: Method, bench: Bench) -> None:
    """What needs no gradient is not changed, or the method says why it needs one."""
    usual = bench.usual(method)
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


def test_saved_and_loaded_predicts_the_same(method: Method, network: str, bench: Bench, tmp_path: Path) -> None:
    """An artifact on disk is the one in memory."""
    outcome = bench.outcome(method, network, request_for(method))
    part = Split.of(bench.data).test
    path = outcome.made.save(tmp_path / "forgotten")
    back = Artifact.load(path, None if network == "mlp" else small_cnn(seed=9), rebuild=rebuilt)
    assert torch.equal(_logits(back.model, part), _logits(outcome.made.model, part))
    assert back.record == outcome.made.record
    assert _same(back.memory, outcome.made.memory)


def test_record_tells_the_whole_story(method: Method, network: str, request_name: str, bench: Bench) -> None:
    """Weights before and after, the request, the time, and settings from which the method can be made again."""
    outcome = bench.outcome(method, network, request_name)
    record = outcome.made.record
    assert record.weights_before == outcome.given.record.weights_after
    assert record.weights_after == weights_sha256(outcome.made.model.state_dict())
    assert record.parent == outcome.given.record
    assert record.earlier_requests[-1] == REQUESTS[request_name]
    assert record.seconds["forget"] > 0
    assert make(method.name, json.loads(record.model_dump_json())["settings"]) == method


def test_samples_touched_are_counted_and_are_of_declared_kinds(method: Method, bench: Bench) -> None:
    """Where data is declared some is read, for classes or for items: ARCANE drops a class without reading any."""
    outcomes = [bench.usual(method)]
    if len(method.needs.targets) == 2:
        outcomes.append(bench.outcome(method, outcomes[0].network, "items"))
    touched = 0
    for outcome in outcomes:
        spent = outcome.made.record.spent
        assert spent is not None
        for kind, count in spent.samples.items():
            assert isinstance(count, int)
            assert count == 0 or kind in method.reads()
        touched += spent.touched
    assert (touched > 0) == bool(method.reads())


def test_unsupported_target_names_methods_that_can(single_minded: Method, bench: Bench) -> None:
    """A method of classes asked for items, or the other way round, refuses and says who does it."""
    forgets_classes = "classes" in single_minded.needs.targets
    split = guarded(bench.data, REQUESTS["items" if forgets_classes else "one class"], single_minded)
    with pytest.raises(UnsupportedRequestError) as caught:
        apply(single_minded, Case(bench.plain["mlp"], split, Run(device="cpu")))
    listed = str(caught.value).rpartition(":")[2].replace(",", " ").split()
    assert listed
    assert all(("items" if forgets_classes else "classes") in methods()[n].needs.targets for n in listed)
    assert single_minded.name not in listed


def test_unprepared_artifact_is_refused_before_work(prepared: Method, bench: Bench) -> None:
    """What needs something that training left behind says so without reading data."""
    split = Split.of(bench.data, REQUESTS[request_for(prepared)]).only((), "the check")
    with pytest.raises(NotPreparedError):
        apply(prepared, Case(bench.plain["mlp"], split, Run(device="cpu")))


def test_a_split_without_a_request_is_refused(method: Method, bench: Bench) -> None:
    """Nobody forgets nothing."""
    with pytest.raises(InputError, match="no request"):
        apply(method, Case(bench.plain["mlp"], Split.of(bench.data), Run(device="cpu")))


def test_is_declared_documented_and_validated(method: Method) -> None:
    """Every hyper-parameter is described, unknown ones are refused, and the object is frozen."""
    kind = type(method)
    assert set(kind.needs.targets) <= {"classes", "items"}
    assert kind.needs.targets
    assert "O(" in kind.cost
    assert kind.memory
    assert kind.source
    doc = inspect.getdoc(kind) or ""
    assert doc.split("\n\n")[0].endswith("."), "the docstring begins with a sentence, for the catalogue"
    assert "Source" in doc
    for field in _fields(kind):
        assert f"{field}:" in doc, f"{method.name}: {field} is not described under Attributes"
    assert set(method.reads()) <= set(kind.needs.reads)
    with pytest.raises(InputError, match="no hyper-parameter"):
        make(method.name, {**method.settings(), "no_such_setting": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1  # type: ignore[attr-defined]


def test_what_training_alone_reads_is_declared(method: Method) -> None:
    """As described under Attributes, so that forgetting neither takes nor searches it."""
    doc = inspect.getdoc(type(method)) or ""
    assert set(method.at_training) == {f for f in _fields(type(method)) if f"\n    {f}: Training: " in doc}
    assert not set(method.at_training) & set(type(method).space)


def test_settings_survive_json(method: Method) -> None:
    """A record's settings make the same method again."""
    assert make(method.name, json.loads(json.dumps(method.settings()))) == method


def test_its_search_space_is_made_of_its_fields_and_valid_at_both_ends(method: Method) -> None:
    """Where a search may look, settings are allowed."""
    for field, axis in type(method).space.items():
        low, high = (axis.choices[0], axis.choices[-1]) if axis.choices else (axis.low, axis.high)
        assert low != high
        if not axis.choices:
            assert axis.low < axis.high
            assert axis.low > 0 or not axis.log
        for value in (*axis.choices, low, high):
            assert make(method.name, {**method.settings(), field: value}).settings()[field] == value


def _fields(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]
