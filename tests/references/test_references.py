"""Reference ensembles: every way of training them gives the models that training one by one gives."""

from __future__ import annotations

import functools
import json
import shutil

import pytest
import torch
from torch import nn

import efface
from efface.artifact.artifact import Artifact, foreign_to_artifact
from efface.artifact.case import Case, given, split_under
from efface.artifact.record import weights_sha256
from efface.auditing.measures.u_lira import Role, by_role
from efface.auditing.settings import AuditSettings
from efface.data import Data, Split, load
from efface.data.samples import ArraySamples
from efface.errors import InputError, UnsupportedRequestError
from efface.methods.applying import apply
from efface.methods.retrain import Retrain
from efface.models.spec import ModelSpec
from efface.references import References, load_references, train_references
from efface.references.backends import chosen, side_by_side
from efface.references.jobs import Repeat, Retraining, Shadow
from efface.references.references import foreign_to_references
from efface.request import Request
from efface.running.engines import cores
from efface.running.run import Run
from efface.training.loop import fit
from efface.training.recipe import Recipe
from efface.training.side_by_side import Stack, fit_together, stackable
from tests.conftest import efface_command

RECIPE = Recipe(lr=0.1, epochs=4, batch_size=128)
MODEL = ModelSpec(build="mlp", arguments={"hidden": [16]})
REQUEST = Request(classes=(0,))
UNLEARNING = {"epochs": 1.0, "lr": 0.1}
QUICK = AuditSettings(few_draws=2, resamples=100, relearn_cap=5, probe_per_class=20, attack_samples=60)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def original(digits) -> Artifact:
    return efface.train(MODEL, digits, recipe=RECIPE, device="cpu")


@pytest.fixture(scope="module")
def split(digits, original) -> Split:
    return split_under(original.record, digits, REQUEST)


@pytest.fixture(scope="module")
def references(original, digits, tmp_path_factory) -> References:
    """Six references and three runs of fine-tuning, trained one by one."""
    return train_references(
        original, digits, REQUEST, 6, tmp_path_factory.mktemp("references") / "six", backend="serial", device="cpu",
        repeats=3, method="fine-tune", settings=UNLEARNING,
    )  # fmt: skip


def hashes(models) -> list[str]:
    return [weights_sha256(m.model.state_dict()) for m in models]


