"""What a unit of a network is worth: exact ablation, fast, and cheap scores that screen for it."""

from efface.importance.ablation import Importance, ablation_importance
from efface.importance.first_order import Score, screening_scores
from efface.importance.operations import ablation_operations, seconds_of_ablation
from efface.importance.screening import Screening, overlap, screened_importance
from efface.importance.units import Granularity, Unit, unit_list, zeroed

__all__ = [
    "Granularity",
    "Importance",
    "Score",
    "Screening",
    "Unit",
    "ablation_importance",
    "ablation_operations",
    "overlap",
    "screened_importance",
    "screening_scores",
    "seconds_of_ablation",
    "unit_list",
    "zeroed",
]
