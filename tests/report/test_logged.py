"""Numbers of runs and audits in a logger."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.loggers import CSVLogger

from efface.artifact.artifact import Artifact
from efface.errors import InputError
from efface.report.logged import log, tensorboard
from efface.running.extras import import_torchvision


class Kept:
    """A logger that keeps what it is handed."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int | None, dict[str, float]]] = []
        self.params: dict[str, Any] = {}
        self.saved = 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.append((step, metrics))

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.params |= params

    def save(self) -> None:
        self.saved += 1


@pytest.fixture
def artifact(record) -> Artifact:
    history = (
        {"stage": "train", "epoch": 1, "loss": 2.0},
        {"stage": "train", "epoch": 2, "loss": 1.0, "note": "text"},
        {"stage": "decay", "loss": 0.5, "broken": float("nan")},
        {"stage": "decay", "loss": 0.25},
    )
    made = record.model_copy(update={"history": history, "seconds": {"forget": 1.5}})
    return Artifact(model=None, record=made)  # type: ignore[arg-type]  # no weights are looked at


def test_a_run_is_its_history_by_stage_and_step(artifact):
    kept = Kept()
    log(artifact, kept)
    assert kept.metrics == [
        (1, {"train/loss": 2.0}),
        (2, {"train/loss": 1.0}),
        (0, {"decay/loss": 0.5}),
        (1, {"decay/loss": 0.25}),
        (0, {"seconds/forget": 1.5}),
    ]
    assert kept.params["method"] == artifact.record.method
    assert kept.params["recipe/lr"] == artifact.record.recipe.lr
    assert kept.saved == 1


def test_an_audit_is_every_measured_score_of_every_row(audit):
    kept = Kept()
    log(audit, kept)
    assert [step for step, _ in kept.metrics] == [0] * len(audit.rows), "one call a row: MLflow takes 1000 at once"
    metrics = {k: v for _, some in kept.metrics for k, v in some.items()}
    expected = {f"{k}/{row.name}": s.value for row in audit.rows for k, s in row.scores.items() if s.measured}
    assert metrics == expected
    assert kept.params["audit/answer"] == audit.answer


def test_a_run_and_its_audit_share_no_hyper_parameter(audit, artifact):
    """A logger such as MLflow's refuses another value of one that it has."""
    kept = Kept()
    log(artifact, kept)
    run = set(kept.params)
    log(audit, kept)
    assert len(kept.params) == len(run) + 6


def test_mlflow_takes_a_run_and_its_audit(audit, artifact, tmp_path):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()  # Lightning imports it, and beside a CPU build of torch it may lack operators
    loggers = pytest.importorskip(
        "pytorch_lightning.loggers", reason="Lightning, which has a logger for MLflow, is not"
    )
    logger = loggers.MLFlowLogger(
        "efface", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_location=str(tmp_path)
    )
    log(artifact, logger)
    log(audit, logger)
    logger.finalize("success")
    run = logger.experiment.get_run(logger.run_id)
    assert run.data.params["method"] == artifact.record.method
    assert run.data.params["audit/answer"] == audit.answer
    assert run.data.metrics[f"tow/{audit.candidate}"] == audit.row(audit.candidate)["tow"].value
    steps = logger.experiment.get_metric_history(logger.run_id, "train/loss")
    assert [(m.step, m.value) for m in steps] == [(1, 2.0), (2, 1.0)]
    assert run.info.status == "FINISHED"


def test_fabrics_own_logger_takes_them(audit, artifact, tmp_path):
    for i, what in enumerate((audit, artifact)):
        log(what, CSVLogger(tmp_path, name="x", version=i))
    with (tmp_path / "x" / "version_1" / "metrics.csv").open() as file:
        losses = [(r["step"], r["train/loss"]) for r in csv.DictReader(file) if r["train/loss"]]
    assert losses == [("1", "2.0"), ("2", "1.0")]


def test_tensorboard_is_an_extra(artifact, tmp_path: Path):
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(InputError, match=r"pip install 'efface\[log\]'"):
            tensorboard(tmp_path)
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = tensorboard(tmp_path)
    log(artifact, logger)
    logger.finalize("success")
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
