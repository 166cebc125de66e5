"""U-LiRA from shadow models in RULI's thirds: is "unlearned" told from "never seen", record by record?"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.artifact.record import Record
from efface.auditing.measures.margins import margins
from efface.auditing.measures.u_lira import Role, ULira, by_role, u_lira
from efface.data import Split
from efface.errors import InputError
from efface.models.predictions import logits_of
from efface.references.references import References

__all__ = ["shadow_attack", "shadow_notes"]

LEAST = 9
"""Shadow models from which each record has three of either kind, as a held-out fit needs."""


def shadow_attack(references: References, split: Split, method: str) -> ULira:
    """Attack held-out shadow models on the records to forget.

    Args:
        references: A folder with shadow models.
        split: The data under the references' request.
        method: The method that unlearned in them.

    Raises:
        InputError: There are too few, or not all are finished.

    Source: U-LiRA, arXiv 2403.01218; the design in thirds from RULI.
    """
    series = f"shadow-{method}"
    known = references.manifest.series.get(series)
    asked = 0 if known is None else len(known.seeds)
    finished = len(references.finished(series))
    if asked < LEAST or finished < asked:
        raise InputError(
            f"{finished} of {asked} shadow models that unlearned by {method} are finished in {references.folder}; "
            f"needed: all, and at least {LEAST}. Train them with --shadows"
        )
    forget = split.forget
    answers, dealt = [], []
    for shadow in references.load(series):
        answers.append(margins(logits_of(shadow.model, forget), forget.labels))
        dealt.append(roles_in(shadow.record, torch.from_numpy(forget.indices)))
    table, roles = torch.stack(answers), torch.stack(dealt)
    return u_lira(by_role(table, roles, Role.UNLEARNED), by_role(table, roles, Role.OUT))


def shadow_notes(references: References, split: Split, record: Record) -> tuple[str, ...]:
    """Say what U-LiRA achieves on shadow models of an artifact's own method and settings; nothing without such models.

    Args:
        references: A folder.
        split: The data under the request.
        record: Of the artifact that is audited.
    """
    known = references.manifest.series.get(f"shadow-{record.method}")
    if known is None or known.settings != record.settings or len(known.seeds) < LEAST:
        return ()
    try:
        found = shadow_attack(references, split, record.method)
    except InputError as error:
        return (f"U-LiRA with shadow models was not assessed: {error}",)
    words = [f"{x.value:.3f} ({x.low:.3f} to {x.high:.3f})" for x in (found.accuracy, found.auc)]
    return (
        f"U-LiRA on held-out shadow models, {found.models} of either kind a record: balanced accuracy {words[0]}, "
        f"AUC {words[1]}; 0.5 is chance, where {record.method} is not told from never having seen a record.",
    )


def roles_in(record: Record, items: Tensor) -> Tensor:
    """Read from a shadow model's own record which items it never saw, and which it unlearned; shape (items,), int8."""
    roles = torch.full((len(items),), int(Role.IN), dtype=torch.int8)
    for step, role in ((record.parent, Role.OUT), (record, Role.UNLEARNED)):
        if step is not None and step.request is not None:
            roles[torch.isin(items, torch.tensor(step.request.items))] = int(role)
    return roles
