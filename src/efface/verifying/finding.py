"""What a verification found, as plain frozen data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from efface.auditing.result import Audit

__all__ = ["Finding", "Verification"]


class Finding(BaseModel):
    """One thing that was checked.

    Attributes:
        subject: What, e.g. `weights`, `record chain`, `scores`.
        outcome: `holds`, `fails`, or `not checked`, which is never a pass.
        text: Why, in one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    outcome: Literal["holds", "fails", "not checked"]
    text: str

    @classmethod
    def of(cls, subject: str, wrong: str, right: str) -> Finding:
        """Return a finding that fails if anything is wrong, and holds otherwise."""
        return cls(subject=subject, outcome="fails" if wrong else "holds", text=wrong or right)


class Verification(BaseModel):
    """Everything that was checked.

    Attributes:
        findings: In the order of checking.
        audit: The audit that was made for it, if any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]
    audit: Audit | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed; what was not checked is listed, and is neither."""
        return all(f.outcome != "fails" for f in self.findings)

    def to_json(self) -> str:
        """Return everything as indented JSON."""
        return self.model_dump_json(indent=2)

    def lines(self) -> list[str]:
        """Return one line per finding, and the conclusion."""
        counts = {o: sum(f.outcome == o for f in self.findings) for o in ("holds", "fails", "not checked")}
        words = ", ".join(f"{n} x {o}" for o, n in counts.items() if n)
        conclusion = "nothing failed" if self.ok else "it does not check out"
        width = max((len(f.subject) for f in self.findings), default=0)
        return [f"{f.outcome:<11}  {f.subject:<{width}}  {f.text}" for f in self.findings] + [f"{conclusion} ({words})"]
