"""Runs and audits for whoever watches many of them: numbers handed to a logger such as Fabric's for TensorBoard."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from efface.artifact.artifact import Artifact
from efface.artifact.record import Record
from efface.auditing.result import Audit
from efface.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric.loggers import TensorBoardLogger

__all__ = ["Logger", "log", "tensorboard"]


class Logger(Protocol):
    """What is asked of a logger; Lightning's are such, for Fabric (TensorBoard, CSV) and for others (MLflow)."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep numbers of one step."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Keep what a run was made with."""

    def save(self) -> None:
        """Write what was kept so far."""


def log(what: Artifact | Audit, logger: Logger) -> None:
    """Hand the numbers of a run or an audit to a logger, all at once.

    Of an artifact: method, settings, recipe and seed as hyper-parameters; every row of its history as `STAGE/NUMBER`
    over steps; its times as `seconds/NAME`. Of an audit: level and verdict as hyper-parameters `audit/NAME`, so that a
    run and its audit may share a logger; every measured score as `SCORE/ROW`, a row at a time.

    Args:
        what: What to log.
        logger: Such as `lightning_fabric.loggers.TensorBoardLogger("runs")`, or
            `lightning.pytorch.loggers.MLFlowLogger("efface", tracking_uri=...)`.

    Example:
        >>> import efface, tempfile
        >>> from lightning_fabric.loggers import CSVLogger
        >>> made = efface.train("mlp", efface.load_data("digits"), recipe=efface.Recipe(lr=0.1, epochs=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     efface.log(made, CSVLogger(folder))
    """
    with suppress(NotImplementedError):  # Fabric's CSVLogger keeps no hyper-parameters, and says so
        logger.log_hyperparams(_about(what))
    for step, metrics in _steps(what.record) if isinstance(what, Artifact) else _scores(what):
        logger.log_metrics(metrics, step)
    logger.save()


def tensorboard(folder: Path) -> TensorBoardLogger:
    """Return Fabric's logger for TensorBoard, which writes event files into a folder.

    Raises:
        InputError: TensorBoard is not installed.
    """
    from lightning_fabric.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name=None, version="")
    except ModuleNotFoundError:
        raise InputError("TensorBoard is not installed; pip install 'efface[log]', or leave --log out") from None


def _about(what: Artifact | Audit) -> dict[str, Any]:
    if isinstance(what, Audit):
        return {
            "audit/candidate": what.candidate,
            "audit/data": what.data,
            "audit/request": what.request_text,
            "audit/level": what.level,
            "audit/answer": what.answer,
            "audit/outcome": what.verdict.outcome,
        }
    record = what.record
    asked = "" if record.request is None else record.request.describe()
    return {
        "method": record.method,
        "request": asked,
        "seed": record.seed,
        **{f"settings/{k}": _plain(v) for k, v in record.settings.items()},
        **{f"recipe/{k}": _plain(v) for k, v in record.recipe.model_dump(mode="json").items()},
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _steps(record: Record) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the rows of a history by step: their own, or how many of their stage came before."""
    seen: Counter[str] = Counter()
    for row in record.history:
        stage = str(row["stage"])
        given = row.get("step", row.get("epoch"))
        step = int(given) if isinstance(given, int | float) else seen[stage]
        seen[stage] += 1
        numbers = {f"{stage}/{k}": float(v) for k, v in row.items() if _is_number(v) and k not in {"step", "epoch"}}
        if numbers:
            yield step, numbers
    if record.seconds:
        yield 0, {f"seconds/{k}": v for k, v in record.seconds.items()}


def _scores(audit: Audit) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each row's measured scores; MLflow takes no more than 1000 numbers at once."""
    for row in audit.rows:
        yield 0, {f"{key}/{row.name}": score.value for key, score in row.scores.items() if score.value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
