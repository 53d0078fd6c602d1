"""A quantized network, and a second look in float where it leaves doubt.

Quantization moves every logit a little, so where it lies close to the threshold it may decide
whether there is a ball, or which of two spots is the ball.  A window is in doubt when a threshold a
little lower or higher would find another answer.  What is in doubt is one spot or two, so the float
network drafts a crop around each anew (at 512x288 a fifteenth of the U-Net's work), and what
follows the draft, which is little and sees the whole picture, is computed with those spots in it:

    quantized network  pictures -> heatmaps, draft
    draft network      each crop -> its draft, the middle of which goes into that of the picture
    final network      draft -> the heatmaps that count

The rest of the draft stays the quantized network's, which leaves a little doubt: of 1,561 frames of
training clips 7 have another outcome than in float32 (v5-nano, 14 and 15 without a second look).
Whole windows in float32, where the closer look ends within an eighth of the margin, would leave 0
to 2, and cost full width about 8 % of its speed.

Where a model makes no draft of a crop alone (`pipeline.models.blocks.DraftModel`), the whole window
is computed in float32.

    runtime = SecondLook(OpenVinoRuntime(quantized.network(), spec), model, quantized.margin, 0.5)

This module knows nothing of how a network is quantized, or of what a second look is worth
(`pipeline.runtimes.parity`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from tracknet.pipeline.models.blocks import UNET_STRIDE, DraftModel
from tracknet.pipeline.runtimes.networks import (
    JOINED,
    compile_network,
    draft_network,
    enlargement,
    final_network,
    to_openvino,
)
from tracknet.pipeline.tracking.peaks import Peak, find_peak

if TYPE_CHECKING:
    from tracknet.pipeline.runtimes.runtime import OpenVinoRuntime

Place = tuple[int, int]  # row and column of a picture at the network's size

# Pixels.  A crop sees nothing beyond its edges, and a draft looks far: within 8 px of a doubtful
# spot logits differ from those of the whole picture by up to 0.40 with crops of 96, 0.13 with 112,
# and 0.015 with 128 (v5-nano, validation clips).
CROP = 128
# What the decoders keep of a crop: so much that what they do not see changes nothing that the next
# one takes (three convolutions, or two, and enlarging), and what is used in the end.
KEPT = (96, 64, 48)
USED = 32
NEAR = 8  # so far around a place, at least, its crop is used
MOVED = 2  # pixels: half of the tolerance of published figures


class SecondLook:
    """A quantized network, and the float network where the quantized one leaves doubt.

    What a window gives depends on nothing but the window.

    Attributes:
        windows, again: how many were computed, and how many of them were looked at twice.

    Args:
        fast: the quantized network of the model, which gives the draft, too, if there is one.
        model: the float one.
        margin: how far logits may be off; see `pipeline.runtimes.quantize.Quantized`.
        threshold: probability that a ball must exceed.
        threads: for the second look; None takes all cores.
        precision: of what follows the draft, `f32` or `bf16`.
    """

    def __init__(
        self,
        fast: OpenVinoRuntime,
        model: nn.Module,
        margin: float,
        threshold: float,
        threads: int | None = None,
        precision: str = "f32",
    ) -> None:
        self.spec, self.batch, self.peaks = fast.spec, fast.batch, fast.peaks
        self._fast = fast
        self._look = (
            CloserLook(model, threads, precision)
            if isinstance(model, DraftModel)
            else WholeLook(model, threads)
        )
        self._bounds = around(threshold, margin)
        self.windows = self.again = 0

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 `[n, P, H, W, 3]` -> float32 `[n, targets, H, W]`; n: up to `batch`."""
        outputs = self._fast.outputs(pictures)
        heatmaps = outputs[0]
        for i, of_window in enumerate(heatmaps):
            doubts = (doubtful(heatmap, *self._bounds) for heatmap in of_window)
            if places := apart(chain.from_iterable(doubts)):
                heatmaps[i] = self._look(pictures[i], [output[i] for output in outputs], places)
                self.again += 1
        self.windows += len(pictures)
        return heatmaps


