"""What the loss says about every weight: exact per-sample curvature, fast."""

from efface.curvature.fisher import Estimator, FisherDiagonal, fisher_diagonal
from efface.curvature.kfac import KroneckerFactors, Sharing, kfac, precondition
from efface.curvature.sample_weights import Weights

__all__ = [
    "Estimator",
    "FisherDiagonal",
    "KroneckerFactors",
    "Sharing",
    "Weights",
    "fisher_diagonal",
    "kfac",
    "precondition",
]
