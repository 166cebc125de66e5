"""Models that audits compare with: retrained without the data, and shadow models; trained once, used by all audits."""

from efface.references.folder import Manifest, References, load_references
from efface.references.training import train_references

__all__ = ["Manifest", "References", "load_references", "train_references"]
