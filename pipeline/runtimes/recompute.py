"""INT8 with a safety net: windows with uncertain results are recomputed in float32.

Quantization moves every logit a little, so where one lies close to the threshold it may decide
whether there is a ball, or which of two spots is the ball.  A result is *uncertain* when a
threshold a margin lower or higher would find another ball.

    fast = OpenVinoRuntime(quantized.network(), spec)
    runtime = RecomputingRuntime(fast, to_openvino(model), margin, 0.5)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tracknet.pipeline.runtimes.openvino_runtime import OpenVinoRuntime
from tracknet.pipeline.tracking.peaks import find_peak

if TYPE_CHECKING:
    import openvino

MOVED = 2  # px at network size: half of the tolerance of published figures


class RecomputingRuntime:
    """A quantized network, and the float32 network for windows with uncertain results.

    What a window gives depends on nothing but the window.

    Attributes:
        windows, recomputed: how many were computed, and how many of them again in float32.

    Args:
        quantized: computes the INT8 network.
        network: the float network, with a batch of 1.
        margin: how far logits may be off; see `pipeline.runtimes.quantize.Quantized`.
        threshold: probability that a ball must exceed.
        threads: for recomputing; None takes all cores.
    """

    def __init__(
        self,
        quantized: OpenVinoRuntime,
        network: openvino.Model,
        margin: float,
        threshold: float,
        threads: int | None = None,
    ) -> None:
        self.spec, self.batch, self.peaks = quantized.spec, quantized.batch, quantized.peaks
        self._quantized = quantized
        # Uncertain windows mostly come alone, so all threads work on one.
        self._exact = OpenVinoRuntime(network, self.spec, threads, streams=1)
        self._bounds = around(threshold, margin)
        self.windows = self.recomputed = 0

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 `[n, P, H, W, 3]` -> float32 `[n, targets, H, W]`; n: up to `batch`."""
        heatmaps = self._quantized(pictures)
        for i, of_window in enumerate(heatmaps):
            if any(uncertain(heatmap, *self._bounds) for heatmap in of_window):
                heatmaps[i] = self._exact(pictures[i : i + 1])[0]
                self.recomputed += 1
        self.windows += len(pictures)
        return heatmaps


def around(threshold: float, margin: float) -> tuple[float, float]:
    """The probabilities a margin, in logits, below and above a threshold."""
    logit = math.log(threshold / (1 - threshold))
    return 1 / (1 + math.exp(margin - logit)), 1 / (1 + math.exp(-margin - logit))


def uncertain(heatmap: np.ndarray, low: float, high: float) -> bool:
    """Whether thresholds from `low` to `high` find different balls, or a ball and none.

    The ball is the spot of the largest area, as published and as the accuracy gate has it.

    Args:
        heatmap: float32 `[H, W]`, probabilities.

    >>> heatmap = np.zeros((48, 64), np.float32)
    >>> heatmap[20:23, 30:33] = 0.51
    >>> uncertain(heatmap, 0.45, 0.55), uncertain(heatmap, 0.45, 0.5), uncertain(heatmap, 0.6, 0.7)
    (True, False, False)
    >>> heatmap[8:10, 50:52] = 0.9  # smaller: the ball only if the other one is none
    >>> uncertain(heatmap, 0.45, 0.55)
    True
    """
    seen = find_peak(heatmap, "contour", low)
    if seen is None:
        return False
    sure = find_peak(heatmap, "contour", high)
    return sure is None or max(abs(seen.x - sure.x), abs(seen.y - sure.y)) > MOVED