def around(threshold: float, margin: float) -> tuple[float, float]:
    """The probabilities a margin, in logits, below and above a threshold."""
    logit = math.log(threshold / (1 - threshold))
    return 1 / (1 + math.exp(margin - logit)), 1 / (1 + math.exp(-margin - logit))


def doubtful(heatmap: np.ndarray, low: float, high: float) -> list[Place]:
    """The spots between which thresholds from `low` to `high` cannot agree; none: no doubt.

    That is, the ball is found with the lower one alone, or elsewhere (by more than MOVED).

    Args:
        heatmap: float32 `[H, W]`, probabilities.

    >>> heatmap = np.zeros((48, 64), np.float32)
    >>> heatmap[20:23, 30:33] = 0.51
    >>> doubtful(heatmap, 0.45, 0.55)
    [(21, 31)]
    >>> heatmap[8:10, 50:52] = 0.9  # smaller: the ball if the other one is none
    >>> doubtful(heatmap, 0.45, 0.55)
    [(21, 31), (8, 50)]
    >>> doubtful(heatmap, 0.7, 0.8)
    []
    """
    # As published, and as the gate judges: the spot of the largest area.
    seen = find_peak(heatmap, "contour", low)
    if seen is None:
        return []
    sure = find_peak(heatmap, "contour", high)
    if sure is None:
        return [_place(seen)]
    if max(abs(seen.x - sure.x), abs(seen.y - sure.y)) <= MOVED:
        return []
    return [_place(seen), _place(sure)]


def _place(peak: Peak) -> Place:
    return round(peak.y), round(peak.x)


def apart(places: Iterable[Place]) -> list[Place]:
    """The places, without those near one before.

    >>> apart([(20, 30), (28, 25), (20, 39)])
    [(20, 30), (20, 39)]
    """
    kept: list[Place] = []
    for row, column in places:
        if not any(abs(row - r) <= NEAR and abs(column - c) <= NEAR for r, c in kept):
            kept.append((row, column))
    return kept


class WholeLook:
    """The float network, of a whole window.

    Args:
        model: makes heatmaps.
        threads: None takes all cores.
    """

    def __init__(self, model: nn.Module, threads: int | None = None) -> None:
        self._whole = compile_network(to_openvino(model), threads).create_infer_request()

    def __call__(
        self, pictures: np.ndarray, outputs: list[np.ndarray], places: list[Place]
    ) -> np.ndarray:
        """One window, see `CloserLook`; neither outputs nor places are needed."""
        self._whole.infer([pictures[None]])
        return self._whole.get_output_tensor(0).data[0]


