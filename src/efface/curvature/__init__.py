"""What the loss says about every weight: exact per-sample curvature, fast."""

from efface.curvature.cache import fisher_key, load_fisher, recall, remember, save_fisher
from efface.curvature.fisher import Estimator, FisherDiagonal, fisher_diagonal
from efface.curvature.kfac import KroneckerFactors, Sharing, kfac, precondition
from efface.curvature.weights import Weights

__all__ = [
    "Estimator",
    "FisherDiagonal",
    "KroneckerFactors",
    "Sharing",
    "Weights",
    "fisher_diagonal",
    "fisher_key",
    "kfac",
    "load_fisher",
    "precondition",
    "recall",
    "remember",
    "save_fisher",
]
