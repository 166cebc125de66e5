"""Taking classes out of a network where they live: the means at hand, every layer's projection, the head's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from efface.artifact.artifact import Artifact
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.data.split import Split
from efface.errors import InputError, NotPreparedError
from efface.mechanisms.class_directions import Convolutions, directions, take_out
from efface.mechanisms.class_means import LayerMeans, class_means, taps
from efface.mechanisms.shrink_and_perturb import by_depth, redraw_rows, require_reset
from efface.models.head import head_of
from efface.running.run import Run
from efface.words import counted

__all__ = [
    "KEPT",
    "Source",
    "check_removable",
    "head_rows_anew",
    "keep_class_means",
    "known_means",
    "memory_without",
    "of_each_class",
    "place_rows",
    "project_out",
    "untrained_logit",
]

Source = Literal["auto", "kept", "data"]
"""Where class means come from: kept at training where there are any, only so, or one forward pass over data."""

KEPT = "class-means"
"""What `train --keep` calls them."""

HOW = "train (or continue for 0 epochs) with --keep class-means, or set means=data to compute them in one pass"
_READ = 512
_ROWS = 100  # records of each class whose mean feature a row is placed against
_NEVER_TRAINED = 1.6  # distance below the top, in units of that of trained rows; see untrained_logit


def keep_class_means(model: nn.Module, split: Split, run: Run, weights: str) -> dict[str, Tensor]:
    """Return, for an artifact's memory, the mean input of every layer per class over all training data.

    Args:
        model: Trained, on the run's device.
        split: Without a request.
        run: Device; gets a note that says what was kept.
        weights: SHA-256 of the model's weights.
    """
    batches = split.train.batches(Epoch(_READ, device=run.device))
    means = class_means(model, batches, split.train.labels.unique().tolist(), weights)
    memory = means.memory()
    size = sum(t.numel() * t.element_size() for t in memory.values())
    run.note(
        f"kept for forgetting: class-means, the mean inputs of {len(means.of)} layers for {len(means.classes)} "
        f"classes ({size / 2**10:.0f} KiB); they are themselves knowledge of the classes"
    )
    return memory


def memory_without(memory: Mapping[str, Tensor], split: Split, run: Run) -> dict[str, Tensor]:
    """Return an artifact's memory without the class means that a request names, and note it.

    Of a request of classes the rows of these classes go. Records of a request of items are in the means of their
    classes and cannot be taken out of them, so all means go.

    Args:
        memory: What an artifact keeps.
        split: Under the request.
        run: Gets the note.
    """
    means = LayerMeans.recalled(memory)
    if means is None:
        return dict(memory)
    left = means.without(split.forget_classes if split.forget_classes else means.classes)
    names = ", ".join(split.data.classes[c] for c in means.classes if c not in left.classes)
    run.note(
        f"kept class-means: those of class {names} were removed, those of "
        f"{counted(len(left.classes), 'class is', 'classes are')} kept"
        if left.classes
        else "kept class-means: all were removed, because the records to forget are part of them"
    )
    return {**LayerMeans.forgotten(memory), **left.memory()}


def check_removable(
    artifact: Artifact, split: Split, source: Source, convolutions: Convolutions | None, name: str
) -> None:
    """Raise what `known_means`, `project_out` and `head_rows_anew` would raise, before any work.

    Args:
        artifact: Model and memory.
        split: Under the request.
        source: Where means come from.
        convolutions: As for `project_out`; None if nothing is projected.
        name: The method's, for the error.

    Raises:
        InputError: The logits do not come from a linear layer, a module cannot be initialised anew, or no layer has
            more inputs than classes are retained.
        NotPreparedError: Means that are to be there are not.
    """
    model = artifact.model
    try:
        last, _ = head_of(model, split.data.input_shape)
    except InputError as error:
        raise InputError(f"{name} draws the head's row anew. {error} Or use ssd, which needs no head") from None
    require_reset(model, name)
    if source == "kept":
        _kept_means(artifact, split, name)
    if convolutions is None:
        return
    places = kernel_places(model) if convolutions == "channel" else {}
    widths = {t.name: model.get_parameter(t.parameter)[0].numel() // places.get(t.name, 1) for t in taps(model)}
    widths.pop(last, None)
    if max(widths.values(), default=0) <= len(split.retain_classes):
        raise InputError(
            f"{name}: no layer before the head has more inputs than the {len(split.retain_classes)} retained classes "
            f"(widest: {max(widths.values(), default=0)}), so their means span everything and there is nothing to take "
            "out; use undo, which damages every direction alike"
        )


def _kept_means(artifact: Artifact, split: Split, name: str) -> LayerMeans:
    means = LayerMeans.recalled(artifact.memory)
    if means is None:
        raise NotPreparedError(f"{name} needs class means kept at training, which this artifact lacks; {HOW}")
    if missing := [split.data.classes[c] for c in split.forget_classes if c not in means.classes]:
        raise NotPreparedError(f"{name}: no mean was kept of class {', '.join(missing)}; {HOW}")
    return means


def kernel_places(model: nn.Module) -> dict[str, int]:
    """Return the number of places of every convolution's kernel, by layer name."""
    kinds = (nn.Conv1d, nn.Conv2d)
    return {name: m.weight[0, 0].numel() for name, m in model.named_modules() if isinstance(m, kinds)}


