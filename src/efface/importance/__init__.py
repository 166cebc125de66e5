"""What a unit of a network is worth: exact ablation, fast, and cheap scores that screen for it."""

from efface.importance.ablation import Importance, ablation_importance
from efface.importance.units import Granularity, Unit, unit_list, zeroed

__all__ = ["Granularity", "Importance", "Unit", "ablation_importance", "unit_list", "zeroed"]
