"""Digests of cells: they change with everything that a result depends on, and with nothing else."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from efface.comparing.keys import RESULTS, Keys, _digest, _with_imports, content_of, method_source
from efface.comparing.plan import Plan
from efface.data import ArraySamples, Data
from efface.errors import InputError
from efface.methods.catalogue import _registered
from efface.methods.retrain import Retrain
from efface.methods.ssd import SSD
from efface.models.spec import ModelSpec, build
from efface.request import ABOUT

PLAN = {
    "name": "keys",
    "data": {"source": "digits"},
    "model": {"build": "mlp", "arguments": {"hidden": [16]}},
    "recipe": {"epochs": 4},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "seeds": [0, 1],
    "methods": [{"method": "original"}, {"method": "ssd", "grid": {"alpha": [5, 10]}}],
}


def keys(plan: dict = PLAN, data: str = "abc") -> list[str]:
    made = Plan.model_validate(plan)
    return [Keys(made, data).cell(c) for c in made.cells()]


def test_cells_differ_and_words_do_not_matter():
    assert len(set(keys())) == 12
    named = {"methods": [PLAN["methods"][0], {**PLAN["methods"][1], "label": "its name"}]}
    assert keys({**PLAN, "name": "other", "about": "words", **named}) == keys()
    reason = [{**r, "reason": "she asked"} for r in PLAN["requests"]]
    assert keys({**PLAN, "requests": reason}) == keys()


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"epochs": 5}},
        {"model": {"build": "mlp", "arguments": {"hidden": [17]}}},
        {"measures": ["accuracy"]},
        {"sampled": 10},
        {"train": {"method": "mnemonic"}},
        {"train": {"method": "mnemonic", "fine_tune": {"epochs": 4}}},
        {"data": {"source": "digits", "validation": 0.2}},
        {"measures": ["audit"], "references": 4},
        {"measures": ["audit"], "references": 4, "audit": {"relearn_cap": 5}},
    ],
)
def test_they_change_with_the_plan(change):
    assert not set(keys()) & set(keys({**PLAN, **change}))


def test_they_change_with_the_data_and_not_with_where_it_lies():
    assert not set(keys()) & set(keys(data="abd"))
    assert keys({**PLAN, "data": {"source": "digits", "path": "elsewhere"}}) == keys()


def test_the_datas_content_is_more_than_its_samples_where_requests_read_more():
    samples = ArraySamples(torch.arange(6.0)[:, None], np.arange(6) % 2)

    def content(**columns) -> str:
        return content_of(Data("six", samples, samples, ("even", "odd"), **columns))

    plain, groups = content(), np.array(list("aabbcc"))
    assert plain == Data("six", samples, samples, ("even", "odd")).fingerprint
    found = [plain, content(groups=groups), content(groups=groups[::-1].copy()), content(metadata={"groups": groups})]
    found += [content(ids=np.array(list("abcdef"))), content(metadata={"year": np.arange(6)})]
    assert len(set(found)) == 6
    assert content(groups=groups) == content(groups=groups.copy())


class Lazy(ArraySamples):
    """Samples in files whose bytes the fingerprint does not know, as those of a large folder of images."""

    files = ()


def test_pictures_that_are_read_lazily_count_with_their_bytes(tmp_path):
    samples = Lazy(torch.arange(6.0)[:, None], np.arange(6) % 2)
    samples.files = [tmp_path / "cat.bmp"]
    data, found = Data("six", samples, samples, ("even", "odd")), set()
    for pixels in (b"one", b"two", b"one"):
        samples.files[0].write_bytes(pixels)
        found.add(content_of(data))
    assert len(found) == 2


def test_they_change_with_the_content_of_given_weights(tmp_path):
    file = tmp_path / "w.safetensors"

    def written(seed):
        model = build(ModelSpec(**PLAN["model"]), input_shape=(1, 8, 8), num_classes=10, seed=seed)
        save_file(model.state_dict(), file)
        return keys({**PLAN, "model": {**PLAN["model"], "weights": str(file)}})

    first = written(0)
    assert written(0) == first
    assert not set(written(1)) & set(first)


def test_they_change_with_the_results_version(monkeypatch):
    before = keys()
    monkeypatch.setattr("efface.comparing.keys.RESULTS", 99)
    assert not set(keys()) & set(before)


def test_a_methods_source_is_its_file_and_what_it_stands_on():
    """Its own file, a mechanism that it imports and what that imports; of another method, none."""
    ssd, retrain = (
        {".".join(p.with_suffix("").parts[-2:]) for p in _with_imports(kind.__module__, {})} for kind in (SSD, Retrain)
    )
    own = {"methods.ssd", "mechanisms.dampening", "curvature.fisher"}
    assert own <= ssd
    assert not own & retrain
    assert "methods.retrain" in retrain - ssd
    assert len({method_source(name) for name in ("ssd", "retrain", "salun")}) == 3


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package of the user's own, `my_keys`, whose files can be rewritten: a builder, a measure and a method."""
    folder = tmp_path / "my_keys"
    folder.mkdir()

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)

    write("__init__", "")
    write("nets", "def build(classes=10):\n    raise NotImplementedError\n")
    write("metric", 'def metric(model, case):\n    """Nothing."""\n    return 0.0\n')
    write("deeper", "STEPS = 1\n")
    write("method", METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in [n for n in sys.modules if n.partition(".")[0] == "my_keys"]:
        del sys.modules[name]


METHOD = """
import torch
from my_keys.deeper import STEPS
from efface.methods.retrain import Retrain
from efface.methods.ssd import SSD
from efface.mechanisms.relabelling import Relabelled


class Mine(Retrain):
    name = "mine-of-keys"
"""


def one(**change) -> str:
    plan = {**PLAN, "requests": [{"classes": [0]}], "seeds": [0], "methods": [{"method": "original"}], **change}
    (key,) = keys(plan)
    return key


def test_a_builder_or_a_measure_of_ones_own_counts_with_its_file(mine):
    for change, file, text in (
        ({"model": {"build": "my_keys.nets:build"}}, "nets", "def build(classes=11):\n    pass\n"),
        ({"measures": ["accuracy", "my_keys.metric:metric"]}, "metric", "def metric(model, case):\n    return 1.0\n"),
    ):
        before = one(**change)
        mine("deeper", "STEPS = 5\n")  # another file of the package is none of its own
        assert one(**change) == before
        mine(file, text)
        assert one(**change) != before
    assert one(measures=["accuracy", "my_keys.metric:metric"]) != one()


def test_a_preparation_counts_with_its_source_and_its_settings(monkeypatch):
    prepared = one(train={"method": "mnemonic"})
    assert one(train={"method": "mnemonic", "settings": {"t_mix": 0.5}}) != prepared
    monkeypatch.setattr("efface.comparing.keys.method_source", lambda name: f"changed {name}")
    assert one(train={"method": "mnemonic"}) != prepared


def test_the_key_of_references_is_the_originals_and_the_requests_and_retrainings(monkeypatch):
    made = Plan.model_validate(PLAN)
    room = Keys(made, "abc")
    found = [room.references(c) for c in made.cells()]
    assert len(set(found)) == 4  # of two seeds and two requests, whatever the method
    assert not set(found) & set(keys())
    reason = Plan.model_validate({**PLAN, "requests": [{**r, "reason": "she asked"} for r in PLAN["requests"]]})
    assert {Keys(reason, "abc").references(c) for c in reason.cells()} == set(found)
    monkeypatch.setattr("efface.comparing.keys.method_source", lambda name: f"changed {name}")
    assert not {Keys(made, "abc").references(c) for c in made.cells()} & set(found)


def test_only_what_retrains_counts_with_the_source_of_retraining(monkeypatch):
    """A method does, for the row of retraining for as long; the original does where references are asked for."""
    asked = []
    monkeypatch.setattr("efface.comparing.keys.method_source", lambda name: asked.append(name) or name)
    one()
    assert asked == []
    one(measures=["audit"], references=4)
    assert asked == ["retrain"]
    asked.clear()
    one(methods=[{"method": "ssd"}])
    assert sorted(asked) == ["retrain", "ssd"]


@pytest.fixture
def source(mine, monkeypatch):
    """The source of the package's method, as a process that has just been started finds it."""

    def found() -> str:
        kind = type("Mine", (Retrain,), {"__module__": "my_keys.method", "name": "mine"})
        monkeypatch.setitem(_registered, "mine", kind)
        return method_source("mine")

    return found


def test_a_method_of_ones_own_counts_with_the_files_of_its_package_and_of_ours(mine, source):
    """The files are read, not run."""
    before = source()
    assert source() == before
    assert len(before) == 64
    files = {p.name for p in _with_imports("my_keys.method", {})}
    assert {"method.py", "deeper.py", "retrain.py", "relabelling.py"} <= files
    assert not {"errors.py", "run.py", "__init__.py"} & {p.name for p in _with_imports("efface.methods.retrain", {})}
    mine("metric", "unused = 1\n")
    assert source() == before
    mine("deeper", "STEPS = 9\n")
    assert source() != before


@pytest.mark.parametrize(
    "line",
    ["from .deeper import STEPS", "from . import deeper", "from my_keys import deeper", "from my_keys.deeper import *"],
)
def test_files_count_however_they_are_imported(line, mine, source):
    mine("method", METHOD.replace("from my_keys.deeper import STEPS", line))
    before = source()
    mine("deeper", "STEPS = 9\n")
    assert source() != before


def test_a_method_typed_into_a_notebook_counts_with_its_text_of_today(monkeypatch):
    found = []
    for text in ("class Typed(Retrain): ...", "class Typed(Retrain): steps = 2"):
        kind = type("Typed", (Retrain,), {"__module__": "__main__", "name": "typed"})
        monkeypatch.setitem(_registered, "typed", kind)
        monkeypatch.setattr("efface.comparing.keys.inspect.getsource", lambda kind, text=text: text)
        found.append(method_source("typed"))
        assert found[-1] == hashlib.sha256(text.encode()).hexdigest()
    assert found[0] != found[1]


def test_a_method_whose_text_is_not_to_be_found_is_refused(monkeypatch):
    kind = type("Typed", (Retrain,), {"__module__": "__main__", "name": "typed"})
    monkeypatch.setitem(_registered, "typed", kind)
    with pytest.raises(InputError, match="the source of Typed is not to be found, so that its finished cells"):
        method_source("typed")


def test_weights_that_are_not_there_are_no_others(tmp_path):
    first, second = ({"model": {**PLAN["model"], "weights": str(tmp_path / name)}} for name in ("a", "b"))
    assert one(**first) != one(**second)
    assert one(**first) == one(**first) != one()


# --- what is digested, by name: another name would throw away every cell that was kept before -----------------------


@pytest.fixture
def undigested(monkeypatch):
    """Contents in place of digests; sources are named, not read."""
    monkeypatch.setattr("efface.comparing.keys._digest", dict)
    monkeypatch.setattr("efface.comparing.keys.method_source", lambda name: f"source of {name}")
    monkeypatch.setattr("efface.comparing.keys._module", lambda build: f"file of {build}")


def contents(kind: str = "cell", **change):
    made = Plan.model_validate({**PLAN, "requests": [{"classes": [3]}], "seeds": [1], **change})
    cell = made.cells()[-1]
    return made, cell, getattr(Keys(made, "abc"), kind)(cell)


@pytest.mark.parametrize("prepared", [False, True])
def test_what_an_original_depends_on(undigested, tmp_path, prepared):
    weights = tmp_path / "w"
    weights.write_bytes(b"the weights")
    more = {
        "model": {"build": "my.nets:build", "weights": str(weights)},
        "train": {"method": "mnemonic", "fine_tune": {"epochs": 2}},
    }
    plan, cell, found = contents("original", **(more if prepared else {}))
    expected = {
        "model": plan.model.model_dump(mode="json"),
        "recipe": plan.recipe.model_dump(mode="json"),
        "train": cell.train.model_dump(mode="json", exclude=None if prepared else {"fine_tune"}),
        "seed": 1,
        "data": "abc",
        "validation": plan.data.validation,
        "results": RESULTS,
    }
    if prepared:
        expected |= {
            "weights": hashlib.sha256(b"the weights").hexdigest(),
            "builder": "file of my.nets:build",
            "preparation": "source of mnemonic",
        }
    assert found == expected


def test_what_references_depend_on(undigested):
    plan, cell, found = contents("references")
    asked = cell.request.model_dump(mode="json", exclude=set(ABOUT))
    assert found == {"original": Keys(plan, "abc").original(cell), "request": asked, "source": "source of retrain"}
    assert asked["classes"] == [3]


def test_what_a_cell_depends_on(undigested):
    plan, cell, found = contents(measures=["accuracy", "my.metric:metric"], sampled=7)
    assert found == {
        "measures": ["accuracy", "my.metric:metric"],
        "sampled": 7,
        "references": plan.references,
        "audit": plan.audit.model_dump(mode="json"),
        "method": "ssd",
        "settings": {"alpha": 10},
        "original": Keys(plan, "abc").original(cell),
        "request": cell.request.model_dump(mode="json", exclude=set(ABOUT)),
        "own measures": {"my.metric:metric": "file of my.metric:metric"},
        "source": "source of ssd",
        "retraining": "source of retrain",
    }
    *_, found = contents(methods=[{"method": "original"}])
    assert not {"own measures", "source", "retraining"} & set(found)


def test_a_digest_is_that_of_sorted_json():
    expected = hashlib.sha256(b'{"a": [1, "x"], "b": null}').hexdigest()[:24]
    assert _digest({"b": None, "a": [1, "x"]}) == _digest({"a": [1, "x"], "b": None}) == expected


def test_columns_of_the_data_are_digested_by_name_and_in_order(tmp_path):
    samples = Lazy(torch.arange(4.0)[:, None], np.arange(4) % 2)
    (tmp_path / "file").write_bytes(b"pixels")
    samples.files = [tmp_path / "file"]
    letters = np.array(list("abcd"))
    data = Data(
        "four", samples, ArraySamples(torch.arange(2.0)[:, None], np.arange(2)), ("even", "odd"),
        groups=letters, ids=letters[::-1].copy(), test_groups=letters[:2],
        metadata={"year": np.arange(4), "day": letters},
    )  # fmt: skip
    parts = [
        data.fingerprint, '["groups", ["a", "b", "c", "d"]]', '["ids", ["d", "c", "b", "a"]]',
        '["test groups", ["a", "b"]]', '["metadata day", ["a", "b", "c", "d"]]',
        '["metadata year", ["0", "1", "2", "3"]]', hashlib.sha256(b"pixels").hexdigest(),
    ]  # fmt: skip
    assert content_of(data) == hashlib.sha256("".join(parts).encode()).hexdigest()
