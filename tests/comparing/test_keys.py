"""Digests of cells: they change with everything that a result depends on, and with nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from efface.comparing.keys import Keys, content_of, method_source
from efface.comparing.plan import Plan
from efface.data import ArraySamples, Data
from efface.methods.retrain import Retrain
from efface.models.spec import ModelSpec, build

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


def test_a_methods_source_is_its_file_and_what_it_stands_on(tmp_path, monkeypatch):
    """A changed file of the method, or of a mechanism that it imports, is another source; of another method, not."""
    import efface.comparing.keys as room

    real = room.importlib.util.find_spec
    changed: dict[str, str] = {}

    def found(name):
        spec = real(name)
        if name in changed and spec is not None:
            spec.origin = changed[name]
        return spec

    monkeypatch.setattr(room.importlib.util, "find_spec", found)

    def with_change(module):
        copy = tmp_path / f"{module}.py"
        with open(real(module).origin) as file:  # noqa: PTH123
            copy.write_text(file.read() + "\n# changed\n")
        changed.clear()
        changed[module] = str(copy)
        method_source.cache_clear()
        return method_source("ssd"), method_source(Retrain.name)

    method_source.cache_clear()
    before = method_source("ssd"), method_source(Retrain.name)
    ssd = with_change("efface.methods.ssd")
    assert (ssd[0] != before[0], ssd[1] == before[1]) == (True, True)
    for shared in ("efface.mechanisms.dampening", "efface.curvature.fisher"):  # what it imports, and what that imports
        assert with_change(shared)[0] != before[0]
        assert with_change(shared)[1] == before[1]
    method_source.cache_clear()
