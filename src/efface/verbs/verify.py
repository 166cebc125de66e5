"""`verify`: check an artifact folder, or audit any two checkpoints, also ones that Efface did not make."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from efface.artifact.artifact import Artifact
from efface.artifact.case import Model, asked_seed
from efface.artifact.compatible import as_trained
from efface.artifact.record import Record
from efface.auditing.result import Audit
from efface.auditing.settings import AuditSettings
from efface.data import Data
from efface.errors import InputError
from efface.methods.applying import rebuilt
from efface.references import References
from efface.request import Request
from efface.running.progress import Progress, shown
from efface.training.recipe import Recipe
from efface.verbs.audit import audit
from efface.verifying.finding import Finding, Verification
from efface.verifying.recomputed import TOLERANCE, compare_scores
from efface.verifying.record import check_copies, check_folder, check_origin, recorded_audit

__all__ = ["verify"]


def verify(
    candidate: Model | str | Path,
    original: Model | None = None,
    data: Data | None = None,
    request: Request | None = None,
    *,
    retrained: Model | Sequence[Model] | References = (),
    recipe: Recipe | None = None,
    validation: float = 0.0,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    device: str = "auto",
    trust: bool = False,
    progress: Progress | bool | None = None,
) -> Verification:
    """Check an artifact's folder again, or audit a candidate that Efface need not have made.

    Of a folder, hashes of weights and memory and the record's chain are checked; with the data also which records the
    requests mean; with data and original all scores are computed again and compared with audit.json, if it is there,
    with the settings recorded there: those of sealed questions, too, where it was sealed. That takes as long as the
    audit did: nothing kept is believed.
    Copies of the folder, of the one in which it lies (of references) and of the references given, which a stopped
    process left, are failures.
    Of any other candidate, with original, data and request, the audit's verdict is the finding: it fails if the
    candidate differs from a model that never saw the data, beyond what the level of evidence can explain.

    Args:
        candidate: An artifact folder, or a module or artifact in memory.
        original: The model before forgetting.
        data: What the original was trained on.
        request: What was to be forgotten; an artifact knows.
        retrained: Models trained without the data.
        recipe: How the original was trained, if neither model is an artifact.
        validation: Fraction held out of the original's training, if neither is; a foreign model usually saw all.
        tolerance: Allowed difference of scores, see `efface.verifying.recomputed.compare_scores`.
        seed: Seed of the audit's draws, where audit.json does not know it.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        trust: Allow the record's own model builder to be imported.
        progress: Where to show progress: True on the console, False nowhere; by default where a person looks on.

    Raises:
        InputError: The folder is no artifact, or a model, the data or the request is missing or does not fit.

    Example:
        >>> import efface, tempfile, pathlib
        >>> data = efface.load_data("digits")
        >>> made = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = efface.verify(made.save(pathlib.Path(folder) / "made"))
        >>> any(finding.outcome == "fails" for finding in found.findings)
        False
    """
    beside = check_copies(retrained.folder, "references") if isinstance(retrained, References) else ()
    findings: list[Finding] = list(beside)
    recorded: Audit | None = None
    if isinstance(candidate, str | Path):
        path = Path(candidate)
        of_folder, recorded, enough = _of_folder(path, original, data)
        findings = [*of_folder, *findings]
        if not enough:
            return Verification(findings=tuple(findings))
        candidate = Artifact.load(path, trust=trust, rebuild=rebuilt)
        _check_request(candidate.record, request, data)
    if original is None or data is None:
        missing = " and ".join(n for n, v in (("the original", original), ("the data", data)) if v is None)
        raise InputError(f"{missing} must be given to audit a model; an artifact folder alone has its hashes checked")
    if recorded is not None and recorded.seed is not None:
        known = candidate if isinstance(candidate, Artifact) else original
        assert isinstance(known, Artifact)
        seed = asked_seed(known.record.recipe, recorded.seed)
    if isinstance(retrained, References):
        retrained = dataclasses.replace(retrained, keep_answers=False)  # what is to be verified is not believed
    again = audit(
        candidate,
        data,
        request,
        original=original,
        all_requests=bool(recorded and recorded.sequence),
        retrained=retrained if isinstance(retrained, References | nn.Module | Artifact) else list(retrained),
        recipe=recipe,
        validation=validation,
        settings=_settings(recorded),
        seed=seed,
        device=device,
        progress=shown(progress),
    )
    if recorded is not None:
        findings += compare_scores(recorded, again, tolerance)
    else:
        findings.append(_verdict(again))
    return Verification(findings=tuple(findings), audit=again)


def _of_folder(path: Path, original: Model | None, data: Data | None) -> tuple[list[Finding], Audit | None, bool]:
    """Return what a folder's files say, its recorded audit, and whether scores can be computed again."""
    record, findings = check_folder(path, data)
    if record is None:
        return findings, None, False
    recorded, about = recorded_audit(path, record)
    findings += about
    if isinstance(original, Artifact):
        findings.append(check_origin(record, original))
    enough = data is not None and original is not None and all(f.outcome != "fails" for f in findings)
    if not enough and recorded is not None:
        text = "needs the data, the original, and everything before to hold; not computed again"
        findings.append(Finding(subject="scores", outcome="not checked", text=text))
    return findings, recorded, enough


def _check_request(record: Record, request: Request | None, data: Data | None) -> None:
    if not (request and record.request and data):
        return
    if request.resolve(as_trained(record, data)).fingerprint != record.request_fingerprint:
        raise InputError(
            f"the artifact forgot {record.request.describe()}, not {request.describe()}; leave the request out"
        )


def _verdict(found: Audit) -> Finding:
    headline = found.verdict.headline
    if found.verdict.outcome == "not assessed":
        return Finding(subject="verdict", outcome="not checked", text=headline)
    return Finding.of("verdict", headline if found.verdict.outcome in {"differs", "nothing was done"} else "", headline)


def _settings(recorded: Audit | None) -> AuditSettings | None:
    if recorded is None:
        return None
    known = {k: v for k, v in recorded.settings.items() if k in AuditSettings.model_fields}
    return AuditSettings.model_validate(known)
