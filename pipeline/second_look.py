"""A quantized network, and a second look in float32 where it leaves doubt.

Where the highest value of a heatmap lies close to the threshold, quantization may decide whether
there is a ball.  What is in doubt is one spot, so the float network drafts a crop around it anew
(at 512x288 a ninth of the U-Net's work), and what follows the draft, which is little and sees the
whole picture, is computed in float32 with that spot in it:

    quantized network  pictures -> heatmaps, draft
    draft network      each crop -> its draft, the middle of which goes into that of the picture
    final network      draft -> the heatmaps that count

The rest of the draft is still the quantized network's, so a little doubt is left.  Where the
highest value is as close to the threshold as that, and where a model makes no draft of a crop alone
(`pipeline.models.blocks.DraftModel`), the whole window is computed in float32.

    runtime = SecondLook(OpenVinoRuntime(quantized.network(), spec), model, quantized.margin, 0.5)

This module knows nothing of how a network is quantized, or of what a second look is worth
(`pipeline.parity`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.models.blocks import UNET_STRIDE, DraftModel
from pipeline.networks import (
    ENLARGED,
    compile_network,
    draft_network,
    enlargement,
    final_network,
    to_openvino,
)

if TYPE_CHECKING:
    from pipeline.runtime import OpenVinoRuntime

# Pixels.  A crop sees nothing beyond its edges, and a draft looks far: within 8 px of the highest
# value logits differ from those of the whole picture by up to 0.70 with crops of 64, 0.16 with 96,
# 0.003 with 128 and 0 with 160 (v5-nano, validation clips).
CROP = 128
BORDER = 48  # of a crop, where the picture goes on: not used, as it misses what lies beyond
NEAR = 8  # so far around a place, at least, its crop is used
# Share of the margin that is still doubtful after a closer look.  The highest logits then lie off
# float's by 0.021 (root of the mean square; before by 0.090; v5-nano's margin is 0.196).
REST = 1 / 8


class SecondLook:
    """A quantized network, and the float network where the quantized one leaves doubt.

    What a window gives depends on nothing but the window.

    Attributes:
        windows, again, whole: how many were computed, how many of them were looked at twice, and
            how many of those were computed whole.

    Args:
        fast: the quantized network of the model, which gives the draft, too, if there is one.
        model: the float one.
        margin: how close is doubtful, in logits; see `pipeline.quantize.Quantized`.
        threshold: probability that a ball must exceed.
        threads: for the second look; None takes all cores.
    """

    def __init__(
        self,
        fast: OpenVinoRuntime,
        model: nn.Module,
        margin: float,
        threshold: float,
        threads: int | None = None,
    ) -> None:
        self.spec, self.batch, self.peaks = fast.spec, fast.batch, fast.peaks
        self._fast = fast
        self._closer = CloserLook(model, threads) if isinstance(model, DraftModel) else None
        self._whole = compile_network(to_openvino(model), threads).create_infer_request()
        self._doubt, self._rest = _around(threshold, margin), _around(threshold, REST * margin)
        self.windows = self.again = self.whole = 0

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 `[n, P, H, W, 3]` -> float32 `[n, targets, H, W]`; n: up to `batch`."""
        outputs = self._fast.outputs(pictures)
        heatmaps = outputs[0]
        doubtful = _highest_within(heatmaps, self._doubt)
        again = np.flatnonzero(doubtful.any(axis=1))
        for i in again:
            heatmaps[i] = self._again(pictures[i], [output[i] for output in outputs], doubtful[i])
        self.windows += len(pictures)
        self.again += len(again)
        return heatmaps

    def _again(
        self, pictures: np.ndarray, outputs: list[np.ndarray], doubtful: NDArray[np.bool_]
    ) -> np.ndarray:
        """One window in float32, as far as that is needed, see `CloserLook`."""
        if self._closer is not None:
            heatmaps = self._closer(pictures, outputs, doubtful)
            if not _highest_within(heatmaps[doubtful], self._rest).any():
                return heatmaps
        self.whole += 1
        self._whole.infer([pictures[None]])
        return self._whole.get_output_tensor(0).data[0]


def _around(threshold: float, margin: float) -> tuple[float, float]:
    """The probabilities a margin, in logits, below and above a threshold."""
    logit = math.log(threshold / (1 - threshold))
    return 1 / (1 + math.exp(margin - logit)), 1 / (1 + math.exp(-margin - logit))


