"""How large and how expensive each model is, counted honestly.

A multiply-accumulate (MAC) is counted for every weight of every convolution and linear layer at
every place it is applied, and for both matrix products of attention: queries with keys, and
attention with values.  Normalisation and bilinear upsampling cost a few operations per value; they
are counted as the published figures count them (0.6 % of V2), so that V2 gives the 112.89 G of the
V5 paper's table 3.  That table calls MACs "FLOPs" and its 117.09 G for V5 leave attention out:
neither its projections nor its matrix products are in them.  Activations, softmax, pooling and
element-wise products are not counted here or there.

Nothing is computed: the models run on PyTorch's meta device, which has shapes and no numbers.

>>> card = model_card("v2")
>>> card.parameters, round(card.macs_per_window / 1e9, 2), card.input
(11330304, 112.89, '3 frames of 512x288')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tracknet.pipeline.models import build
from tracknet.pipeline.models.blocks import HeatmapModel
from tracknet.pipeline.models.v3 import InpaintNet
from tracknet.pipeline.models.v5 import SelfAttention

NORM_OPERATIONS = 4  # per value: subtract, divide, scale, shift
BILINEAR_OPERATIONS = 11  # per value that comes out

# Rows of the table: every architecture as published, and both attention modes where there are two.
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("v1", {}),
    ("v2", {}),
    ("v3", {}),
    ("v3_attention", {}),
    ("v4", {}),
    ("v5", {"attention": "factorized"}),
    ("v5", {"attention": "joint"}),
    ("v2_mdd", {}),
    ("v2_rstr", {"attention": "factorized"}),
    ("v2_rstr", {"attention": "joint"}),
    ("inpaintnet", {}),
)


@dataclass(frozen=True)
class ModelCard:
    """One row of the table of models.

    Attributes:
        arch: name of the architecture.
        variant: options that tell the row from others of the same architecture, or "".
        parameters: trainable parameters.
        macs_per_window: multiply-accumulates of one forward pass on one window.
        macs_per_frame: the same, divided by the frames the window answers for.
        input, output: what goes in and comes out, in words.
        source: the paper.
    """

    arch: str
    variant: str
    parameters: int
    macs_per_window: int
    macs_per_frame: int
    input: str
    output: str
    source: str


def model_card(arch: str, config: Mapping[str, Any] | None = None) -> ModelCard:
    """Parameters, cost and description of a model.

    Raises:
        InputError: an unknown architecture or option.
    """
    with torch.device("meta"):
        model = build(arch, config).eval()
        inputs, frames, takes, gives = _window(model)
        macs = count_macs(model, *inputs)
    return ModelCard(
        arch=arch,
        variant=", ".join(f"{value}" for value in (config or {}).values()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs_per_window=macs,
        macs_per_frame=macs // frames,
        input=takes,
        output=gives,
        source=str(model.source),
    )


def model_cards() -> list[ModelCard]:
    """The whole table, in the order of the papers."""
    return [model_card(arch, config) for arch, config in ROWS]


def count_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of `model(*inputs)`; see the module's text for what counts."""
    total = 0

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _layer_macs(module, args[0], output)

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _layer_macs(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """MACs of the layer itself, without those of the layers in it."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return output.numel() * module.in_channels // module.groups * prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, SelfAttention):
        sequences, length, features = given.shape
        return 2 * sequences * length * length * features
    if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        return NORM_OPERATIONS * output.numel()
    if isinstance(module, nn.Upsample) and module.mode == "bilinear":
        return BILINEAR_OPERATIONS * output.numel()
    return 0


def _window(model: nn.Module) -> tuple[tuple[Tensor, ...], int, str, str]:
    """Inputs for one forward pass, the frames it answers for, and both ends in words."""
    if isinstance(model, InpaintNet):
        length = model.config.length
        inputs: tuple[Tensor, ...] = (torch.empty(1, length, 2), torch.empty(1, length, 1))
        return inputs, length, f"{length} positions and a mask", f"{length} positions"
    assert isinstance(model, HeatmapModel)
    spec = model.spec
    size = f"{spec.width}x{spec.height}"
    takes = f"{spec.frames} frames of {size}"
    if spec.background:
        takes = f"background and {takes}"
    outputs = len(spec.targets)
    gives = f"{outputs} heatmap{'s' if outputs > 1 else ''}"
    return (torch.empty(1, spec.pictures, 3, spec.height, spec.width),), outputs, takes, gives
