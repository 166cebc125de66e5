"""The subcommand `audit`."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from efface.auditing.sealed import SEED
from tests.conftest import efface_command


@pytest.mark.seconds
def test_sealed_asks_more_and_draws_from_other_seeds_which_verify_takes_up(trained_folder, tmp_path):
    made = tmp_path / "made"
    answer = efface_command("forget", trained_folder, "--method", "logit-mask", "--classes", "3", "--out", made, "-q")
    assert answer.status == 0, answer.stderr
    seeds = []
    for flags in ((), ("--sealed",)):
        answer = efface_command("audit", made, "--original", trained_folder, "--json", "-q", *flags)
        assert answer.status == 0, answer.stderr
        found = json.loads(answer.stdout)
        seeds.append(found["seed"])
        assert found["settings"]["sealed"] == bool(flags)
        assert ("head_bias" in found["rows"][0]["scores"]) == bool(flags)
    assert seeds[1] - seeds[0] == SEED
    again = efface_command("verify", made, "--original", trained_folder, "-q")
    assert "nothing failed" in again.stdout, again.stdout + again.stderr
    assert "scores of 'logit-mask'" in again.stdout
    # Without retrained models the path back is all that is measured of the sealed questions.
    assert "2 sealed scores come out as recorded" in again.stdout
    file = made / "audit.json"
    audit = json.loads(file.read_text())
    (row,) = (r for r in audit["rows"] if r["name"] == "logit-mask")
    row["scores"]["path_distance"]["value"] = 1e9
    file.write_text(json.dumps(audit))
    spoilt = efface_command("verify", made, "--original", trained_folder, "-q")
    assert spoilt.status == 1
    assert "sealed scores of 'logit-mask'" in spoilt.stdout
    assert "path_distance" in spoilt.stdout


@pytest.mark.seconds
def test_all_requests_are_asked_about_and_verified(trained_folder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for start, made, name in ((trained_folder, first, "3"), (first, second, "5")):
        answer = efface_command("forget", start, "-m", "logit-mask", "--classes", name, "--out", made, "-q")
        assert answer.status == 0, answer.stderr
    refused = efface_command("audit", second, "--original", first, "--all-requests", "-q")
    assert refused.status == 2
    assert "before the first of them" in refused.stderr
    refused = efface_command("audit", second, "--original", trained_folder, "--step", first, "-q")
    assert refused.status == 2
    assert "--all-requests" in refused.stderr
    asked = "--original", trained_folder, "--all-requests", "--step", first
    answer = efface_command("audit", second, *asked, "--check", "-q")
    assert answer.status == 4, answer.stderr  # nothing wrong, and no retrained model to tell
    assert "(all 2 requests)" in answer.stdout
    served = json.loads((second / "audit.json").read_text())["sequence"]
    assert [(s["text"], s["then"], s["now"]) for s in served] == [("class 3", 0, 0), ("class 5", 0, 0)]
    assert "Every request so far" in (second / "report.md").read_text()
    again = efface_command("verify", second, "--original", trained_folder, "-q")
    assert "nothing failed" in again.stdout, again.stdout + again.stderr
    assert "class 3: comes out as recorded" in again.stdout


@pytest.mark.seconds
def test_weights_without_a_record_are_audited_by_what_the_options_say(trained_folder, tmp_path):
    shutil.copy(trained_folder / "model.safetensors", weights := tmp_path / "w.safetensors")
    recorded = json.loads((trained_folder / "record.json").read_text())["model"]["arguments"]
    built = ("--model", "mlp", *(part for k, v in recorded.items() for part in ("--model-set", f"{k}={v}")))
    of_what = (*built, "--data", "digits", "-q")
    for given, said in (
        ((weights, "--original", weights), "say what was to be forgotten: --classes, --ids"),
        (
            (weights, "--original", weights, "--classes", "3", *built),
            "say with --data what",
        ),
        ((weights, "--original", weights, "--classes", "3", "--retrain", *of_what), "efface import ... --recipe"),
        ((weights, "--original", weights, "--classes", "3", "--step", trained_folder, *of_what), "an artifact folder"),
        ((trained_folder, "--original", weights, *built), "an artifact's record says how its model is built"),
    ):
        answer = efface_command("audit", *given)
        assert (answer.status, said in answer.stderr) == (2, True), answer.stderr
    state = {name: 1.01 * value for name, value in load_file(weights).items()}
    save_file(state, other := tmp_path / "other.safetensors")
    retrained = "--retrained", other
    answer = efface_command(
        "audit", weights, "--original", trained_folder, "--classes", "3", *retrained, *of_what, "--json"
    )
    assert answer.status == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["level"], found["request"]["classes"]) == ("b", [3])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "other.safetensors",
        "w.safetensors",
    ]  # no report