def _highest_within(heatmaps: np.ndarray, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    """Whether the highest value of each heatmap `[..., H, W]` lies between the bounds."""
    highest = heatmaps.max(axis=(-2, -1))
    return (highest > bounds[0]) & (highest < bounds[1])


class CloserLook:
    """Drafts anew around doubtful places, and what follows from it, in float32.

    Also where the quantized network has bfloat16: when whole windows were computed again in that,
    99.28 % of the labelled test frames kept their outcome (v5-nano; in float32 99.66 %, the gate is
    99.5 %).  Windows in doubt mostly come alone, so all threads work on one.

    Args:
        model: its draft can be made for a crop.
        threads: None takes all cores.
    """

    def __init__(self, model: DraftModel, threads: int | None = None) -> None:
        self._size = size = (model.spec.height, model.spec.width)
        crop = [min(CROP, length) for length in size]
        self._draft = compile_network(draft_network(model, *crop), threads).create_infer_request()
        self._final = compile_network(final_network(model), threads).create_infer_request()
        upsample = model.unet.upsample
        self._enlargements = [
            [enlargement(upsample, length // (2 * stride)).numpy() for length in size]
            for stride in ENLARGED
        ]

    def __call__(
        self, pictures: np.ndarray, outputs: list[np.ndarray], doubtful: NDArray[np.bool_]
    ) -> np.ndarray:
        """One window again, uint8 `[P, H, W, 3]` -> float32 `[targets, H, W]`, until the next call.

        Args:
            pictures: the window.
            outputs: what the quantized network made of it: heatmaps and draft, `[targets, H, W]`.
            doubtful: whose highest value is to be looked at, `[targets]`.
        """
        heatmaps, draft = outputs[0], outputs[1].copy()
        for place in places(heatmaps[doubtful]):
            (rows, rows_used), (columns, columns_used) = map(span, place, self._size)
            seen = self.draft(pictures, rows, columns)
            draft[:, _slice(rows_used), _slice(columns_used)] = seen[
                :, _slice(rows_used, rows.start), _slice(columns_used, columns.start)
            ]
        self._final.infer([draft[None]])
        return self._final.get_output_tensor(0).data[0]

    def draft(self, pictures: np.ndarray, rows: range, columns: range) -> np.ndarray:
        """The draft of a crop, float32 `[targets, len(rows), len(columns)]`, until the next call.

        Args:
            pictures: the window, uint8 `[P, H, W, 3]`.
            rows, columns: of the picture, see `span`.
        """
        crop = pictures[None, :, _slice(rows), _slice(columns)]
        matrices = [
            part_of_enlargement(whole, along.start // stride, len(along) // stride)
            for stride, both in zip(ENLARGED, self._enlargements, strict=True)
            for whole, along in zip(both, (rows, columns), strict=True)
        ]
        self._draft.infer([np.ascontiguousarray(crop), *matrices])
        return self._draft.get_output_tensor(0).data[0]


def places(heatmaps: np.ndarray) -> list[tuple[int, int]]:
    """Where heatmaps `[n, H, W]` are highest, as (row, column), without those near one before.

    >>> heatmaps = np.zeros((3, 48, 64))
    >>> heatmaps[0, 20, 30] = heatmaps[1, 28, 25] = heatmaps[2, 20, 39] = 0.5
    >>> places(heatmaps)
    [(20, 30), (20, 39)]
    """
    found: list[tuple[int, int]] = []
    for heatmap in heatmaps:
        row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
        if not any(abs(row - r) <= NEAR and abs(column - c) <= NEAR for r, c in found):
            found.append((row, column))
    return found


def span(place: int, length: int) -> tuple[range, range]:
    """What a crop around a place covers along an axis of the picture, and which of it is used.

    A crop begins where the poolings begin.  At the picture's own edges it is used to the end.

    Args:
        place: pixel, row or column.
        length: of the picture, in pixels.

    >>> span(100, 288)
    (range(40, 168), range(88, 120))
    >>> span(287, 288)
    (range(160, 288), range(208, 288))
    >>> span(10, 48)
    (range(0, 48), range(0, 48))
    """
    count = min(CROP, length)
    first = (place - count // 2 + UNET_STRIDE // 2) // UNET_STRIDE * UNET_STRIDE
    first = max(0, min(first, length - count))
    start, stop = first + BORDER * (first > 0), first + count - BORDER * (first + count < length)
    return range(first, first + count), range(start, stop)


def part_of_enlargement(whole: np.ndarray, first: int, count: int) -> np.ndarray:
    """How a crop is enlarged along an axis, float32 `[count, count / 2]`.

    At its edges rows of the enlarged crop are made of pixels beyond it as well; the crop's last
    pixel stands in for those.

    Args:
        whole: of the picture's axis, `[2n, n]`, see `pipeline.networks.enlargement`.
        first, count: of the enlarged crop's rows, both even.
    """
    start, stop = first // 2, (first + count) // 2
    rows = whole[first : first + count]
    part = np.ascontiguousarray(rows[:, start:stop])
    part[:, 0] += rows[:, :start].sum(axis=1)
    part[:, -1] += rows[:, stop:].sum(axis=1)
    return part


def _slice(pixels: range, origin: int = 0) -> slice:
    return slice(pixels.start - origin, pixels.stop - origin)
