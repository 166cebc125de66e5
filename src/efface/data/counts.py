"""What became of the records that a request asked for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt, model_validator

__all__ = ["Counts"]


class Counts(BaseModel):
    """Records of one request, by what can be done about them: asked = found + in_test + repeated.

    The training records found are of three kinds: found = forgotten + untrained + already.

    Attributes:
        asked: Records that the request names, in the training set or the test set, each as often as it is named.
        found: Different training records among them.
        forgotten: Those that the model was trained on: what a method has to make it forget.
        untrained: Those held out of training: the model never saw them, and there is nothing to forget.
        already: Those that earlier requests named.
        in_test: Test records of the groups asked for, which training never sees.
        repeated: How often a training record was named again.
        canaries: Of those forgotten, how many are canaries of training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: NonNegativeInt
    found: NonNegativeInt
    forgotten: NonNegativeInt
    untrained: NonNegativeInt = 0
    already: NonNegativeInt = 0
    in_test: NonNegativeInt = 0
    repeated: NonNegativeInt = 0
    canaries: NonNegativeInt = 0

    @model_validator(mode="after")
    def _add_up(self) -> Counts:
        if self.asked != self.found + self.in_test + self.repeated:
            raise ValueError(f"{self.asked} asked for, but {self.found} + {self.in_test} + {self.repeated} counted")
        if self.found != self.forgotten + self.untrained + self.already:
            raise ValueError(f"{self.found} found, but {self.forgotten} + {self.untrained} + {self.already} counted")
        return self

    @property
    def text(self) -> str:
        """One line, e.g. `40 asked for: 36 to forget, 4 never trained on (held out)`; zeros are left out."""
        kinds = {
            "to forget": self.forgotten,
            "never trained on (held out)": self.untrained,
            "already forgotten": self.already,
            "in the test set, never trained on": self.in_test,
            "named more than once": self.repeated,
        }
        counted = ", ".join(f"{n} {words}" for words, n in kinds.items() if n or words == "to forget")
        return f"{self.asked} record{'s' * (self.asked != 1)} asked for: {counted}" + (
            f"; {self.canaries} of them canaries" if self.canaries else ""
        )
