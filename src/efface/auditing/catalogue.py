"""Every measure by key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["MEASURES", "Measure"]

Group = Literal["utility", "agreement", "membership", "features", "relearning", "ensembles", "cost"]


class Measure(BaseModel):
    """How to present one score.

    Attributes:
        key: Its name in `Row.scores`.
        group: Which section of a report it belongs to.
        title: A few words for a table's header.
        reading: One sentence for a reader who is no researcher.
        unit: `share` (0 to 1, print as percent), `number`, `steps`, `seconds`, `nats` or `ratio`.
        best: `reference` (as close as possible to the retrained model), `high`, `low`, or a target value as text.
        source: Where the definition comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    group: Group
    title: str
    reading: str
    unit: Literal["share", "number", "steps", "seconds", "nats", "ratio"]
    best: str
    source: str = ""


_TABLE = """
retain_accuracy | utility | Accuracy, kept training data | share | reference |
    Share of the training records that stay which the model still gets right.

forget_accuracy | utility | Accuracy, forget data | share | reference |
    Share of the records to forget that the model still gets right; a retrained model shows what is normal.

test_accuracy | utility | Accuracy, test data of kept classes | share | reference |
    Share of unseen records of the kept classes that the model gets right.

test_forget_accuracy | utility | Accuracy, test data of forgotten classes | share | reference |
    Share of unseen records of the forgotten classes that are still recognised.

test_accuracy_masked | utility | Test accuracy with forgotten classes ruled out | share | reference |
    Accuracy on kept classes when the answer may not be a forgotten class: what masking alone would gain.

tow | utility | Tug of war (ToW) | share | 1 | arXiv 2406.01257
    Product of one minus the accuracy gap to the retrained model on forget, kept and test data.

aus | utility | Adaptive unlearning score (AUS) | number | 1 | arXiv 2312.02052
    Test accuracy kept, divided by one plus what is still recognised of the forget data.

nomus | utility | NoMUS | share | 1 | arXiv 2311.02240
    Test accuracy and an attack's failure, averaged; never used in the verdict, because a retrained model need not
    reach 1.

forget_js | agreement | Answers unlike the retrained model's, forget data (JS) | share | 0 |
    0: the same probabilities as the retrained model on the forget data; 1: nothing in common.

test_js | agreement | Answers unlike the retrained model's, test data (JS) | share | 0 |
    The same comparison on unseen records of kept classes.

forget_activation_distance | agreement | Activation distance, forget data | number | 0 | Golatkar et al. 2020
    Mean distance between the two models' probability vectors on the forget data.

forget_agreement | agreement | Same answer as the retrained model, forget data | share | 1 |
    Share of forget records on which both models answer the same class.

test_agreement | agreement | Same answer as the retrained model, test data | share | 1 |
    Share of unseen records of kept classes on which both models answer the same class.

zrf | agreement | Zero retrain forgetting (ZRF) | share | reference | arXiv 2205.08096
    Likeness to a network with random weights on the forget data; never used in the verdict.

forget_shift | membership | Margins above the retrained model's, forget data (AUC) | share | 0.5 |
    Chance that a forget record gets a higher margin than another one gets from the retrained model; above 50 %
    knowledge is left, below 50 % the records are rejected more than by a model that never saw them.

population_auc | membership | Attack with one threshold (AUC) | share | reference |
    Chance that a forgotten record looks more familiar to the model than an unseen one of the same class; 50 % is
    chance, and both sides of it betray something.

population_tpr | membership | Forget records found at a low false-positive rate | share | reference |
    Share of the forget records that the one-threshold attack finds while hardly accusing unseen ones.

loss_attack | membership | Attack by logistic regression on the loss | share | reference |
    Balanced accuracy of the 2023 challenge's attack; 50 % is chance.

rmia_auc | membership | Attack per record with reference models (RMIA, AUC) | share | reference | arXiv 2312.03262
    Chance that a forgotten record is better known than an unseen one, compared with models that never saw either;
    50 % is chance.

rmia_tpr | membership | RMIA: forget records found at a low false-positive rate | share | reference | arXiv 2312.03262
    Share of the forget records that the attack per record finds while hardly accusing unseen ones.

probe_recall | features | New head on frozen features: forgotten classes recognised | share | reference |
    A fresh last layer is fitted on the model's features with all training classes; if it recognises the forgotten
    classes better than on a retrained model's features, the knowledge was hidden, not removed.

probe_recall_few | features | New head from a few records: forgotten classes recognised | share | reference |
    The same with a head made from very few records per class (nearest mean), averaged over many draws; tells features
    apart where the full probe is always right.

separation | features | How far the forgotten classes stand apart in the features | ratio | reference |
    Squared distance of a forgotten class's mean to the nearest kept class's, over the mean spread within classes; a
    network that learned the class holds it further apart than one that never saw it.

probe_outputs | features | New head on the other classes' outputs | share | reference |
    The forgotten classes' own outputs are removed; this is how far the remaining ones still give them away.

relearn_steps | relearning | Training steps until the forget data is known again | steps | reference | arXiv 2201.05629
    Optimiser steps on the forget data until its accuracy is within 0.05 of the original's.

ain | relearning | Anamnesis index (AIN) | ratio | 1 | arXiv 2201.05629
    Relearning steps divided by the retrained model's; below 1 knowledge is left, above 1 the model was made unable
    to learn it.

lira_accuracy | ensembles | U-LiRA, balanced accuracy on held-out models | share | 0.5 | arXiv 2403.01218
    How often an attacker with models of both kinds tells unlearned from retrained, record by record.

lira_auc | ensembles | U-LiRA, AUC on held-out models | share | 0.5 | arXiv 2403.01218
    The same as a ranking.

thirds_accuracy | ensembles | U-LiRA with shadow models in thirds, balanced accuracy | share | 0.5 | RULI's design
    How often an attacker tells records that shadow models unlearned from records that they never saw.

thirds_auc | ensembles | U-LiRA with shadow models in thirds, AUC | share | 0.5 | RULI's design
    The same as a ranking of models, record by record.

quality | ensembles | Forgetting quality F | number | reference | arXiv 2406.09073
    1 when no attack tells unlearned from retrained models on any record; the floor depends on their number.

klom_forget | ensembles | KLoM, forget data | nats | reference | arXiv 2410.23232
    Difference of the margins' distributions, unlearned against retrained models.

klom_forget_95 | ensembles | KLoM, forget data, worst 5 % | nats | reference | arXiv 2410.23232
    The 95th percentile of the same.

klom_retain | ensembles | KLoM, kept training data | nats | reference | arXiv 2410.23232
    The same on records that stay.

klom_test | ensembles | KLoM, test data | nats | reference | arXiv 2410.23232
    The same on unseen records.

seconds | cost | Time | seconds | low |
    Wall time of making this model.

speedup | cost | Faster than retraining | ratio | high |
    Wall time of retraining divided by this model's.
"""


def _parse(table: str) -> dict[str, Measure]:
    """Read blocks of "key | group | title | unit | best | source" followed by indented lines of reading."""
    found: dict[str, Measure] = {}
    for block in table.strip().split("\n\n"):
        head, *reading = block.splitlines()
        names = ("key", "group", "title", "unit", "best", "source")
        fields = dict(zip(names, (x.strip() for x in head.split("|")), strict=True))
        found[fields["key"]] = Measure.model_validate({**fields, "reading": " ".join(x.strip() for x in reading)})
    return found


MEASURES: dict[str, Measure] = _parse(_TABLE)
"""Every score by its key, in the order of `Row.scores`."""
