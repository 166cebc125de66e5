"""Models that audits compare with: retrained without the data, and shadow models; trained once, used by all audits."""

from efface.references.manifest import Manifest
from efface.references.references import References, load_references
from efface.references.train import train_references

__all__ = ["Manifest", "References", "load_references", "train_references"]
