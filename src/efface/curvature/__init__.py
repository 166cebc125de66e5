"""What the loss says about every weight: exact per-sample curvature, fast."""

from efface.curvature.fisher import Estimator, FisherDiagonal, fisher_diagonal
from efface.curvature.weights import Weights

__all__ = ["Estimator", "FisherDiagonal", "Weights", "fisher_diagonal"]
