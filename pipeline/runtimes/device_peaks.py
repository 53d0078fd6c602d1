"""Peaks of heatmaps that lie on a GPU: only the pixels that count come back, not the pictures.

A ball is some forty pixels of a heatmap's 147,000, and those above the threshold are all that
`tracking.peaks` looks at.  So they alone leave the device, and the very same code finds the very
same peaks in the patch around them.

>>> heatmaps = torch.zeros(2, 4, 6)
>>> heatmaps[1, 1, 2:4] = 0.75
>>> device_peaks(heatmaps, "centroid", threshold=0.5, limit=2)
[[], [Peak(x=2.5, y=1.0, score=0.75)]]
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.tracking.peaks import NO_NUMBERS, Peak, PeakMode, find_candidates


@torch.inference_mode()
def device_peaks(
    heatmaps: Tensor, mode: PeakMode, threshold: float, limit: int, floor: float | None = None
) -> list[list[Peak]]:
    """The peaks of each heatmap, as `find_candidates` finds them.

    Args:
        heatmaps: float32 `[N, H, W]`, probabilities in [0, 1], on any device.
        mode, threshold, limit, floor: see `find_candidates`.

    Returns:
        N lists of peaks in heatmap px, pixel centres at integers, strongest first.

    Raises:
        InputError: a heatmap has values that are no numbers.
    """
    lowest = threshold if floor is None else floor
    places = (~(heatmaps <= lowest)).nonzero()  # so that what is no number is found, too
    evidence = heatmaps[places.unbind(1)]
    # One message; float64 holds both kinds of numbers exactly.
    numbers, ys, xs, values = torch.cat([places.T.double(), evidence[None].double()]).cpu().numpy()
    if np.isnan(values).any():
        raise InputError(NO_NUMBERS)
    cuts = np.searchsorted(numbers, np.arange(len(heatmaps) + 1))
    parts = [slice(*cut) for cut in pairwise(cuts)]
    rest = (mode, threshold, limit, floor)
    return [_patch_peaks(ys[part], xs[part], values[part], *rest) for part in parts]


def _patch_peaks(
    ys: np.ndarray,
    xs: np.ndarray,
    values: np.ndarray,
    mode: PeakMode,
    threshold: float,
    limit: int,
    floor: float | None,
) -> list[Peak]:
    """The peaks of one heatmap that is 0 but for some pixels."""
    if not len(values):
        return []
    rows, columns = ys.astype(np.intp), xs.astype(np.intp)
    top, left = rows.min(), columns.min()
    patch = np.zeros((rows.max() - top + 1, columns.max() - left + 1), np.float32)
    patch[rows - top, columns - left] = values
    return [
        Peak(float(peak.x + left), float(peak.y + top), peak.score)
        for peak in find_candidates(patch, mode, threshold, limit, floor)
    ]
