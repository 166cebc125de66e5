"""The sealed questions' scores: what a model still holds where today's questions do not look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from efface.auditing.answers import Answers
from efface.auditing.measures.bands import band
from efface.auditing.measures.block_probe import deviations_of_shares
from efface.auditing.measures.exposure import deviations
from efface.auditing.measures.intervals import Interval
from efface.auditing.measures.kept_mass import entropy, kept_lean, mass_divergence
from efface.auditing.measures.neighbourhood import residual_knowledge
from efface.auditing.measures.path_back import loss_barrier, weight_distance
from efface.auditing.scores.looked import DRAWS, PROBES, Looked
from efface.auditing.scores.measure import Measure
from efface.auditing.scores.score import Score, Scores
from efface.errors import InputError
from efface.models.mode import evaluating
from efface.models.recorded import need_weights

__all__ = ["LEAST", "MEASURES", "deeper_scores", "path_scores"]

LEAST = 4
"""Retrained models from which the sealed questions have a null: each of them is compared with three others or more."""

KEPT_DATA = Measure(
    key="kept_data_margin",
    group="relearning",
    title="Margin on the forget data after training on kept data alone",
    unit="number",
    best="reference",
    least=None,
    source="arXiv 2505.22310",
    reading="A few steps on kept data, none on the forget data: what was only hidden comes back by itself, and a model "
    "that never knew it stays as it is.",
)

BLOCKS = Measure(
    key="block_probe",
    group="features",
    title="Largest deviation of a probe at any block",
    unit="number",
    best="reference",
    least=None,
    source="arXiv 2605.27569",
    reading="New heads on every stage of the network, made from 1, 10 and 200 records of each class: how far the one "
    "furthest from retrained models' finds the forgotten classes more often (above 0) or less, in standard deviations.",
)

BIAS = Measure(
    key="head_bias",
    group="features",
    title="Bias of the forgotten class among the others",
    unit="number",
    best="reference",
    least=None,
    source="arXiv 2605.08730",
    reading="In standard deviations of the kept classes' biases; one lowered by hand names the class.",
)

NORM = Measure(
    key="head_norm",
    group="features",
    title="Norm of the forgotten class's row among the others",
    unit="number",
    best="reference",
    least=None,
    source="arXiv 2605.08730",
    reading="In standard deviations of the kept classes' rows of the last layer; one drawn anew among trained ones "
    "stands out.",
)

MASS = Measure(
    key="kept_mass",
    group="agreement",
    title="Where the forget data goes among the kept classes",
    unit="share",
    best="reference",
    source="arXiv 2506.20893",
    reading="Divergence of the answers among kept classes from the mean of retrained models'; 0 the same, 1 no class "
    "in common. A model whose class was pushed away sends its records elsewhere than one that never saw it.",
)

LEAN = Measure(
    key="kept_lean",
    group="agreement",
    title="Answers among the kept classes, on the way to the original's",
    unit="number",
    best="reference",
    least=None,
    source="after arXiv 2506.20893",
    reading="0: as retrained models answer once the forgotten classes are ruled out; 1: as the original. Far below 0 "
    "it was pushed away from the original, which no retraining does.",
)

ENTROPY = Measure(
    key="kept_entropy",
    group="agreement",
    title="Entropy of the answers among the kept classes",
    unit="nats",
    best="reference",
    source="arXiv 2506.20893",
    reading="How undecided the model is about the forget data once the forgotten classes are ruled out.",
)

NEAR = Measure(
    key="neighbourhood",
    group="membership",
    title="Recognised close to the forget records",
    unit="share",
    best="reference",
    source="arXiv 2601.22359",
    reading="The forget records a little displaced: one taught to reject just these may know what lies beside.",
)

DISTANCE = Measure(
    key="path_distance",
    group="relearning",
    title="Distance from the original's weights",
    unit="number",
    best="reference",
    source="arXiv 2505.22310",
    reading="Euclidean; shown, not judged: a retrained model is far away, one that was only nudged is near.",
)

BARRIER = Measure(
    key="path_barrier",
    group="relearning",
    title="Loss barrier on the way back to the original",
    unit="nats",
    best="reference",
    source="arXiv 1912.05671",
    reading="How far the loss on kept data rises above the straight line between both models; shown, not judged: near "
    "0 for a model that was only nudged.",
)

MEASURES = (KEPT_DATA, BLOCKS, BIAS, NORM, MASS, LEAN, ENTROPY, NEAR, DISTANCE, BARRIER)

BY_KEY = {m.key: m for m in MEASURES}

MEMORISED = 10
"""Most records of a request of items that are asked about after training on kept data: of the others nothing is known
that could come back."""

POINTS = 11
"""Of the way back, both ends included."""


def deeper_scores(
    ours: Looked, others: Sequence[Looked], original: Looked, confidence: float, *, items: bool = False
) -> Scores:
    """Return the judged scores of one model, each with the band in which one more retrained model would score.

    The null is the same score of each retrained model among the others. The band is that of the measure, where a share
    is recognised no narrower than the draw of its records; of the largest deviation it is one of sizes, around 0.

    Args:
        ours: Of the model.
        others: Of the retrained models without it, or all of them for a model that is none.
        original: Of the original.
        confidence: Of the bands.
        items: Whether single records were asked for: then those that the original knows furthest beyond the others are
            asked about after training on kept data, not all.
    """
    of: dict[str, Callable[[Looked, Sequence[Looked]], tuple[float, str]]] = {
        KEPT_DATA.key: _kept_data(original if items else None),
        BLOCKS.key: _blocks,
        BIAS.key: _row("bias"),
        NORM.key: _row("norm"),
        MASS.key: _mass,
        LEAN.key: _lean(original),
        ENTROPY.key: _entropy,
        NEAR.key: _near,
    }
    rests = dict(zip(of, ("margins", "blocks", "bias", "norm", "mass", "mass", "mass", "near"), strict=True))
    return {key: _score(key, rests[key], measured, ours, others, confidence) for key, measured in of.items()}


def _score(
    key: str,
    rests: str,
    measured: Callable[[Looked, Sequence[Looked]], tuple[float, str]],
    ours: Looked,
    others: Sequence[Looked],
    confidence: float,
) -> Score:
    if rests in ours.missing:
        return Score.missing(ours.missing[rests])
    known = [r for r in others if rests not in r.missing]
    if len(known) < LEAST:
        return Score.missing(
            f"the spread of retrained models needs {LEAST} of them where this can be measured; there are {len(known)}"
        )
    try:
        value, why = measured(ours, known)
        null = torch.tensor([measured(r, [o for o in known if o is not r])[0] for r in known], dtype=torch.float64)
    except InputError as error:
        return Score.missing(str(error))
    floor = _band(key, null, ours.found[rests], confidence)
    return Score(value=value, why=why, floor=floor.value, floor_low=floor.low, floor_high=floor.high)


def _band(key: str, null: Tensor, seen: Tensor, confidence: float) -> Interval:
    """Return where one more retrained model would score."""
    if key == BLOCKS.key:
        sizes = band(null.abs(), confidence)
        return Interval(float(null.mean()), -sizes.high, sizes.high)
    least = (1 / (4 * len(seen))) ** 0.5 if key == NEAR.key else 0.0  # the draw of records, on the share's scale
    return BY_KEY[key].band(null, confidence, least=least)


def _kept_data(original: Looked | None) -> Callable[[Looked, Sequence[Looked]], tuple[float, str]]:
    """Return the mean margin after training on kept data, of all records or of the most memorised ones.

    Those are chosen by the others' margins alone, never by the model's own: else the null would be another one.
    """

    def margin(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
        chosen, of = torch.arange(len(ours.found["margins"])), ""
        if original is not None:
            if "before" not in original.found:
                raise InputError(f"of the original: {original.missing['margins']}")
            beyond, _, _ = deviations(original.found["before"], torch.stack([r.found["before"] for r in others]))
            chosen = beyond.topk(min(MEMORISED, len(beyond))).indices
            of = f"the {len(chosen)} most memorised records; "
        recognised = float(ours.found["recognised"][chosen].mean())
        return float(ours.found["margins"][chosen].mean()), f"{of}{recognised:.1%} recognised afterwards"

    return margin


def _row(what: str) -> Callable[[Looked, Sequence[Looked]], tuple[float, str]]:
    def furthest(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
        z = ours.found[what]
        return float(z[z.abs().argmax()]), ""

    return furthest


def _mass(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
    return float(mass_divergence(ours.found["mass"], torch.stack([r.found["mass"] for r in others])).mean()), ""


def _lean(original: Looked) -> Callable[[Looked, Sequence[Looked]], tuple[float, str]]:
    def lean(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
        if "mass" not in original.found:
            raise InputError(original.missing["mass"])
        references = torch.stack([r.found["mass"] for r in others])
        return kept_lean(ours.found["mass"], references, original.found["mass"]), ""

    return lean


def _entropy(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
    return float(entropy(ours.found["mass"]).mean()), ""


def _near(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
    asked = DRAWS * len(ours.found["near"])
    hits = torch.stack([r.found["near"].sum() for r in others])
    ratio = residual_knowledge(float(ours.found["near"].sum()), hits, asked)
    return float(ours.found["near"].sum()) / asked, f"r = {ratio:.3g} times as often as retrained models"


def _blocks(ours: Looked, others: Sequence[Looked]) -> tuple[float, str]:
    if any(r.blocks != ours.blocks for r in others):
        raise InputError(f"its blocks ({', '.join(ours.blocks)}) are not those of the retrained models")
    shares, unseen = ours.found["blocks"], int(ours.found["unseen"])
    theirs = torch.stack([r.found["blocks"] for r in others])
    # Probe by probe: one from 20 draws of single records varies less from model to model than one from a single draw.
    each = [deviations_of_shares(shares[i], theirs[:, i], unseen * draws) for i, (_, draws) in enumerate(PROBES)]
    d, shares, expected = torch.cat(each), shares.flatten(), theirs.mean(0).flatten()
    furthest = int(d.abs().argmax())
    (size, _), block = PROBES[furthest // len(ours.blocks)], ours.blocks[furthest % len(ours.blocks)]
    where = f"before {block!r} from {size} record{'s' * (size > 1)} a class"
    return float(d[furthest]), f"{where}: recall {shares[furthest]:.1%}, mean of the others {expected[furthest]:.1%}"


def path_scores(answers: Answers, original: Answers) -> Scores:
    """Return how far the original is and what stands in the way; shown, not judged.

    Args:
        answers: The model's.
        original: The original's.
    """
    try:
        need_weights(answers.model, "the way from its weights to the original's")
    except InputError as error:
        return {m.key: Score.missing(str(error)) for m in (DISTANCE, BARRIER)}
    ours, theirs = answers.model.state_dict(), original.model.state_dict()
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
        why = "its weights have other names or shapes than the original's"
        return {m.key: Score.missing(why) for m in (DISTANCE, BARRIER)}
    names = [name for name, _ in answers.model.named_parameters()]
    found = {DISTANCE.key: Score(value=weight_distance([ours[n] for n in names], [theirs[n] for n in names]))}
    return found | {BARRIER.key: Score(value=loss_barrier(_losses(answers, original)))}


def _losses(answers: Answers, original: Answers) -> Tensor:
    """Return the loss on kept data at equally spaced points of the way back."""
    records = answers.records
    part = records.parts["retain"].sample(1000, records.run.generator("audit/path back"))
    x, y = part.tensors(records.run.device)
    ours, theirs = ({k: v.to(x.device) for k, v in a.model.state_dict().items()} for a in (answers, original))
    model, losses = answers.model, []
    with evaluating(model), torch.no_grad():
        for t in torch.linspace(0, 1, POINTS).tolist():
            between = {k: torch.lerp(v, theirs[k], t) if v.is_floating_point() else v for k, v in ours.items()}
            logits = torch.cat([functional_call(model, between, (batch,)) for batch in x.split(1000)])
            losses.append(F.cross_entropy(logits.double(), y))
    return torch.stack(losses).cpu()
