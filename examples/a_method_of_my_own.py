"""A method of one's own in 30 lines, beside two built-in ones in a table.

The class needs no change to Efface: `efface forget ... --method a_method_of_my_own:ScaledBack`, the same words in a
plan, or `pytest --efface-methods a_method_of_my_own` to run every promise that a method makes against it.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

import efface
from efface.methods.method import Expense, Method, Needs
from efface.models.head import head_of


@dataclass(frozen=True)
class ScaledBack(Method):
    """Multiply what the head says for a forgotten class by `keep`, and lower its bias by `down`.

    Source: an example, of no publication. It hides the class in the last layer and leaves the features as they are.

    Attributes:
        keep: Factor on the class's row of weights.
        down: Taken from its bias.
    """

    keep: Annotated[float, Field(ge=0, le=1)] = 0.2
    down: Annotated[float, Field(ge=0)] = 5.0

    name: ClassVar[str] = "scaled-back"
    needs: ClassVar[Needs] = Needs(targets=("classes",))
    cost: ClassVar[str] = "O(1)"
    memory: ClassVar[str] = "P"
    expense: ClassVar[Expense] = "instant"
    source: ClassVar[str] = "an example"

    def forget(self, artifact, split, run):
        """Return a copy whose head says less of the forgotten classes."""
        model = run.copied(artifact.model)
        _, layer = head_of(model, split.data.input_shape)
        with torch.no_grad():
            layer.weight[list(split.forget_classes)] *= self.keep
            layer.bias[list(split.forget_classes)] -= self.down
        return model


if __name__ == "__main__":
    data = efface.load_data("digits")
    original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=15, batch_size=64))
    request = efface.Request(classes=[3])
    retrained = efface.forget(original, data, request, method="retrain")
    print(f"{'method':<16}forgotten class   others   few-record probe   did it forget?")
    for method in (ScaledBack(), "logit-mask", "project-distil"):
        forgotten = efface.forget(original, data, request, method=method)
        audit = efface.audit(forgotten, data, retrained=retrained)
        row = audit.row(audit.candidate)
        shown = [row[key].value for key in ("test_forget_accuracy", "test_accuracy", "probe_recall_few")]
        print(f"{row.name:<16}{shown[0]:15.1%} {shown[1]:8.1%} {shown[2]:18.1%}   {audit.verdict.answer}")
