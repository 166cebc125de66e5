"""The subcommand `audit`."""

import json

import pytest

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
