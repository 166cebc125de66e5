"""Fresh weights for a model that we did not build, so that it can be retrained from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn

from efface.errors import InputError
from efface.models.recorded import need_weights
from efface.models.spec import BUILT_FROM, build
from efface.running.seeding import seeded

__all__ = ["reset"]


def reset(model: nn.Module, seed: int | torch.Generator) -> nn.Module:
    """Return a deep copy of the model with every module initialised anew by its own `reset_parameters`.

    Children come before their parents, in the order in which they were registered: where that is also the order of
    construction, the result equals the model built under the same seed. Buffers of modules without `reset_parameters`
    are kept, as constants; so are modes, devices and `requires_grad`.

    Where modules own parameters without that method (tokens and scales of timm, torchvision and Hugging Face), and the
    model was built from a spec, it is built again: its library knows how to draw them.

    Args:
        model: Any module; it is not changed.
        seed: The seed of the new weights; the caller's random state is not touched.

    Raises:
        InputError: Some modules own parameters but have no `reset_parameters`; they are named. Or the model is recorded
            answers.
    """
    need_weights(model, "a network like it with random weights")
    stuck = [
        f"{name or 'the model itself'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if _resetter(module) is None and next(module.parameters(recurse=False), None) is not None
    ]
    if stuck and (built := _built_again(model, seed)) is not None:
        return built
    if stuck:
        raise InputError(
            f"This model cannot be given fresh weights for retraining: parameters are held by {', '.join(stuck)}, "
            "without a reset_parameters() method. Add one, or say how the model is built, and with which weights: "
            'efface.ModelSpec(build="my_package:build", weights=...); build may be timm.create_model, too.'
        )
    fresh = copy.deepcopy(model)
    with seeded(seed), torch.no_grad():
        for module in _children_first(fresh, set()):
            call = _resetter(module)
            if call is not None:
                call()
    return fresh


def _built_again(model: nn.Module, seed: int | torch.Generator) -> nn.Module | None:
    """Return the model as its spec builds it; None where it has none, or a method has changed its parts."""
    made_from = getattr(model, BUILT_FROM, None)
    if made_from is None:
        return None
    spec, input_shape, num_classes = made_from
    fresh = build(spec, input_shape=input_shape, num_classes=num_classes, seed=seed, trust=True, weights=False)
    mine, theirs = dict(model.named_parameters()), dict(fresh.named_parameters())
    if mine.keys() != theirs.keys() or model.state_dict().keys() != fresh.state_dict().keys():
        return None
    for name, parameter in theirs.items():
        if parameter.shape != mine[name].shape:
            return None
        parameter.requires_grad_(mine[name].requires_grad)
    modes = dict(model.named_modules())
    for name, module in fresh.named_modules():
        module.training = modes[name].training if name in modes else module.training
    like = next(iter(mine.values()), None)
    return fresh if like is None else fresh.to(like.device)


def _resetter(module: nn.Module) -> Callable[[], object] | None:
    """Return the method that initialises the module's own parameters, or None."""
    if isinstance(module, nn.MultiheadAttention):
        return module._reset_parameters  # torch's one layer whose method bears another name
    call = getattr(module, "reset_parameters", None)
    return call if callable(call) else None


def _children_first(module: nn.Module, seen: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield every module once, children before parents."""
    if module in seen:
        return
    seen.add(module)
    for child in module.children():
        yield from _children_first(child, seen)
    yield module
