"""Models as OpenVINO networks, whole and in parts.

    network = to_openvino(load_model("v5.safetensors"))
    compiled = compile_network(network, threads=2)

Whole, or cut where the draft is (`pipeline.models.blocks.DraftModel`):

    pictures -> draft_network, for a part of the picture -> draft -> final_network -> heatmaps

This module knows nothing of when which is computed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tracknet.pipeline.models.blocks import DraftModel, Part, to_frames, window_spec

if TYPE_CHECKING:
    import openvino

JOINED = (4, 2, 1)  # strides at which the U-Net's three decoders join what they have and a skip


def to_openvino(model: nn.Module, batch: int = 1, draft: bool = False) -> openvino.Model:
    """The model as an OpenVINO network: uint8 `[batch, P, H, W, 3]` -> `[batch, targets, H, W]`.

    Every architecture of `pipeline.models` that makes heatmaps converts.

    Args:
        model: a heatmap model.
        batch: windows it takes at once.
        draft: a second output gives the draft's logits, if the model makes a draft.

    Raises:
        InputError: the model makes no heatmaps.
    """
    spec = window_spec(model)
    pictures = _pictures(batch, spec.pictures, spec.height, spec.width)
    if draft and isinstance(model, DraftModel):
        return _convert(_HeatmapsAndDraft(model), pictures)
    return _convert(FromBytes(model), pictures)


def draft_network(model: DraftModel, kept: Sequence[tuple[int, int]]) -> openvino.Model:
    """What makes the draft of a part of the picture, of one window.

    Inputs are the pictures, uint8 `[1, P, height, width, 3]`, and for each decoder four matrices:
    how rows and columns of what comes from below are enlarged (see `enlargement`), and which rows
    and columns of the skip are taken.  Those of rows are `[kept / stride, before / 2 stride]` and
    `[kept / stride, height / stride]`, where `before` is what was kept below.  Output is
    `[1, targets, *kept[-1]]`.

    Args:
        model: its draft can be made for a part.
        kept: height and width, in pixels, of the pictures and of what each decoder keeps of them.
    """
    pictures = _pictures(1, window_spec(model).pictures, *kept[0])
    matrices = [
        torch.zeros(length // stride, width)
        for stride, (before, after) in zip(JOINED, pairwise(kept), strict=True)
        for widths in ([n // (2 * stride) for n in before], [n // stride for n in kept[0]])
        for length, width in zip(after, widths, strict=True)
    ]
    return _convert(_DraftOfPart(model), pictures, *matrices)


def final_network(model: DraftModel) -> openvino.Model:
    """What makes heatmaps of the whole picture's draft, `[1, targets, H, W]` each."""
    spec = window_spec(model)
    return _convert(_Final(model), torch.zeros(1, len(spec.targets), spec.height, spec.width))


@torch.no_grad()
def enlargement(upsample: nn.Upsample, size: int) -> Tensor:
    """Upsampling along an axis as a matrix, `[2 * size, size]`.

    Which pixels go into a row of the enlarged picture depends, with aligned corners, on where the
    row lies in the picture; rows and columns of this matrix tell it of any part.

    >>> enlargement(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), 2)
    tensor([[1.0000, 0.0000],
            [0.6667, 0.3333],
            [0.3333, 0.6667],
            [0.0000, 1.0000]])
    """
    enlarged: Tensor = upsample(torch.eye(size)[None, :, :, None])  # each unit vector a picture
    return enlarged[0, :, :, 0].T.contiguous()


def compile_network(
    network: openvino.Model, threads: int | None = None, streams: int = 1, precision: str = "f32"
) -> openvino.CompiledModel:
    """A network ready for the CPU.

    Args:
        network: from here or `pipeline.runtimes.quantize`.
        threads: None takes all cores.
        streams: calls that it computes side by side, each with its share of the threads.
        precision: of what is not quantized, `f32` or `bf16`.
    """
    import openvino

    hints = {
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(threads or os.cpu_count() or 1),
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": "NO",  # the decoders use the same cores
    }
    return openvino.Core().compile_model(network, "CPU", hints)


class FromBytes(nn.Module):
    """A model with the step from bytes to numbers in front."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model(to_frames(pictures))


class _Drafting(nn.Module):
    """What the parts of a model are made of; called `model`, as in `FromBytes`."""

    def __init__(self, model: DraftModel) -> None:
        super().__init__()
        self.model = model


class _HeatmapsAndDraft(_Drafting):
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        draft = self.model.draft_logits(to_frames(pictures))
        return torch.sigmoid(self.model.final_logits(draft)), draft


class _DraftOfPart(_Drafting):
    def forward(self, pictures: Tensor, *matrices: Tensor) -> Tensor:
        of_decoders = [matrices[i : i + 4] for i in range(0, len(matrices), 4)]
        joinings = [partial(_join_part, four) for four in of_decoders]
        inner = partial(_across, *of_decoders[-1][2:])
        return self.model.draft_logits(to_frames(pictures), Part(joinings, inner))


class _Final(_Drafting):
    def forward(self, draft: Tensor) -> Tensor:
        return torch.sigmoid(self.model.final_logits(draft))


def _join_part(matrices: Sequence[Tensor], below: Tensor, skip: Tensor) -> Tensor:
    """`UNet.join` for a part; see `draft_network`."""
    rows, columns, taken_rows, taken_columns = matrices
    taken = _across(taken_rows, taken_columns, skip)
    return torch.cat([_across(rows, columns, below), taken], dim=1)


def _across(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    return rows @ x @ columns.T


def _pictures(*shape: int) -> Tensor:
    return torch.zeros(*shape, 3, dtype=torch.uint8)


def _convert(module: nn.Module, *examples: Tensor) -> openvino.Model:
    """A module as a network that takes what has the shapes and types of the examples."""
    import openvino

    with warnings.catch_warnings(), torch.no_grad():
        # Tracing takes the checks of a model's input as they come out for this one size, which
        # is the only one; and PyTorch announces that tracing will go one day.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), examples, check_trace=False)
        return openvino.convert_model(traced, input=[tuple(e.shape) for e in examples])
