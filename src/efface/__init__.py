"""Efface makes trained PyTorch classifiers forget on request, and shows how far they did.

Importing the package imports neither torch nor anything slow: the public names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PUBLIC = {
    "Artifact": "efface.artifact.artifact",
    "Audit": "efface.auditing.result",
    "AuditSettings": "efface.auditing.settings",
    "Comparison": "efface.comparing.results",
    "Data": "efface.data",
    "ForgettingWarning": "efface.errors",
    "InputError": "efface.errors",
    "ModelSpec": "efface.models.spec",
    "Plan": "efface.comparing.plan",
    "Recipe": "efface.training.recipe",
    "Request": "efface.request",
    "Run": "efface.running.run",
    "audit": "efface.verbs.audit",
    "audit_predictions": "efface.verbs.predictions",
    "compare": "efface.verbs.compare",
    "forget": "efface.verbs.forget",
    "import_checkpoint": "efface.verbs.importing",
    "load_data": "efface.data:load",
    "load_references": "efface.references",
    "log": "efface.report.logged",
    "model_card": "efface.report.card",
    "preprocessing": "efface.models.preprocessing",
    "register": "efface.methods.catalogue",
    "repair": "efface.verbs.repair",
    "train": "efface.verbs.train",
    "train_references": "efface.references",
    "verify": "efface.verbs.verify",
    "write_report": "efface.report:write",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from efface.artifact.artifact import Artifact as Artifact
    from efface.auditing.result import Audit as Audit
    from efface.auditing.settings import AuditSettings as AuditSettings
    from efface.comparing.plan import Plan as Plan
    from efface.comparing.results import Comparison as Comparison
    from efface.data import Data as Data
    from efface.data import load as load_data  # noqa: F401
    from efface.errors import ForgettingWarning as ForgettingWarning
    from efface.errors import InputError as InputError
    from efface.methods.catalogue import register as register
    from efface.models.preprocessing import preprocessing as preprocessing
    from efface.models.spec import ModelSpec as ModelSpec
    from efface.references import load_references as load_references
    from efface.references import train_references as train_references
    from efface.report import write as write_report  # noqa: F401
    from efface.report.card import model_card as model_card
    from efface.report.logged import log as log
    from efface.request import Request as Request
    from efface.running.run import Run as Run
    from efface.training.recipe import Recipe as Recipe
    from efface.verbs.audit import audit as audit
    from efface.verbs.compare import compare as compare
    from efface.verbs.forget import forget as forget
    from efface.verbs.importing import import_checkpoint as import_checkpoint
    from efface.verbs.predictions import audit_predictions as audit_predictions
    from efface.verbs.repair import repair as repair
    from efface.verbs.train import train as train
    from efface.verbs.verify import verify as verify


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'efface' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