def pictures(classes: int = 4, n: int = 90) -> Data:
    """Small colour images whose class shows as a bright row."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = torch.rand(n, 3, 8, 8, generator=generator)
    x[torch.arange(n), :, y * 2] += 1
    samples = ArraySamples((x.clamp(max=2) * 100).to(torch.uint8), y)
    return Data("pictures", samples, samples, tuple("abcd"[:classes]))


def convolutional(dropout: float = 0.0) -> nn.Module:
    # No biases before BatchNorm: their gradient is rounding error, which Adam scales up to a full step.
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(144, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 4),
    )  # fmt: skip


# --- many models as one ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.05, epochs=2.5, batch_size=32, schedule="cosine", weight_decay=1e-3, nesterov=True),
        Recipe(optimiser="adamw", lr=0.01, epochs=2, batch_size=89, clip_norm=0.5, label_smoothing=0.1),
        Recipe(lr=0.05, epochs=2, batch_size=40, augment={"crop": 1, "flip": True}, schedule="step", milestones=(1,)),
    ],
    ids=["cosine", "clipped adamw, a last batch of one", "augmented"],
)
def test_training_side_by_side_equals_training_one_by_one(recipe):
    data = pictures()
    part = Split.of(data, None, 0.0).train
    seeds = (3, 4, 5)
    alone = [fit(_fresh(s), part, recipe, Run(seed=s, device="cpu"), stage="retrain") for s in seeds]
    together = [_fresh(s) for s in seeds]
    runs = [Run(seed=s, device="cpu") for s in seeds]
    fit_together(together, part, recipe, runs, stage="retrain")
    assert not torch.equal(together[0][0].weight, together[1][0].weight)
    for one, other in zip(alone, together, strict=True):
        assert not other.training
        for name, value in one.state_dict().items():
            # Batched sums round otherwise; a few dozen steps leave the two within about 1e-5 of each other.
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)
    losses = torch.tensor([[row["loss"] for row in r.history.of("retrain")] for r in runs])
    assert losses.isfinite().all()
    assert (losses[0] < 2).all()  # the mean over the models, not the sum


def _fresh(seed: int) -> nn.Module:
    model = Retrain.fresh(convolutional(), Run(seed=seed, device="cpu"))
    model[0].weight.requires_grad_(False)
    return model


def test_each_model_of_a_stack_has_its_own_running_statistics():
    models = [convolutional().train(), convolutional().train()]
    stack = Stack(models).train()
    x = (
        torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 9.0])[:, None, None, None, None]
    )
    expected = [model(inputs) for model, inputs in zip(models, x, strict=True)]
    torch.testing.assert_close(stack(x), torch.stack(expected), rtol=1e-4, atol=1e-5)
    copies = [convolutional(), convolutional()]
    stack.into(copies)
    for copy, model in zip(copies, models, strict=True):
        torch.testing.assert_close(copy[1].running_var, model[1].running_var)
        assert int(copy[1].num_batches_tracked) == 1
    assert not torch.allclose(copies[0][1].running_var, copies[1][1].running_var, rtol=0.5)


def test_dropout_differs_between_stacked_models_and_leaves_the_callers_randomness_alone():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 4)).train()
    x = torch.rand(1, 8, 3, 8, 8).expand(2, -1, -1, -1, -1)
    first, second = Stack([model, model]).train()(x)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    part = Split.of(pictures(), None, 0.0).train
    fit_together([model, model], part, RECIPE, [Run(seed=s, device="cpu") for s in (0, 1)])
    assert stackable(model, x[0]) == ""
    assert torch.equal(torch.get_rng_state(), state)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 4)

    def forward(self, x):
        x = x.flatten(1)
        return self.layer(x if x.sum() > 0 else -x)


def test_a_model_that_cannot_be_batched_is_trained_one_by_one_or_refused(tmp_path):
    data = pictures()
    verdict = stackable(Branching(), torch.rand(2, 3, 8, 8))
    assert "control flow" in verdict
    averaging = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192, momentum=None), nn.Linear(192, 4))
    assert "item()" in stackable(averaging, torch.rand(2, 3, 8, 8))
    with pytest.raises(InputError, match=r"side by side.*control flow"):
        train_references(Branching(), data, Request(classes=(0,)), 2, tmp_path / "x", backend="vmap", device="cpu")
    assert not (tmp_path / "x").exists()


def test_side_by_side_makes_ordinary_retrain_artifacts(original, split, references):
    jobs = [Retraining(k, s) for k, s in enumerate(references.manifest.series["reference"].seeds[:3])]
    made = list(side_by_side(jobs, original, split, Run(seed=1, device="cpu")))
    for (job, artifact), alone in zip(made, references, strict=False):
        assert artifact.record.seed == job.seed
        assert artifact.record.method == "retrain"
        assert "forget" not in artifact.record.seconds  # its time is no retraining's
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(artifact.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_reference_is_what_retraining_with_its_seed_gives(original, split, references):
    seeds = references.manifest.series["reference"].seeds
    assert len(set(seeds)) == 6
    by_hand = [apply(Retrain(), Case(original, split, Run(seed=s, device="cpu"))) for s in seeds[:2]]
    assert hashes(by_hand) == hashes(references)[:2]
    record = next(iter(references)).record
    assert (record.method, record.request, record.recipe) == ("retrain", REQUEST, RECIPE)
    assert record.seconds["forget"] > 0


def test_processes_give_the_very_same_models_and_share_the_data(original, digits, references, tmp_path):
    threads = torch.get_num_threads()
    made = train_references(original, digits, REQUEST, 3, tmp_path / "p", backend="processes", workers=2, device="cpu")
    assert torch.get_num_threads() == threads
    assert hashes(made) == hashes(references)[:3]
    first, second, _ = made
    assert set(first.record.seconds) == {"forget"}  # timed alone
    assert set(second.record.seconds) == {"side by side"}


def test_a_stopped_run_resumes_and_a_larger_one_adds(original, digits, references, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(references.folder, folder)
    before = {p.name: (p / "model.safetensors").stat().st_mtime_ns for p in folder.glob("reference-*")}
    shutil.rmtree(folder / "reference-003")
    assert len(load_references(folder)) == 5
    made = train_references(original, digits, REQUEST, 7, folder, backend="serial", device="cpu")
    after = {p.name: (p / "model.safetensors").stat().st_mtime_ns for p in folder.glob("reference-*")}
    assert {n for n in before if before[n] == after[n]} == set(before) - {"reference-003"}
    assert hashes(made)[:6] == hashes(references)
    assert len(made) == 7
    assert not list(folder.glob(".*part"))
    fewer = train_references(original, digits, REQUEST, 2, folder, backend="serial", device="cpu")
    assert len(fewer) == 7  # nothing is thrown away


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"request": Request(classes=(1,))}, "request"),
        ({"seed": 5}, "seed"),
        ({"recipe": {"epochs": 2}}, "recipe's epochs (4.0 instead of 2.0)"),
        ({"recipe": {"lr": 0.2}}, "recipe's lr"),
        ({"model": [12]}, r"model (mlp(hidden=[16]) instead of mlp(hidden=[12]))"),
        ({"data": {"test_fraction": 0.5}}, "data"),
    ],
)
def test_references_of_something_else_are_refused_by_name(original, digits, references, change, named):
    data = load("digits", **change["data"]) if "data" in change else digits
    other = original
    if {"recipe", "model", "data"} & set(change):
        spec = ModelSpec(build="mlp", arguments={"hidden": change.get("model", [16])})
        other = efface.train(spec, data, recipe=RECIPE.but(**change.get("recipe", {})), device="cpu")
    request = change.get("request", REQUEST)
    with pytest.raises(InputError) as error:
        train_references(other, data, request, 6, references.folder, seed=change.get("seed", 0), device="cpu")
    assert named in str(error.value)
    if "seed" not in change:
        with pytest.raises(InputError) as error:
            efface.audit(other, data, request, original=other, retrained=references, device="cpu")
        assert named in str(error.value)


def test_a_changed_or_exchanged_reference_is_refused(references, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(references.folder, folder)
    shutil.copy(folder / "reference-001" / "model.safetensors", folder / "reference-002")
    with pytest.raises(InputError, match="changed after writing"):
        list(load_references(folder))
    shutil.rmtree(folder / "reference-002")
    shutil.copytree(folder / "reference-001", folder / "reference-002")  # one model counted twice
    with pytest.raises(InputError, match=r"reference-002.*different: seed"):
        list(load_references(folder))


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 1}'])
def test_a_folder_that_holds_no_references(tmp_path, content):
    if content is not None:
        (tmp_path / "references.json").write_text(content)
    with pytest.raises(InputError, match=r"references\.json"):
        load_references(tmp_path)


def test_an_unfinished_folder_is_no_evidence(original, digits, references, tmp_path):
    shutil.copy(references.folder / "references.json", tmp_path)
    with pytest.raises(InputError, match="finished"):
        efface.audit(original, digits, REQUEST, original=original, retrained=load_references(tmp_path), device="cpu")


def test_a_model_handed_over_in_python_needs_a_module_of_its_architecture(digits, tmp_path):
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    settings = {"recipe": RECIPE.but(epochs=1), "validation": 0.0, "device": "cpu", "backend": "serial"}
    made = train_references(own, digits, REQUEST, 2, tmp_path / "own", **settings)
    assert len(hashes(made)) == 2
    with pytest.raises(InputError, match="architecture"):
        list(load_references(tmp_path / "own"))
    assert hashes(load_references(tmp_path / "own", own)) == hashes(made)


def test_references_of_another_architecture_than_a_bare_module_are_refused(digits, references):
    wider = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    settings = {"original": wider, "recipe": RECIPE, "validation": 0.1, "device": "cpu"}
    with pytest.raises(InputError, match="another architecture"):
        efface.audit(wider, digits, REQUEST, retrained=references, **settings)


# --- which backend --------------------------------------------------------------------------------------------------


def test_auto_chooses_by_size_and_by_what_can_be_sent(original, split):
    run, jobs = Run(device="cpu"), [Retraining(k, k) for k in range(4)]
    assert chosen("auto", jobs, original, split, run, 2) == "processes"
    assert chosen("auto", jobs, original, split, run, 1) == "serial"
    assert chosen("auto", jobs[:1], original, split, run, 2) == "serial"
    large = given(nn.Sequential(nn.Flatten(), nn.Linear(64, 40_000), nn.Linear(40_000, 10)), split, RECIPE, run)
    assert chosen("auto", jobs, large, split, run, 2) == "serial"
    unsendable = given(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), split, RECIPE, run)
    unsendable.model.note = lambda: None
    assert chosen("auto", jobs, unsendable, split, run, 2) == "serial"
    with pytest.raises(InputError, match="cannot be sent"):
        chosen("processes", jobs, unsendable, split, run, 2)
    with pytest.raises(InputError, match="'serial'"):
        chosen("seriel", jobs, original, split, run, 2)
    assert cores() >= 1


def test_ray_says_how_to_get_it(original, digits, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"efface\[ray\]"):
        train_references(original, digits, REQUEST, 2, tmp_path / "r", backend="ray", device="cpu")


@pytest.mark.slow
def test_ray_gives_the_very_same_models(original, digits, references, tmp_path):
    pytest.importorskip("ray")
    made = train_references(original, digits, REQUEST, 3, tmp_path / "r", backend="ray", workers=2, device="cpu")
    assert hashes(made) == hashes(references)[:3]
    assert set(list(made)[1].record.seconds) == {"side by side"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"n": 0}, "0 references"), ({"repeats": 2}, "name the method"), ({"workers": 0}, "workers")],
)
def test_numbers_that_make_no_sense(original, digits, tmp_path, changed, named):
    arguments = {"n": 2, "device": "cpu", **changed}
    with pytest.raises(InputError, match=named):
        train_references(original, digits, REQUEST, arguments.pop("n"), tmp_path / "x", **arguments)
    assert not (tmp_path / "x").exists()


# --- repeats and shadow models --------------------------------------------------------------------------------------


def test_references_and_repeats_reach_level_c_with_scores_of_the_method(original, digits, references):
    candidate = efface.forget(original, digits, REQUEST, method="fine-tune", settings=UNLEARNING, device="cpu")
    audit = efface.audit(candidate, digits, original=original, retrained=references, settings=QUICK, device="cpu")
    assert (audit.level, audit.references) == ("c", 6)
    for key in ("lira_auc", "quality", "klom_forget"):
        assert audit.row("fine-tune")[key].measured, audit.row("fine-tune")[key].why
    # Runs with other hyper-parameters say nothing about this one.
    assert references.unlearned("fine-tune", {**UNLEARNING, "lr": 0.2}) == []


def test_a_repeat_trains_with_the_data_and_then_forgets(references, digits):
    repeats = references.unlearned("fine-tune", UNLEARNING)
    assert [[s.action for s in r.record.chain] for r in repeats] == [["train", "forget"]] * 3
    assert len(set(hashes(repeats))) == 3
    trained = repeats[0].record.parent
    assert trained.request is None
    assert trained.weights_after == repeats[0].record.weights_before


def test_repeats_train_as_a_prepared_original_was_trained(digits, split):
    prepared = efface.train(MODEL, digits, method="mnemonic", recipe=RECIPE.but(epochs=1), device="cpu")
    made = Repeat(0, 7, "mnemonic").make(prepared, split, Run(seed=7, device="cpu"))
    assert [s.method for s in made.record.chain] == ["mnemonic", "mnemonic"]
    assert made.record.chain[0].settings == prepared.record.settings
    assert not torch.equal(next(made.model.parameters()), next(prepared.model.parameters()))


@pytest.mark.seconds
def test_repeats_of_a_method_that_trained_with_settings_of_its_own_are_found_by_the_audit(digits, tmp_path):
    recipe = RECIPE.but(epochs=1)
    prepared = efface.train(
        MODEL, digits, method="mnemonic", settings={"codes": "normal"}, recipe=recipe, device="cpu", progress=False
    )
    candidate = efface.forget(prepared, digits, REQUEST, method="mnemonic", device="cpu", progress=False)
    found = train_references(
        prepared, digits, REQUEST, 1, tmp_path / "r", method="mnemonic", repeats=2, device="cpu", backend="serial"
    )
    assert candidate.record.settings["codes"] == "normal"
    assert len(found.unlearned("mnemonic", candidate.record.settings)) == 2


def test_repeats_keep_what_the_original_kept(digits):
    kept = efface.train(MODEL, digits, recipe=RECIPE, keep=["class-means"], device="cpu")
    split = split_under(kept.record, digits, Request(classes=(0,)))
    made = Repeat(0, 5, "class-means").make(kept, split, Run(seed=5, device="cpu"))
    assert made.record.parent.kept == ("class-means",)
    assert made.record.kept == ("class-means",)


def test_shadow_models_are_dealt_in_thirds(original, digits, tmp_path):
    items = tuple(range(0, 60, 2))
    made = train_references(
        original, digits, Request(items=items), 1, tmp_path / "s", backend="serial", device="cpu",
        shadows=6, method="fine-tune", settings=UNLEARNING,
    )  # fmt: skip
    trained = set(split_under(original.record, digits, Request(items=items)).forget.indices.tolist())
    roles = torch.full((6, len(trained)), Role.IN, dtype=torch.int8)
    order = {item: column for column, item in enumerate(sorted(trained))}
    for k, shadow in enumerate(made.load("shadow-fine-tune")):
        out, unlearned = shadow.record.parent, shadow.record
        assert (out.method, unlearned.method) == ("retrain", "fine-tune")
        assert not set(out.request.items) & set(unlearned.request.items)
        for record, role in ((out, Role.OUT), (unlearned, Role.UNLEARNED)):
            for item in record.request.items:
                roles[k, order[item]] = role
        whole = Split.of(digits, unlearned.request, 0.1, RECIPE.seed, (out.request,))
        assert not set(whole.train.indices.tolist()) & set(out.request.items)
        assert set(whole.forget.indices.tolist()) == set(unlearned.request.items)
    for role in Role:
        assert by_role(torch.zeros(6, len(trained)), roles, role).shape == (2, len(trained))  # raises if not thirds


def labelled_at_random(n: int = 48) -> Data:
    """Inputs whose labels say nothing: a network can only learn them by heart, record by record."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2 * n, 40, generator=generator)
    y = torch.randint(2, (2 * n,), generator=generator)
    return Data("random labels", ArraySamples(x[:n], y[:n]), ArraySamples(x[n:], y[n:]), ("a", "b"))


