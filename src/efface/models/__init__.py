"""Models from inputs to logits: a few of our own, and the loading of anyone's."""

from efface.models.all_cnn import all_cnn
from efface.models.check import check_model
from efface.models.head import Penultimate, features, head, penultimate
from efface.models.lenet5 import lenet5
from efface.models.mlp import mlp
from efface.models.mode import evaluating
from efface.models.reset import reset
from efface.models.resnet18 import resnet18
from efface.models.seeding import seeded
from efface.models.spec import BUILT_IN, ModelSpec, build
from efface.models.weights import load_weights, nonfinite, read_state

__all__ = [
    "BUILT_IN",
    "ModelSpec",
    "Penultimate",
    "all_cnn",
    "build",
    "check_model",
    "evaluating",
    "features",
    "head",
    "lenet5",
    "load_weights",
    "mlp",
    "nonfinite",
    "penultimate",
    "read_state",
    "reset",
    "resnet18",
    "seeded",
]
