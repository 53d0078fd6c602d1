"""Peaks on the device that computed the heatmaps: a few numbers come back instead of pictures.

The same blobs and the same sums as `centroid` of `pipeline.peaks`, for many heatmaps at once.  A
GPU makes heatmaps faster than a CPU core can look at them.

>>> heatmaps = torch.zeros(2, 4, 6)
>>> heatmaps[1, 1, 2:4] = 0.75
>>> centroid_peaks(heatmaps, threshold=0.5)
[None, Peak(x=2.5, y=1.0, score=0.75)]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.peaks import Peak

_SWEEPS = 8  # between two looks at whether anything still changes; each look waits for the device


@torch.inference_mode()
def centroid_peaks(heatmaps: Tensor, threshold: float) -> list[Peak | None]:
    """The ball of each heatmap, as `find_peak(heatmap, "centroid", threshold)` finds it.

    Where two blobs of a heatmap have equal evidence, either may be taken.

    Args:
        heatmaps: float32 `[N, H, W]`, probabilities in [0, 1], on any device.
        threshold: probability that a pixel must exceed, in (0, 1).

    Returns:
        N peaks in heatmap px, pixel centres at integers; None where no pixel exceeds the threshold.

    Raises:
        ValueError: see `blob_numbers`.
    """
    n, height, width = heatmaps.shape
    above = heatmaps > threshold
    blobs = blob_numbers(above).flatten(1)
    weights = torch.where(above, heatmaps, 0).flatten(1).double()
    evidence = weights.new_zeros(n, height * width + 1).scatter_add_(1, blobs, weights)
    strongest = evidence.argmax(1, keepdim=True)
    weights = torch.where(blobs == strongest, weights, 0)
    ys, xs = torch.meshgrid(
        torch.arange(height, device=heatmaps.device),
        torch.arange(width, device=heatmaps.device),
        indexing="ij",
    )
    total = weights.sum(1)
    x, y = (weights @ places.flatten().double() / total for places in (xs, ys))
    found = torch.stack([x, y, weights.amax(1)], dim=1).tolist()
    return [Peak(*numbers) if numbers[2] else None for numbers in found]


def blob_numbers(above: Tensor) -> Tensor:
    """Number the 8-connected blobs of each picture.

    Every pixel starts with a number of its own and takes the largest of its neighbours' until
    nothing changes.

    Args:
        above: bool `[N, H, W]`.

    Returns:
        int64 `[N, H, W]`, 0 outside of blobs, else a number that the pixels of one blob share.

    Raises:
        ValueError: pictures of 2**24 pixels or more.
    """
    height, width = above.shape[1:]
    if height * width >= 2**24:
        raise ValueError(f"{width}x{height}: float32 cannot number so many pixels")
    mask = above.float()
    own = torch.arange(1, height * width + 1, device=above.device, dtype=torch.float32)
    numbers = own.view(1, height, width) * mask
    while True:
        before = numbers
        for _ in range(_SWEEPS):
            numbers = F.max_pool2d(numbers, 3, stride=1, padding=1) * mask
        if torch.equal(numbers, before):
            return numbers.long()