@pytest.mark.parametrize(("method", "settings"), [("retrain", {}), ("fine-tune", {"lr": 0.0, "epochs": 1.0})])
def test_u_lira_on_shadow_models_tells_what_was_not_unlearned(method, settings, tmp_path):
    data, request = labelled_at_random(), Request(items=tuple(range(24)))
    recipe = Recipe(lr=0.02, optimiser="adam", weight_decay=0, epochs=40, batch_size=48)
    original = efface.train(ModelSpec(build="mlp", arguments={"hidden": [32]}), data, recipe=recipe, device="cpu")
    made = train_references(
        original, data, request, 1, tmp_path / "s", shadows=12, method=method, settings=settings, backend="serial",
        device="cpu",
    )  # fmt: skip
    candidate = efface.forget(original, data, request, method=method, settings=settings, device="cpu")

    def scores(artifact):
        audit = efface.audit(artifact, data, original=original, retrained=made, settings=QUICK, device="cpu")
        row = audit.row(method)
        return row["thirds_accuracy"], row["thirds_auc"]

    accuracy, auc = scores(candidate)
    assert "4 shadow models a side for each of" in auc.why
    assert auc.low < auc.value < auc.high or auc.low == auc.high
    assert accuracy.floor_low < 0.5 < accuracy.floor_high
    if method == "retrain":
        # 21 records x 8 verdicts on exchangeable models: a standard deviation of .04, more as records share models.
        assert abs(auc.value - 0.5) < 0.15
    else:
        assert auc.value > 0.8  # a step of size zero unlearns nothing
        assert accuracy.value > accuracy.floor_high
    shutil.rmtree(tmp_path / "s" / f"shadow-{method}-003")
    if method == "fine-tune":
        assert "3 shadow models a side" in scores(candidate)[1].why  # what is finished is used
        other = efface.forget(original, data, request, method=method, settings={"lr": 1e-5}, device="cpu")
        assert scores(other)[1].why == "no shadow models were given"  # these unlearned with other settings


