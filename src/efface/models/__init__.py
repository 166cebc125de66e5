"""Models from inputs to logits: a few of our own, and the loading of anyone's."""

from efface.models.check import check_model
from efface.models.checkpoints import diverged, load_weights, read_state
from efface.models.head import Penultimate, features, head, penultimate
from efface.models.mode import evaluating
from efface.models.networks.all_cnn import all_cnn
from efface.models.networks.lenet5 import lenet5
from efface.models.networks.mlp import mlp
from efface.models.networks.resnet18 import resnet18
from efface.models.reset import reset
from efface.models.sources import BUILT_IN
from efface.models.spec import ModelSpec, build
from efface.running.seeding import seeded

__all__ = [
    "BUILT_IN",
    "ModelSpec",
    "Penultimate",
    "all_cnn",
    "build",
    "check_model",
    "diverged",
    "evaluating",
    "features",
    "head",
    "lenet5",
    "load_weights",
    "mlp",
    "penultimate",
    "read_state",
    "reset",
    "resnet18",
    "seeded",
]