def known_means(
    artifact: Artifact, split: Split, run: Run, source: Source, name: str, samples: int, forget: bool = True
) -> LayerMeans:
    """Return class means of forgotten and retained classes, from the memory or from one forward pass.

    Args:
        artifact: Model and memory.
        split: Under the request; data is read only where means are not taken from the memory.
        run: Device, randomness; notes.
        source: `auto` takes kept means if they belong to the present weights.
        name: The method's, for notes and errors.
        samples: Most samples per class of a forward pass.
        forget: Whether the forgotten classes' means are wanted; otherwise their data is not read.

    Raises:
        NotPreparedError: Means that are to be there are not.
        InputError: A class of the request has no sample left to compute its mean from.
    """
    kept = LayerMeans.recalled(artifact.memory)
    current = kept is not None and kept.weights == artifact.record.weights_after
    if source == "kept" or (source == "auto" and current):
        if not current:
            run.note(f"{name}: the kept class means were taken before an earlier request changed the weights")
        return _kept_means(artifact, split, name)
    draw = run.generator(f"{name}/means")
    parts = (split.forget, split.retain) if forget else (split.retain,)
    chosen = [of_each_class(part, samples, draw) for part in parts]
    model = run.copied(artifact.model)
    batches = (batch for part in chosen for batch in part.batches(Epoch(_READ, device=run.device)))
    means = class_means(model, batches, (*split.forget_classes, *split.retain_classes))
    missing = [split.data.classes[c] for c in split.forget_classes if c not in means.classes]
    if forget and missing:
        raise InputError(f"{name}: class {', '.join(missing)} has no training sample left to compute its mean from")
    return means


def of_each_class(part: Part, size: int, generator: torch.Generator) -> Part:
    """Return at most `size` samples of every class of a part, in their original order."""
    labels = part.labels.numpy()
    order = torch.randperm(len(part), generator=generator).numpy()
    chosen = [order[labels[order] == c][:size] for c in np.unique(labels)]
    return part.take(np.sort(np.concatenate(chosen)))


