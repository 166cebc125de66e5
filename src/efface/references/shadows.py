"""Shadow models in RULI's thirds, as the audit takes them: is "unlearned" told from "never seen", record by record?"""

from __future__ import annotations

import torch
from torch import Tensor

from efface.artifact.record import Record
from efface.auditing.measures.u_lira import Role
from efface.auditing.scores.ensembles import Thirds
from efface.data import Split
from efface.references.references import References
from efface.running.run import Run

__all__ = ["roles_in", "thirds_of"]


def thirds_of(references: References, split: Split, record: Record, run: Run) -> Thirds | None:
    """Return the finished shadow models of an artifact's own method and settings; None if none were asked for.

    Args:
        references: A folder.
        split: The data under the request.
        record: Of the artifact that is audited.
        run: The models go to its device.

    Raises:
        InputError: A model was changed after writing, or is not what the manifest says.

    Source: U-LiRA, arXiv 2403.01218; the design in thirds from RULI.
    """
    series = f"shadow-{record.method}"
    known = references.manifest.series.get(series)
    if known is None or known.settings != record.settings:
        return None
    shadows = list(references.load(series))
    items = torch.from_numpy(split.forget.indices)
    roles = [roles_in(shadow.record, items) for shadow in shadows]
    table = torch.stack(roles) if roles else torch.empty(0, len(items), dtype=torch.int8)
    return Thirds([run.copied(shadow.model) for shadow in shadows], table)


def roles_in(record: Record, items: Tensor) -> Tensor:
    """Read from a shadow model's own record which items it never saw, and which it unlearned; shape (items,), int8."""
    roles = torch.full((len(items),), int(Role.IN), dtype=torch.int8)
    for step, role in ((record.parent, Role.OUT), (record, Role.UNLEARNED)):
        if step is not None and step.request is not None:
            roles[torch.isin(items, torch.tensor(step.request.items))] = int(role)
    return roles
