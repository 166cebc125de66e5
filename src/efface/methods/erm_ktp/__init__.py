"""ERM-KTP: a mask of channels per class at training, and a student without the forgotten classes' channels."""

from efface.methods.erm_ktp.erm_ktp import ErmKtp

__all__ = ["ErmKtp"]
