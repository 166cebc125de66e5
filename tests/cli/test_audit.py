"""The subcommand `audit`."""

import json

from efface.auditing.sealed import SEED
from tests.conftest import efface_command


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
