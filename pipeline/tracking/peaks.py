"""From a heatmap to balls: the peaks of a frame, strongest first.

Which of several peaks is the ball is decided later, by what the frames before and after show
(`tracking.link`).  Two ways to a peak, and the difference matters when numbers are compared:

- `contour` is what published TrackNet figures were measured with: the heatmap is cut to 8 bits and
  thresholded, the largest outer contour is taken, its centroid is truncated to whole pixels.
- `centroid` weighs the pixels of a blob by their probability: sub-pixel, and the strongest blob is
  that with the most evidence, not with the largest area.

>>> heatmap = np.zeros((4, 6), np.float32)
>>> heatmap[1, 2:4] = 0.9
>>> find_peak(heatmap, "centroid", threshold=0.5)
Peak(x=2.5, y=1.0, score=0.8999999761581421)

Coordinates are pixels of the heatmap: origin top left, pixel centres at integers, so the top left
pixel's centre is (0, 0) and its outer corner (-0.5, -0.5).  `in_source` moves peaks to the video.
This module knows nothing of models, windows or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import fit

PeakMode = Literal["contour", "centroid"]
NO_NUMBERS = (
    "the model's heatmaps are no numbers: its weights are broken, or too large for float16; try a "
    "runtime in bfloat16 or float32, such as torch-bf16"
)
PEAK_MODES: tuple[str, ...] = get_args(PeakMode)


class Peak(NamedTuple):
    """A ball in a picture: `x`, `y` in pixels, `score` the highest probability of its blob."""

    x: float
    y: float
    score: float


def find_peak(heatmap: np.ndarray, mode: PeakMode, threshold: float) -> Peak | None:
    """The strongest peak of one heatmap, None when no pixel exceeds the threshold.

    See `find_candidates` for the arguments.
    """
    found = find_candidates(heatmap, mode, threshold, limit=1)
    return found[0] if found else None


def find_candidates(
    heatmap: np.ndarray,
    mode: PeakMode,
    threshold: float,
    limit: int,
    floor: float | None = None,
) -> list[Peak]:
    """The strongest peaks of one heatmap.

    Args:
        heatmap: float32 `[H, W]`, probabilities in [0, 1].
        mode: `contour` or `centroid`.
        threshold: probability that a pixel must exceed, in (0, 1).  In contour mode the
            comparison is made in 8 bits, as published: `uint8(p * 255) > int(threshold * 255)`.
        limit: how many at most.
        floor: faint blobs follow behind the clear ones: those that exceed this lower probability,
            but nowhere the threshold.  None for no faint ones.

    Returns:
        Peaks in heatmap pixels, strongest first: by area (`contour`), by the sum of probabilities
        (`centroid`).

    Raises:
        InputError: the heatmap has values that are no numbers.
    """
    if mode not in _FINDERS:
        raise InputError(f"peak mode {mode!r}: choose one of {', '.join(PEAK_MODES)}")
    find = _FINDERS[mode]
    if np.isnan(heatmap.sum()):
        raise InputError(NO_NUMBERS)
    lowest = threshold if floor is None else min(threshold, floor)
    left, top, width, height = _box(heatmap, lowest)
    part = heatmap[top : top + height, left : left + width]
    found = find(part, threshold, limit)
    if floor is not None and len(found) < limit:
        found += find(_faint(part, threshold, floor), floor, limit - len(found))
    return [Peak(x + left, y + top, score) for x, y, score in found]


def _box(heatmap: np.ndarray, lowest: float) -> tuple[int, int, int, int]:
    """Left, top, width and height of what holds all blobs; most of a heatmap is empty.

    A little lower, because in 8 bits a pixel just below may come out above.
    """
    left, top, width, height = cv2.boundingRect((heatmap > 0.999 * lowest).view(np.uint8))
    return left, top, width, height


def _faint(heatmap: np.ndarray, threshold: float, floor: float) -> np.ndarray:
    """The heatmap without those blobs above the floor that somewhere exceed the threshold."""
    clear = heatmap > threshold
    if not clear.any():
        return heatmap
    n_blobs, labels = cv2.connectedComponents((heatmap > floor).astype(np.uint8), connectivity=8)
    keep = np.ones(n_blobs, np.bool_)
    keep[labels[clear]] = False
    return np.where(keep[labels], heatmap, np.float32(0))


def to_source(
    peak: Peak, network_size: tuple[int, int], source_size: tuple[int, int]
) -> tuple[float, float]:
    """Move a peak from network to source pixels (as displayed); sizes are (width, height).

    The picture lies in the network's input as `pipeline.spec.fit` says, and a peak in the black
    beside it comes out outside the source.  Outer edges coincide, so pixel centres move by half a
    pixel:

    >>> to_source(Peak(0.0, 0.0, 1.0), (512, 288), (1280, 720))
    (0.75, 0.75)
    >>> to_source(Peak(511.0, 287.0, 1.0), (512, 288), (1280, 720))
    (1278.25, 718.25)
    """
    box = fit(source_size, network_size)
    scale_x = source_size[0] / box.width
    scale_y = source_size[1] / box.height
    return (peak.x - box.left + 0.5) * scale_x - 0.5, (peak.y - box.top + 0.5) * scale_y - 0.5


def in_source(
    peaks: Sequence[Peak], network_size: tuple[int, int], source_size: tuple[int, int]
) -> list[Peak]:
    """Peaks in source pixels, see `to_source`, without those that lie outside the picture.

    There is no ball in the black beside a picture.

    >>> peaks = [Peak(90.0, 10.0, 0.9), Peak(255.5, 143.5, 0.8)]
    >>> in_source(peaks, (512, 288), (540, 960))
    [Peak(x=269.5, y=479.5, score=0.8)]
    """
    width, height = source_size
    moved = [Peak(*to_source(peak, network_size, source_size), peak.score) for peak in peaks]
    return [p for p in moved if 0 <= p.x + 0.5 <= width and 0 <= p.y + 0.5 <= height]


def _contour_peaks(heatmap: np.ndarray, threshold: float, limit: int) -> list[Peak]:
    level = int(threshold * 255)
    mask = ((heatmap * 255).astype(np.uint8) > level).astype(np.uint8)
    if not mask.any():
        return []
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(contours, key=cv2.contourArea, reverse=True)[:limit]
    return [_contour_peak(heatmap, contour) for contour in largest]


def _contour_peak(heatmap: np.ndarray, contour: np.ndarray) -> Peak:
    moments = cv2.moments(contour)
    if moments["m00"] > 0:
        x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    else:  # a line or a single pixel encloses no area
        x, y = contour.reshape(-1, 2).mean(axis=0)
    left, top, width, height = cv2.boundingRect(contour)
    score = heatmap[top : top + height, left : left + width].max()
    return Peak(float(int(x)), float(int(y)), float(score))


def _centroid_peaks(heatmap: np.ndarray, threshold: float, limit: int) -> list[Peak]:
    mask = heatmap > threshold
    if not mask.any():
        return []
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    ys, xs = np.nonzero(mask)
    blobs: np.ndarray = labels[ys, xs].astype(np.intp) - 1
    weights = heatmap[ys, xs].astype(np.float64)
    evidence = np.bincount(blobs, weights)
    strongest = np.argsort(-evidence, kind="stable")[:limit]
    x, y = np.bincount(blobs, xs * weights) / evidence, np.bincount(blobs, ys * weights) / evidence
    score = np.zeros(len(evidence))
    np.maximum.at(score, blobs, weights)
    return [Peak(float(x[i]), float(y[i]), float(score[i])) for i in strongest]


_FINDERS = {"contour": _contour_peaks, "centroid": _centroid_peaks}
