"""The flow of training references: what is dealt, which backend makes what, and what is left alone."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from efface.artifact.artifact import RECORD, Artifact
from efface.artifact.case import Case
from efface.auditing.measures.u_lira import Role
from efface.data import Data, Split, load
from efface.errors import InputError
from efface.references import train as module
from efface.references.jobs import Repeat, Retraining
from efface.references.manifest import MANIFEST, Manifest, grown, write_manifest
from efface.request import Request
from efface.running.progress import Progress
from efface.running.run import Run
from efface.training.recipe import Recipe


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def case(digits) -> Case:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    recipe = Recipe(epochs=1)
    with pytest.warns(UserWarning, match="the model as given gets"):
        return Case.of(model, digits, Request(classes=(0,)), recipe=recipe, device="cpu")


# --- shadow models' roles -------------------------------------------------------------------------------------------


def test_every_record_is_out_of_a_third_and_unlearned_by_another(digits):
    split = Split.of(digits, Request(items=tuple(range(0, 60, 2))))
    dealt = list(module._dealt(split, 6, Run(seed=1, device="cpu")))
    items = split.forget.indices.tolist()
    roles = np.array([[2 * (i in unlearned) + (i in out) for i in items] for out, unlearned in dealt])
    assert roles.shape == (6, len(items))
    for role in (0, int(Role.OUT), 2):  # never both
        assert ((roles == role).sum(0) == 2).all()
    assert dealt == list(module._dealt(split, 6, Run(seed=1, device="cpu")))
    assert dealt != list(module._dealt(split, 6, Run(seed=2, device="cpu")))
    assert all(isinstance(i, int) for out, unlearned in dealt for i in (*out, *unlearned))
    assert list(module._dealt(split, 0, Run(device="cpu"))) == []


def test_what_becomes_of_a_record_becomes_of_its_canaries():
    """Records 3 and 5 have copies 100 and 101; of 7 the copy is not asked for, of 102 the record is not."""
    canaries = SimpleNamespace(positions=np.array([100, 101, 102, 103]), sources=np.array([3, 5, 8, 7]))
    split = SimpleNamespace(
        forget=SimpleNamespace(indices=np.array([3, 5, 7, 100, 101, 102])), data=SimpleNamespace(canaries=canaries)
    )
    roles = {i: [] for i in split.forget.indices.tolist()}
    for out, unlearned in module._dealt(split, 9, Run(seed=3, device="cpu")):
        for i in roles:
            roles[i].append((i in out, i in unlearned))
    assert (roles[100], roles[101]) == (roles[3], roles[5])
    assert roles[3] != roles[5]
    assert roles[102] not in (roles[3], roles[5])


# --- the jobs -------------------------------------------------------------------------------------------------------


def test_jobs_are_series_with_seeds_of_their_own(case):
    from efface.methods.catalogue import method_of

    jobs = module._jobs(case, 2, 3, 0, method_of("fine-tune", {"lr": 0.5}))
    assert list(jobs) == ["reference", "unlearned-fine-tune"]
    assert [(j.number, j.seed) for j in jobs["reference"]] == [(k, case.run.number(f"reference {k}")) for k in (0, 1)]
    repeats = jobs["unlearned-fine-tune"]
    assert [(j.number, j.seed) for j in repeats] == [(k, case.run.number(f"repeat {k}")) for k in (0, 1, 2)]
    assert {(j.method, j.settings["lr"]) for j in repeats} == {("fine-tune", 0.5)}
    assert list(module._jobs(case, 1, 0, 0, None)) == ["reference"]
    for repeats_, shadows in ((1, 0), (0, 3)):
        with pytest.raises(InputError, match="repeats and shadow models unlearn; name the method"):
            module._jobs(case, 1, repeats_, shadows, None)


def test_shadow_models_have_their_records_and_seeds(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    from efface.methods.catalogue import method_of

    with pytest.warns(UserWarning, match="the model as given gets"):
        of_items = Case.of(model, digits, Request(items=tuple(range(12))), recipe=Recipe(epochs=1), device="cpu")
    shadows = module._jobs(of_items, 1, 0, 3, method_of("fine-tune", None))["shadow-fine-tune"]
    assert [j.seed for j in shadows] == [of_items.run.number(f"shadow {k}") for k in range(3)]
    dealt = list(module._dealt(of_items.split, 3, of_items.run))
    assert [(j.out, j.unlearned) for j in shadows] == dealt


# --- filling a folder -----------------------------------------------------------------------------------------------


class Filled:
    """What each backend was asked to make, in order; everything it makes is "saved" as an empty record."""

    def __init__(self, monkeypatch, folder: Path, seconds: float = 1.0) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.labels: list[tuple[str, int]] = []
        for name in ("one_by_one", "side_by_side", "processes", "over_ray"):
            monkeypatch.setattr(module, name, self.making(name))
        monkeypatch.setattr(module, "_seconds_of_one", lambda _: seconds)

    def making(self, name):
        def make(jobs, original, split, run, *more):
            self.calls.append((name, [j.folder for j in jobs]))
            return [(job, SimpleNamespace(save=self.save) if name != "processes" else None) for job in jobs]

        return make

    @staticmethod
    def save(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / RECORD).write_text("{}")


@pytest.mark.parametrize(
    ("how", "asked", "seconds", "calls"),
    [
        ("serial", "auto", 1.0, [("one_by_one", ["000", "001", "002"])]),
        ("vmap", "auto", 1.0, [("one_by_one", ["000"]), ("side_by_side", ["001", "002"])]),
        ("ray", "ray", 1.0, [("one_by_one", ["000"]), ("over_ray", ["001", "002"])]),
        # Two models of 7 s are not worth two processes that import torch; two of 7.5 s are.
        ("processes", "auto", 7.0, [("one_by_one", ["000"]), ("one_by_one", ["001", "002"])]),
        ("processes", "auto", 7.5, [("one_by_one", ["000"]), ("processes", ["001", "002"])]),
        ("processes", "processes", 1.0, [("one_by_one", ["000"]), ("processes", ["001", "002"])]),
    ],
)
def test_the_first_reference_is_made_alone_and_the_others_as_is_quickest(
    how, asked, seconds, calls, case, tmp_path, monkeypatch
):
    made = Filled(monkeypatch, tmp_path, seconds)
    jobs = {"reference": [Retraining(k, k) for k in range(3)]}
    module._fill(tmp_path, jobs, {"reference": how}, asked, 2, case)
    assert [(name, [f.removeprefix("reference-") for f in folders]) for name, folders in made.calls] == calls
    if how == "serial":
        assert sorted(p.name for p in tmp_path.iterdir()) == ["reference-000", "reference-001", "reference-002"]
        made.calls.clear()
        module._fill(tmp_path, jobs, {"reference": how}, asked, 2, case)
        assert made.calls == []  # nothing is made again


def test_it_is_shown_what_is_made_and_how_many(case, tmp_path, monkeypatch):
    class Shown(Progress):
        def track(self, items, label, total):
            tracked.append((label, total))
            return items

    Filled(monkeypatch, tmp_path)
    tracked = []
    seen = Case(case.original, case.split, Run(device="cpu", progress=Shown()))
    jobs = {"reference": [Retraining(k, k) for k in range(3)], "unlearned-x": [Repeat(k, k, "x") for k in range(2)]}
    module._fill(tmp_path, jobs, {"reference": "vmap", "unlearned-x": "serial"}, "auto", 2, seen)
    assert tracked == [
        ("first reference, timed alone", 1),
        ("reference (2 models, vmap)", 2),
        ("unlearned-x (2 models, serial)", 2),
    ]


def test_what_is_there_is_not_made_again_and_repeats_need_no_first(case, tmp_path, monkeypatch):
    made = Filled(monkeypatch, tmp_path)
    Filled.save(tmp_path / "reference-000")
    jobs = {"reference": [Retraining(k, k) for k in range(3)], "unlearned-x": [Repeat(k, k, "x") for k in range(2)]}
    how = {"reference": "ray", "unlearned-x": "ray"}
    module._fill(tmp_path, jobs, how, "ray", 2, case)
    assert made.calls == [
        ("over_ray", ["reference-001", "reference-002"]),
        ("over_ray", ["unlearned-x-000", "unlearned-x-001"]),
    ]


def test_the_time_of_one_is_that_of_the_first_reference(case, tmp_path, monkeypatch):
    assert module._seconds_of_one(tmp_path) == float("inf")
    Filled.save(tmp_path / "reference-000")
    for seconds, expected in (({"forget": 2.5}, 2.5), ({"side by side": 1.0}, float("inf"))):
        monkeypatch.setattr(Artifact, "read_record", lambda _, s=seconds: SimpleNamespace(seconds=s))
        assert module._seconds_of_one(tmp_path) == expected


def test_a_folder_of_something_else_is_left_alone(case, tmp_path):
    empty = Manifest.of(case.original.record, case.split, case.run.seed)
    assert module._manifest(tmp_path / "new", case) == empty
    for name in (".lock", ".reference-000.abcd1234.efface-part"):  # of a run that was killed before it had begun
        (tmp_path / name).touch()
    assert module._manifest(tmp_path, case) == empty
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="exists"):
        module._manifest(tmp_path, case)
    jobs = {"reference": [Retraining(0, 1)]}
    (tmp_path / "notes.txt").unlink()
    write_manifest(tmp_path, grown(empty, jobs, tmp_path))
    assert (tmp_path / MANIFEST).is_file()
    assert module._manifest(tmp_path, case).series["reference"].seeds == (1,)
    other = Case(case.original, case.split, Run(seed=case.run.seed + 1, device="cpu"))
    with pytest.raises(InputError, match=rf"derive from seed {case.run.seed}, not {case.run.seed + 1}; choose another"):
        module._manifest(tmp_path, other)


def test_what_lies_where_nothing_can_be_written_is_used_if_it_is_all_there(case, tmp_path, monkeypatch):
    folder, jobs = tmp_path / "there", {"reference": [Retraining(k, k) for k in range(2)]}
    assert module._unfinished(folder, jobs, case)
    folder.mkdir()
    asked = []
    monkeypatch.setattr(os, "access", lambda *given: asked.append(given) or allowed)
    allowed = True
    assert module._unfinished(folder, jobs, case)
    assert asked == [(folder, os.W_OK | os.X_OK)]
    allowed = False
    with pytest.raises(InputError) as error:
        module._unfinished(folder, jobs, case)
    assert str(error.value) == (
        f"{folder} cannot be written to, and these are not in it: reference-000, reference-001; choose another folder, "
        "or ask for fewer"
    )
    manifest = Manifest.of(case.original.record, case.split, case.run.seed)
    for job in jobs["reference"]:
        Filled.save(folder / job.folder)
    write_manifest(folder, manifest)
    with pytest.raises(InputError, match=r"not in it: the jobs asked for; choose"):
        module._unfinished(folder, jobs, case)
    write_manifest(folder, grown(manifest, jobs, folder))
    assert module._unfinished(folder, jobs, case) is False
    assert module._unfinished(folder, {"reference": jobs["reference"][:1]}, case) is False


@pytest.mark.parametrize(
    "asked", [{"n": 0}, {"n": 1, "repeats": -1, "method": "fine-tune"}, {"n": 1, "workers": 0}], ids=str
)
def test_numbers_below_what_can_be_done_are_refused(asked, case, digits, tmp_path):
    options = {"recipe": Recipe(epochs=1), "device": "cpu"} | asked
    with (
        pytest.warns(UserWarning, match="the model as given"),
        pytest.raises(InputError, match="needed: at least 1, 0 and 1"),
    ):
        module.train_references(
            case.original.model, digits, Request(classes=(0,)), options.pop("n"), tmp_path / "x", **options
        )
    assert not (tmp_path / "x").exists()


def test_only_what_retrains_plainly_is_batched(case, digits, tmp_path, monkeypatch):
    """Asked for `vmap`, references are; what unlearns beside them is made as `auto` would."""
    asked = {}

    def choose(backend, listed, original, split, run, workers):
        asked[listed[0].series] = backend, len(listed), workers, original.memory, original.parent
        return "serial"

    made = Filled(monkeypatch, tmp_path)
    monkeypatch.setattr(module, "chosen", choose)
    monkeypatch.setattr(module, "cores", lambda: 7)
    options = {"recipe": Recipe(epochs=1), "device": "cpu", "repeats": 2, "method": "fine-tune", "backend": "vmap"}
    options |= {"seed": 11}
    with pytest.warns(UserWarning, match="the model as given"):
        found = module.train_references(
            case.original.model, digits, Request(classes=(0,)), 2, tmp_path / "x", **options
        )
    assert asked == {"reference": ("vmap", 2, 7, {}, None), "unlearned-fine-tune": ("auto", 2, 7, {}, None)}
    assert [name for name, _ in made.calls] == ["one_by_one", "one_by_one"]
    assert len(found) == 2
    assert found.manifest.seed == case.run.seed + 11
    assert (found.trust, found.like is not None) == (True, True)
    assert torch.equal(found.like[1].weight, case.original.model[1].weight)
