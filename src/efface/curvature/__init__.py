"""What the loss says about every weight: exact per-sample curvature, fast."""

from efface.curvature.fisher import Estimator, FisherDiagonal, fisher_diagonal
from efface.curvature.sample_weights import SampleWeights

__all__ = [
    "Estimator",
    "FisherDiagonal",
    "SampleWeights",
    "fisher_diagonal",
]