def project_out(
    model: nn.Module,
    means: LayerMeans,
    split: Split,
    run: Run,
    *,
    name: str,
    strength: float,
    strength_last: float | None = None,
    convolutions: Convolutions = "patch",
) -> list[str]:
    """Take the forgotten classes' own directions out of every layer before the head, in place, and note where.

    Args:
        model: Changed.
        means: Of forgotten and retained classes.
        split: Names the classes.
        run: Gets the notes.
        name: The method's.
        strength: s at the first layer.
        strength_last: s at the last one before the head, linear in between; the same everywhere if None.
        convolutions: Whole patches or channels.

    Returns:
        The layers that changed.
    """
    last, _ = head_of(model, split.data.input_shape)
    kernels = kernel_places(model) if convolutions == "channel" else {}
    retain = [c for c in split.retain_classes if c in means.classes]
    found = directions(means, split.forget_classes, retain, (last,), kernels)
    if not found.of:
        raise InputError(
            f"{name}: at every layer the forgotten classes' means lie in the span of the retained ones "
            f"({', '.join(found.spanned) or 'none is wide enough'}); there is nothing to take out; use undo"
        )
    before_head = [t.name for t in taps(model) if t.name in means.of and t.name != last]
    changed = take_out(model, found, by_depth(before_head, strength, strength_last), convolutions)
    notes = [f"{name}: the classes' own directions were taken out of {', '.join(changed) or 'no layer'}"]
    if found.narrow:
        notes.append(f"{', '.join(found.narrow)} {_have(found.narrow)} no more inputs than classes are retained")
    if found.spanned:
        notes.append(f"in {', '.join(found.spanned)} the forgotten means lie in the span of the retained ones")
    run.note("; ".join(notes))
    return changed


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def untrained_logit(model: nn.Module, means: LayerMeans, split: Split, run: Run) -> float:
    """Return about the logit that the row of a class that was never trained has on retained classes.

        top - 1.6 (top - off)

    with top the mean logit of retained classes at their own mean feature, off at those of the others. The factor is
    1.5 to 1.7 in retrained models of the digits MLP and of LeNet-5 on MNIST (originals of seed 100).

    Args:
        model: As it was trained.
        means: Its own.
        split: Names the classes.
        run: Device.
    """
    last, layer = head_of(model, split.data.input_shape)
    retain = [c for c in split.retain_classes if c in means.classes]
    rows = layer.weight[retain].detach().double().cpu()
    answers = means.rows(last, retain)[:, 0] @ rows.T
    if layer.bias is not None:
        answers = answers + layer.bias[retain].detach().double().cpu()
    top = float(answers.diagonal().mean())
    off = (float(answers.sum()) - top * len(retain)) / max(1, len(retain) * (len(retain) - 1))
    return top - _NEVER_TRAINED * (top - off)


def head_rows_anew(
    model: nn.Module, fresh: Mapping[str, Tensor], means: LayerMeans, split: Split, run: Run, logit: float
) -> None:
    """Draw the forgotten classes' rows of the head anew, against the mean feature of the retained classes.

    See `redraw_rows`; the mean is over classes, each counting the same.

    Args:
        model: Changed.
        fresh: Freshly drawn parameters by name.
        means: Of forgotten and retained classes.
        split: Names the classes.
        run: Device.
        logit: Of the new row at the mean feature.
    """
    last, _ = head_of(model, split.data.input_shape)
    retain = [c for c in split.retain_classes if c in means.classes]
    mean = means.rows(last, retain).mean((0, 1))
    redraw_rows(model, fresh, split.forget_classes, split.data.input_shape, mean, logit)


def place_rows(model: nn.Module, fresh: Mapping[str, Tensor], split: Split, run: Run, logit: float, name: str) -> None:
    """Draw the forgotten classes' rows anew as `head_rows_anew` does, by features that the model has now.

    Args:
        model: Changed; already repaired.
        fresh: Freshly drawn parameters by name.
        split: Retained data is read, at most 100 records of each class.
        run: Device, randomness.
        logit: Of the new rows at the mean feature.
        name: The method's.
    """
    chosen = of_each_class(split.retain, _ROWS, run.generator(f"{name}/rows"))
    means = class_means(model, chosen.batches(Epoch(_READ, device=run.device)), split.retain_classes)
    head_rows_anew(model, fresh, means, split, run, logit)