def test_shadow_models_refuse_methods_that_cannot_forget_items(original, split):
    with pytest.raises(UnsupportedRequestError, match="logit-mask"):
        Shadow(0, 0, "logit-mask", out=(1,), unlearned=(2,)).check(original, split)
    with pytest.raises(InputError, match="thirds"):
        Shadow(0, 0, "fine-tune", out=(), unlearned=(2,)).check(original, split)


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.seconds
def test_the_command_line_trains_references_and_audits_with_them(trained_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("efface.verbs.audit.audit", functools.partial(efface.audit, settings=QUICK))
    folder = tmp_path / "references"
    command = ("train", "--from", trained_folder, "--references", "4", "--classes", "0", "--out", folder, "-q")
    answer = efface_command(*command, "--json")
    assert answer.status == 0, answer.stderr
    assert len(json.loads(answer.stdout)["manifest"]["series"]["reference"]["seeds"]) == 4
    again = efface_command(*command)
    assert "reference: 4 models" in again.stdout
    out = tmp_path / "forgotten"
    assert efface_command("forget", trained_folder, "-m", "mnemonic", "--classes", "0", "--out", out, "-q").status == 0
    answer = efface_command("audit", out, "--original", trained_folder, "--references", folder, "--json", "-q")
    assert answer.status == 0, answer.stderr
    assert json.loads(answer.stdout)["level"] == "c"
    assert foreign_to_references(folder) == [".lock"]  # which `check_vacant` lets pass in any folder
    assert foreign_to_artifact(out) == []
    assert set(foreign_to_references(out)) == {p.name for p in out.iterdir()}
    assert set(foreign_to_artifact(folder)) == {p.name for p in folder.iterdir()}


@pytest.mark.parametrize("named", ["notes.txt", "reference-000/notes.txt", "reference-00", "answers"])
def test_what_efface_did_not_write_among_references_is_not_overwritten(references, tmp_path, trained_folder, named):
    folder = tmp_path / "references"
    shutil.copytree(references.folder, folder, ignore=shutil.ignore_patterns("answers"))
    (folder / named).write_text("mine")
    before = contents(folder)
    command = ("train", "--from", trained_folder, "--references", "2", "--classes", "0", "--overwrite", "-q")
    answer = efface_command(*command, "--out", folder)
    assert answer.status == 2
    assert named in answer.stderr
    assert contents(folder) == before


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("source", "arguments", "named"),
    [
        ("nowhere", ("--classes", "0"), "nowhere"),
        (None, ("--classes", "77"), "77"),
        (None, ("--classes", "0,1,2,3,4,5,6,7,8,9"), "every class"),
        (None, ("--classes", "0", "--backend", "quick"), "quick"),
        (None, ("--classes", "0", "--repeats", "2"), "method"),
    ],
)
def test_overwriting_checks_everything_before_it_removes_anything(references, trained_folder, source, arguments, named):
    before = contents(references.folder)
    start = trained_folder if source is None else references.folder.parent / source
    answer = efface_command(
        "train", "--from", start, "--references", "2", *arguments, "--out", references.folder, "--overwrite", "-q"
    )
    assert answer.status == 2
    assert named in answer.stderr
    assert {k: v for k, v in contents(references.folder).items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }
    assert not list(references.folder.parent.glob(".*"))


