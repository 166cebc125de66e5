"""Files of weights: read without unpickling into anyone's model, and written back as they came."""

from efface.models.checkpoints.loading import diverged, load_checkpoint, load_weights, read_state
from efface.models.checkpoints.origin import Origin, as_it_came, write_back

__all__ = ["Origin", "as_it_came", "diverged", "load_checkpoint", "load_weights", "read_state", "write_back"]
