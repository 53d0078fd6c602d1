"""How training starts from given weights, of the same width or narrower.

    model = build("v5")
    start_from(model, "v5-nano")   # a quarter as wide; widened, it computes the same

Widening is Net2WiderNet (Chen, Goodfellow, Shlens: Net2Net, ICLR 2016): every channel is there
several times, and what reads it divides its kernel among the copies.

This module knows nothing of data, optimizers or runs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import arch_of, build
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.pipeline.models.v5 import SelfAttention, TSATTHead

# How unequal the shares are that copies of a channel get, as a standard deviation relative to an
# equal share.  Equal copies have equal gradients and would stay copies for ever.
_SHARE_STD = 1.0


def start_from(model: nn.Module, weights: str | Path) -> list[str]:
    """Copy the parameters that a model shares, by name and shape, with a weights file.

    Narrower weights are widened first, and the model starts from what they compute.

    A transformer head that is new to the model starts with a residual of zero: its last
    convolution is set to 0, everything before it keeps its random start and learns at once.

    Returns:
        Names of the parameters and statistics that were not found.

    Raises:
        InputError: the model's width is no whole multiple of the weights' width.
        WeightsError: nothing matches, or there are no such weights.
    """
    width = model.config.width  # type: ignore[union-attr]
    theirs = widen(load_model(weights), width).state_dict()  # type: ignore[arg-type]
    mine = model.state_dict()
    shared = {k: v for k, v in theirs.items() if k in mine and mine[k].shape == v.shape}
    if not shared:
        raise WeightsError(f"{weights} has no parameter in common with {type(model).__name__}")
    model.load_state_dict(shared, strict=False)
    for name, module in model.named_modules():
        if isinstance(module, TSATTHead) and f"{name}.decode.weight" not in shared:
            nn.init.zeros_(module.decode.weight)
            if module.decode.bias is not None:
                nn.init.zeros_(module.decode.bias)
    return sorted(mine.keys() - shared.keys())


@torch.no_grad()
def widen(model: nn.Module, width: float, seed: int = 0) -> nn.Module:
    """A wider model that computes the same as `model`, up to rounding; in eval mode.

    Copies of a channel lie side by side.  That keeps concatenated features, attention heads and
    the parts of a joint query, key and value projection in place.

    Args:
        model: any of the family that has a width.
        width: of the new one, a whole multiple of the model's; the same gives an equal model.
        seed: of the shares.

    Raises:
        InputError: its channels are no whole multiples.
    """
    config = asdict(model.config)  # type: ignore[call-overload]
    wide = build(arch_of(model), {**config, "width": width}).eval()
    rng = torch.Generator().manual_seed(seed)
    readers = {
        f"{name}.weight"
        for name, module in wide.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    }
    narrow = model.state_dict()
    for name, tensor in wide.state_dict().items():
        if any(many % few for few, many in zip(narrow[name].shape, tensor.shape, strict=True)):
            raise InputError(
                f"a model of width {width:g} cannot start from weights of width "
                f"{config['width']:g}: its width must be a whole multiple of theirs"
            )
        tensor.copy_(_copied(narrow[name], tensor.shape, name in readers, rng))
    for module in wide.modules():
        if isinstance(module, SelfAttention):
            _keep_scores(module, width / config["width"])
    return wide


def _copied(narrow: Tensor, shape: torch.Size, reads: bool, rng: torch.Generator) -> Tensor:
    """A tensor with each entry as often as `shape` asks for, divided along the axis it reads."""
    wide = narrow
    for axis, length in enumerate(shape):
        copies = length // narrow.shape[axis]
        wide = wide.repeat_interleave(copies, axis)
        if reads and axis == 1 and copies > 1:
            noise = torch.randn(len(wide), narrow.shape[1], copies, generator=rng)
            shares = (1 + _SHARE_STD * (noise - noise.mean(2, keepdim=True))) / copies
            wide = wide * shares.flatten(1).view(*wide.shape[:2], *[1] * (wide.ndim - 2))
    return wide


def _keep_scores(attention: SelfAttention, copies: float) -> None:
    """Undo that heads of more features score higher: sums grow by `copies`, their divisor by its
    square root, and query and key share the rest."""
    queries_and_keys = 2 * attention.out.in_features
    attention.qkv.weight[:queries_and_keys] /= copies**0.25
    attention.qkv.bias[:queries_and_keys] /= copies**0.25