class CloserLook:
    """Drafts anew around doubtful places, in float32, and what follows from it.

    Windows in doubt mostly come alone, so all threads work on one.

    Args:
        model: its draft can be made for a crop.
        threads: None takes all cores.
        precision: of what follows the draft, `f32` or `bf16`.  Not of the draft: when whole windows
            were computed again in bfloat16, 99.28 % of the labelled test frames kept their outcome
            (v5-nano; in float32 99.66 %, the gate is 99.5 %).  What follows it is as good in either
            (near doubtful spots logits lie 0.03 off float32's, of the whole window; root of the
            mean square, v5-nano widened to full width, test clips; before they lie 0.11 off).
    """

    def __init__(
        self, model: DraftModel, threads: int | None = None, precision: str = "f32"
    ) -> None:
        self._size = size = (model.spec.height, model.spec.width)
        kept = [(min(n, size[0]), min(n, size[1])) for n in (CROP, *KEPT)]
        self._draft = compile_network(draft_network(model, kept), threads).create_infer_request()
        final = compile_network(final_network(model), threads, precision=precision)
        self._final = final.create_infer_request()
        upsample = model.unet.upsample
        self._enlargements = [
            [enlargement(upsample, length // (2 * stride)).numpy() for length in size]
            for stride in JOINED
        ]

    def __call__(
        self, pictures: np.ndarray, outputs: list[np.ndarray], places: list[Place]
    ) -> np.ndarray:
        """One window again, uint8 `[P, H, W, 3]` -> float32 `[targets, H, W]`, until the next call.

        Args:
            pictures: the window.
            outputs: what the quantized network made of it: heatmaps and draft, `[targets, H, W]`.
            places: where to look.
        """
        draft = outputs[1].copy()
        for place in places:
            rows, columns = (span(p, n, USED) for p, n in zip(place, self._size, strict=True))
            draft[:, _slice(rows), _slice(columns)] = self.draft(pictures, place)
        self._final.infer([draft[None]])
        return self._final.get_output_tensor(0).data[0]

    def draft(self, pictures: np.ndarray, place: Place) -> np.ndarray:
        """What is used of the draft around a place, float32 `[targets, USED, USED]`.

        That of the picture, if it is smaller; until the next call.

        Args:
            pictures: the window, uint8 `[P, H, W, 3]`.
            place: in the picture.
        """
        sizes = (CROP, *KEPT, USED)
        rows, columns = (
            [span(p, length, size) for size in sizes]
            for p, length in zip(place, self._size, strict=True)
        )
        crop = pictures[None, :, _slice(rows[0]), _slice(columns[0])]
        self._draft.infer([np.ascontiguousarray(crop), *self._matrices(rows, columns)])
        found = self._draft.get_output_tensor(0).data[0]
        return found[:, _slice(rows[-1], rows[-2].start), _slice(columns[-1], columns[-2].start)]

    def _matrices(self, rows: list[range], columns: list[range]) -> Iterator[np.ndarray]:
        """What `draft_network` wants for a crop, of what is kept of it, which is given in order."""
        for i, stride in enumerate(JOINED):
            for enlarged, of in zip(self._enlargements[i], (rows, columns), strict=True):
                below, above = scaled_down(of[i], 2 * stride), scaled_down(of[i + 1], stride)
                yield part_of_enlargement(enlarged, below, above)
            for of in (rows, columns):
                crop, above = scaled_down(of[0], stride), scaled_down(of[i + 1], stride)
                yield np.eye(len(crop), dtype=np.float32)[_slice(above, crop.start)]


def span(place: int, length: int, size: int) -> range:
    """What lies around a place along an axis of the picture, from where the poolings begin.

    Args:
        place: pixel, row or column.
        length: of the picture, in pixels.
        size: how much, at most.

    >>> span(100, 288, 128)
    range(40, 168)
    >>> span(287, 288, 128)
    range(160, 288)
    >>> span(10, 48, 128)
    range(0, 48)
    """
    size = min(size, length)
    first = (place - size // 2 + UNET_STRIDE // 2) // UNET_STRIDE * UNET_STRIDE
    first = max(0, min(first, length - size))
    return range(first, first + size)


def part_of_enlargement(whole: np.ndarray, below: range, above: range) -> np.ndarray:
    """How a part is enlarged along an axis, float32 `[len(above), len(below)]`.

    Where an enlarged row is made of one beyond what is there, the last one there stands in for it.

    Args:
        whole: of the picture's axis, `[2n, n]`, see `pipeline.runtimes.networks.enlargement`.
        below: rows that are there.
        above: rows wanted, enlarged.
    """
    rows = whole[_slice(above)]
    part = np.ascontiguousarray(rows[:, _slice(below)])
    part[:, 0] += rows[:, : below.start].sum(axis=1)
    part[:, -1] += rows[:, below.stop :].sum(axis=1)
    return part


def scaled_down(pixels: range, stride: int) -> range:
    return range(pixels.start // stride, pixels.stop // stride)


def _slice(pixels: range, origin: int = 0) -> slice:
    return slice(pixels.start - origin, pixels.stop - origin)
