"""Peaks on the device that computed the heatmaps: a few numbers come back instead of pictures.

The same blobs and the same sums as `centroid` of `pipeline.peaks`, for many heatmaps at once.  A
GPU makes heatmaps faster than a CPU core can look at them.

>>> heatmaps = torch.zeros(2, 4, 6)
>>> heatmaps[1, 1, 2:4] = 0.75
>>> centroid_peaks(heatmaps, threshold=0.5, limit=2)
[[], [Peak(x=2.5, y=1.0, score=0.75)]]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.peaks import Peak

_SWEEPS = 8  # between two looks at whether anything still changes; each look waits for the device


@torch.inference_mode()
def centroid_peaks(
    heatmaps: Tensor, threshold: float, limit: int, floor: float | None = None
) -> list[list[Peak]]:
    """The strongest peaks of each heatmap, as `find_candidates(heatmap, "centroid", ...)` does it.

    Where two blobs of a heatmap have equal evidence, either may come first.

    Args:
        heatmaps: float32 `[N, H, W]`, probabilities in [0, 1], on any device.
        threshold: probability that a pixel must exceed, in (0, 1).
        limit: how many peaks of a heatmap at most.
        floor: of the faint blobs that follow the clear ones; None for none.

    Returns:
        N lists of peaks in heatmap px, pixel centres at integers, strongest first.

    Raises:
        ValueError: see `blob_numbers`.
    """
    found = _blob_peaks(heatmaps, threshold, limit)
    if floor is None:
        return found
    faint = _blob_peaks(_faint(heatmaps, threshold, floor), floor, limit)
    return [[*ours, *more][:limit] for ours, more in zip(found, faint, strict=True)]


def _faint(heatmaps: Tensor, threshold: float, floor: float) -> Tensor:
    """The heatmaps without those blobs above the floor that somewhere exceed the threshold."""
    blobs = blob_numbers(heatmaps > floor).flatten(1)
    flat = heatmaps.flatten(1)
    height, width = heatmaps.shape[1:]
    highest = flat.new_zeros(len(flat), height * width + 1).scatter_reduce(1, blobs, flat, "amax")
    clear = highest.gather(1, blobs) > threshold
    return torch.where(clear, 0, flat).view_as(heatmaps)


def _blob_peaks(heatmaps: Tensor, threshold: float, limit: int) -> list[list[Peak]]:
    n, height, width = heatmaps.shape
    blobs = blob_numbers(heatmaps > threshold).flatten(1)
    weights = torch.where(blobs > 0, heatmaps.flatten(1), 0).double()
    ys, xs = torch.meshgrid(
        torch.arange(height, device=heatmaps.device),
        torch.arange(width, device=heatmaps.device),
        indexing="ij",
    )
    zeros = weights.new_zeros(n, height * width + 1)
    evidence, x, y = (
        zeros.scatter_add(1, blobs, weights * factor)
        for factor in (weights.new_ones(()), xs.flatten(), ys.flatten())
    )
    score = zeros.scatter_reduce(1, blobs, weights, "amax")
    total, strongest = evidence.topk(limit, 1)
    x, y, score = (of_blob.gather(1, strongest) for of_blob in (x, y, score))
    found = torch.stack([x / total, y / total, score], dim=2)
    return [[Peak(*numbers) for numbers in peaks if numbers[2]] for peaks in found.tolist()]


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
