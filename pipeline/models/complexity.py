"""Parameters and cost of each model.

A multiply-accumulate (MAC) is counted for every weight of every convolution and linear layer at
every place it is applied, and for both matrix products of attention: queries with keys, and
attention with values.  Normalisation and bilinear upsampling cost a few operations per value; they
are counted as the published figures count them (0.6 % of V2), so that V2 gives the 112.89 G of the
V5 paper's table 3.  That table calls MACs "FLOPs" and its 117.09 G for V5 leave attention out:
neither its projections nor its matrix products are in them.  Activations, softmax, pooling and
element-wise products are not counted here or there.

PyTorch's `FlopCounterMode` counts, two floating-point operations a MAC, while the models run on
the meta device, which has shapes and no numbers.

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
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tracknet.pipeline.models import build
from tracknet.pipeline.models.blocks import HeatmapModel
from tracknet.pipeline.models.v3 import InpaintNet

NORM_OPERATIONS = 4  # per value: subtract, divide, scale, shift
BILINEAR_OPERATIONS = 11  # per value that comes out


def _norm_flops(given: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * NORM_OPERATIONS * prod(given)


def _bilinear_flops(*_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * BILINEAR_OPERATIONS * prod(out_shape)


_NOT_IN_PYTORCH = {
    torch.ops.aten._native_batch_norm_legit_no_training: _norm_flops,
    torch.ops.aten.native_layer_norm: _norm_flops,
    torch.ops.aten.upsample_bilinear2d: _bilinear_flops,
}

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
    counter = FlopCounterMode(display=False, custom_mapping=_NOT_IN_PYTORCH)
    # Of the kernels of attention, the counter knows the matrix products of the plain one.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*inputs)
    return counter.get_total_flops() // 2


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
