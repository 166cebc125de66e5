"""Exit status as a gate: an answer of its own for each way an audit can end, on both sides of every boundary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from efface.artifact.artifact import Artifact
from efface.cli.outcome import Exit, finish, following, status_of, status_of_verification, wrapped
from efface.models.spec import ModelSpec
from efface.verifying import Verification
from efface.verifying.finding import Finding


class Audited:
    """As much of an audit as a gate looks at."""

    def __init__(self, answer: str, outcome: str = "alike") -> None:
        self.verdict = self
        self.answer, self.outcome, self.sequence = answer, outcome, ()


@pytest.mark.parametrize(
    ("answer", "outcome", "status"),
    [
        ("no difference found", "alike", 0),
        ("no difference found", "differs", 3),  # it forgot, but lost more than retraining costs
        ("no", "differs", 3),
        ("could not tell", "not assessed", 4),
        ("could not tell", "alike", 4),
        ("could not tell", "differs", 3),
    ],
)
def test_each_answer_has_its_status(answer: str, outcome: str, status: int) -> None:
    audit = Audited(answer, outcome)
    assert status_of(audit) == status  # type: ignore[arg-type]
    holds = Finding(subject="weights", outcome="holds", text="")
    verdict = Finding.of("verdict", "it differs" if status == 3 else "", "alike")
    found = Verification.model_construct(findings=(holds, verdict), audit=audit)
    assert status_of_verification(found) == status


def test_what_does_not_hold_is_a_failure_whatever_the_audit_says() -> None:
    wrong = Finding(subject="weights", outcome="fails", text="changed")
    assert status_of_verification(Verification(findings=(wrong,))) == Exit.FAILED
    found = Verification.model_construct(findings=(wrong,), audit=Audited("no difference found"))
    assert status_of_verification(found) == Exit.FAILED


def test_hashes_alone_that_hold_are_a_success() -> None:
    holds = Finding(subject="weights", outcome="holds", text="")
    unchecked = Finding(subject="scores", outcome="not checked", text="")
    assert status_of_verification(Verification(findings=(holds, unchecked))) == Exit.OK


def test_lines_fit_a_terminal_and_paths_stay_whole() -> None:
    path = "/a/" + "long/" * 30
    text = f"the folder {path} exists already; give another one, or --overwrite to replace what Efface wrote there"
    lines = wrapped(text).splitlines()
    assert " ".join(line.strip() for line in lines) == text
    assert path in lines[1]
    assert all(len(line) <= 80 for line in lines if path not in line)
    assert wrapped("short") == "short"


def test_the_next_command_is_one_that_a_shell_takes_and_says_where_the_data_lies() -> None:
    said = following("audit", Path("my models/out"), "--retrain", root=Path("/photos"))
    assert said == "next: efface audit 'my models/out' --retrain --root /photos"
    assert following("forget", "a", "--classes", "...", root=None) == "next: efface forget a --classes ..."


@pytest.mark.parametrize(
    ("build", "foreign"),
    [
        ("mlp", False), ("torchvision.models.resnet18", False), ("timm.create_model", False), ("mine:build", True),
        ("transformers.AutoModelForImageClassification", False), ("my.package.build", True),
    ],
)  # fmt: skip
def test_the_next_command_trusts_code_that_it_has_to_run(
    build: str, foreign: bool, trained_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Artifact.load(trained_folder)
    made = replace(artifact, record=artifact.record.model_copy(update={"model": ModelSpec(build=build)}))
    finish(made, False, "next: efface audit a")
    assert capsys.readouterr().out.endswith("next: efface audit a --trust\n" if foreign else "next: efface audit a\n")


def test_what_was_skipped_is_counted(trained_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Artifact.read_record(trained_folder)
    for names, said in ((("a.png", "b.png"), "2 samples left out"), (("a.png",), "1 sample left out"), ((), "")):
        data = record.data.model_copy(update={"skipped": names})
        made = Artifact(model=torch.nn.Identity(), record=record.model_copy(update={"data": data}))
        finish(made, False, "next")
        shown = capsys.readouterr().out
        assert said in shown
        assert ("left out" in shown) == bool(said)