def test_what_a_kill_during_the_first_write_left_is_no_hindrance(trained_folder, tmp_path):
    command = ("train", "--from", trained_folder, "--references", "1", "--classes", "0", "--backend", "serial", "-q")
    for flag in ((), ("--overwrite",)):
        out = tmp_path / f"references{len(flag)}"
        draft = out / ".reference-000.abcd1234.efface-part"
        draft.mkdir(parents=True)
        (draft / "model.safetensors").touch()
        answer = efface_command(*command, "--out", out, *flag)
        assert answer.status == 0, answer.stderr
        assert {p.name for p in out.iterdir()} <= {".lock", "references.json", "reference-000"}


def test_a_complete_folder_is_used_though_it_cannot_be_written_to(original, digits, references, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    before = contents(references.folder)
    settings = {"repeats": 3, "method": "fine-tune", "settings": UNLEARNING, "device": "cpu", "backend": "serial"}
    found = train_references(original, digits, REQUEST, 6, references.folder, **settings)
    assert hashes(found) == hashes(references)
    assert contents(references.folder) == before
    with pytest.raises(InputError, match="cannot be written to, and these are not in it: reference-006"):
        train_references(original, digits, REQUEST, 7, references.folder, **settings)
    with pytest.raises(InputError, match="derive from seed"):
        train_references(original, digits, REQUEST, 6, references.folder, seed=9, device="cpu", backend="serial")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--classes", "0"), "--references"),
        (("--references", "4"), "--classes"),
        (("--references", "4", "--classes", "0", "--recipe-set", "epochs=1"), "--from"),
        (("--references", "4", "--classes", "77"), "77"),
        (("--references", "4", "--classes", "0", "--backend", "quick"), "quick"),
    ],
)
def test_the_command_line_says_what_references_need(trained_folder, tmp_path, arguments, named):
    answer = efface_command("train", "--from", trained_folder, *arguments, "--out", tmp_path / "x", "-q")
    assert answer.status == 2
    assert named in answer.stderr
    assert not (tmp_path / "x").exists()
