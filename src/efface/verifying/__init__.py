"""Does it check out? An artifact's hashes and scores again, or any two checkpoints with data and a request."""

from efface.verifying.findings import Finding, Verification
from efface.verifying.verification import verify

__all__ = ["Finding", "Verification", "verify"]
