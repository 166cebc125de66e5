"""Learning with selective forgetting: classes tied to codes at training, forgotten by dropping theirs."""

from efface.methods.lwsf.lwsf import LwSF

__all__ = ["LwSF"]
