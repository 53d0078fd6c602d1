"""Camera shots: where the picture changes for another, and what each shot shows.

    cuts = find_cuts(thumbnails, decoded, fps=30.0)
    views = views_of(thumbnails, decoded, cuts, seen)

Each decoded frame leaves a *thumbnail*, 16x9 px in RGB, and all decisions are made on those of the
whole video, so they do not depend on how it was cut into shards.  Pictures are compared by their
correlation, since a change of brightness is no other picture; those without contrast (black, white)
are passed over.

A *hard cut* parts two groups of frames: each of the frames just before it differs from each just
behind it.  So one that returns to its picture within the group, as after a flash, is none, nor is a
repeated frame.  The difference must also stand out among those around it: in a fast pan all frames
differ.

A *fade* (dissolve, or through black or white) is found where all frames of a span are sums of its
first and its last one.  The cut is where the last one begins to outweigh the first.

The *rally view* is the picture that most frames with a ball look like; all else is other.

This module knows nothing of videos, candidates or tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.tracking.engine import FrameChunk

RALLY, OTHER = "rally", "other"
THUMBNAIL_BYTES = 16 * 9 * 3

_WIDTH, _HEIGHT = 16, 9
_FASTEST = 120.0  # frames per second; clocks may be broken
_GROUP_S = 1 / 6  # frames before and behind a hard cut; longer than a flash
_LEAST = 2  # frames of a shot
_CHANGE = 0.35  # difference of two pictures, 1.4 where they have nothing in common
_STANDS_OUT = 2.0  # times what differs around
_FADES_S = (0.27, 0.45)  # half of the spans that are looked at
_FADE_CHANGE = 0.4  # from its first to its last frame
_UNEXPLAINED = 0.1  # of the squared change, at most, in four of five frames of a fade
_SLOPE = 1 / 6  # a small change must be explained better: a slow pan nearly is
_FLAT = 8.0  # levels; a picture of less contrast is passed over
_BLOCK = 4096  # frames that are compared at once
_SAMPLES = 25  # frames of a shot that stand for its view
_ALIKE = 0.6  # correlation of two shots of one view

Thumbnails = NDArray[np.uint8]


class Shots(NamedTuple):
    """The shots of a video.

    Attributes:
        cuts: first frames of all but the first shot, ascending.
        views: of each shot, "rally" or "other".
    """

    cuts: list[int]
    views: list[str]

    def number(self, n_frames: int) -> NDArray[np.int64]:
        """Of each frame the 0-based number of its shot.

        >>> Shots([2, 3], ["rally", "other", "rally"]).number(5).tolist()
        [0, 0, 1, 2, 2]
        """
        return np.searchsorted(self.cuts, np.arange(n_frames), side="right")


def thumbnails_of(chunk: FrameChunk) -> list[Thumbnails | None]:
    """What the owned frames of a chunk leave: uint8 [9, 16, 3] RGB, None where one is missing."""
    return [
        None if frame in chunk.missing else _thumbnail(chunk.pictures[frame - chunk.first])
        for frame in chunk.owned
    ]


def _thumbnail(picture: Thumbnails) -> Thumbnails:
    """Means of a part of the pixels; all of them would cost eight times as much."""
    few = cv2.resize(picture, (4 * _WIDTH, 4 * _HEIGHT), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(few, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def find_cuts(thumbnails: Thumbnails, decoded: NDArray[np.bool_], fps: float) -> list[int]:
    """The first frames of all shots but the first one, ascending.

    A cut among frames without a picture, or without contrast, is put in their middle.

    Args:
        thumbnails: uint8 [N, 432] of all frames of a video; what stands at a frame without a
            picture is ignored.
        decoded: bool [N], whether the frame has a picture.
        fps: frames per second.
    """
    blocks = range(0, len(thumbnails), _BLOCK)
    parts = [thumbnails[first : first + _BLOCK].std(1, dtype=np.float32) for first in blocks]
    contrast = np.concatenate([*parts, np.zeros(0)]) * decoded
    frames = np.flatnonzero(contrast >= _FLAT)
    fps = min(fps, _FASTEST)
    group = max(3, round(_GROUP_S * fps))
    spans = [max(4, round(seconds * fps)) for seconds in _FADES_S]
    margin = 2 * max(group, *spans)
    changes, fades = np.zeros(len(frames)), np.zeros(len(frames), np.bool_)
    for first in range(0, len(frames), _BLOCK):
        start, here = max(0, first - margin), slice(first, first + _BLOCK)
        around = frames[start : first + _BLOCK + margin]
        likeness = _correlations(thumbnails[around], margin)
        inner = slice(first - start, first - start + len(frames[here]))
        changes[here] = _changes(likeness, group)[inner]
        for span in spans:
            fades[here] |= _fades(likeness, contrast[around], span)[inner]
    changes[:_LEAST] = changes[len(frames) - _LEAST + 1 :] = 0
    found: list[int] = []
    for cut in _hard(changes, group):
        if all(abs(cut - other) > group for other in found):
            found.append(cut)
    for cut in _middles(fades):
        if all(abs(cut - other) > 2 * group for other in found):
            found.append(cut)
    return [int(frames[cut - 1] + frames[cut] + 1) // 2 for cut in sorted(found)]


def _correlations(thumbnails: Thumbnails, reach: int) -> NDArray[np.float32]:
    """At [t, k] that of pictures t and t + k, [N, reach + 1]; 0 behind the last picture."""
    n = len(thumbnails)
    units = thumbnails.astype(np.float32)
    units -= units.mean(1, keepdims=True)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    found = np.zeros((n, reach + 1), np.float32)
    for k in range(min(reach + 1, n)):
        found[: n - k, k] = np.einsum("ij,ij->i", units[: n - k], units[k:])
    return found


def _difference(correlation: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far two pictures of contrast 1 are apart."""
    difference: NDArray[np.float32] = np.sqrt(np.maximum(2 - 2 * correlation, 0))
    return difference


def _changes(likeness: NDArray[np.float32], group: int) -> NDArray[np.float32]:
    """The least difference of one of `group` frames before frame t to one from t on, [N]."""
    n = len(likeness)
    found = np.full(n, np.inf, np.float32)
    for k in range(1, min(2 * group, n)):
        differences = _difference(likeness[: n - k, k])
        for before in range(max(1, k - group + 1), min(group, k) + 1):
            here = found[before : before + n - k]
            np.minimum(here, differences, out=here)
    found[np.isinf(found)] = 0
    return found


def _hard(changes: NDArray[np.float64], group: int) -> list[int]:
    """Where changes are large and stand out among those around, the largest first.

    Two changes around may be as large: there are short shots, and flashes between shots.
    """
    large = np.flatnonzero(changes >= _CHANGE)
    kept = []
    for cut in large[np.argsort(-changes[large], kind="stable")]:
        around = np.delete(changes[max(0, cut - group) : cut + group + 1], min(cut, group))
        if changes[cut] >= _STANDS_OUT * np.sort(around)[:-2].max(initial=0):
            kept.append(int(cut))
    return kept


def _fades(
    likeness: NDArray[np.float32], contrast: NDArray[np.float64], span: int
) -> NDArray[np.bool_]:
    """Whether frame t is within one of the middle of a fade, from what is `span` around it, [N].

    With a and b the first and the last picture, each picture of a fade is p a + q b, by least
    squares.  Correlations are all that this takes, and each picture's contrast.
    """
    n = len(likeness) - 2 * span
    found = np.zeros(len(likeness), np.bool_)
    if n <= 0:
        return found
    steps = np.arange(2 * span + 1)
    at = np.arange(n)[:, None]
    change = _difference(likeness[:n, 2 * span])
    near = change > _FADE_CHANGE
    at, change = at[near], change[near]
    ab = likeness[at, 2 * span]
    sa, sb = likeness[at, steps], likeness[at + steps, 2 * span - steps]
    p, q = (sa - ab * sb) / (1 - ab**2), (sb - ab * sa) / (1 - ab**2)
    unexplained = np.quantile(1 - p * sa - q * sb, 0.8, axis=1) / change**2
    mixed = unexplained <= np.minimum(_UNEXPLAINED, _SLOPE * (change - _FADE_CHANGE))
    lead = p / contrast[at] - q / contrast[at + 2 * span]
    turns = (lead[:, span - 2] >= 0) & (lead[:, span + 1] < 0)
    found[span : span + n][near] = turns & mixed
    return found


def _middles(found: NDArray[np.bool_]) -> list[int]:
    """The middle of each run of True.

    >>> _middles(np.array([0, 1, 1, 1, 0, 1], bool))
    [2, 5]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], found, [False]]).astype(np.int8)))
    return [int(first + stop) // 2 for first, stop in edges.reshape(-1, 2)]


def views_of(
    thumbnails: Thumbnails,
    decoded: NDArray[np.bool_],
    cuts: Sequence[int],
    seen: NDArray[np.bool_],
) -> list[str]:
    """What each shot shows: "rally", or "other".

    The rally view is the one that most frames with a ball have, or most frames where no ball is.

    Args:
        thumbnails, decoded: as in `find_cuts`.
        cuts: from `find_cuts`.
        seen: bool [N], whether the frame has a ball.
    """
    spans = list(pairwise((0, *cuts, len(decoded))))
    typical = np.stack([_typical(thumbnails[a:b][decoded[a:b]]) for a, b in spans])
    alike = (typical @ typical.T >= _ALIKE) | np.eye(len(spans), dtype=np.bool_)
    balls = np.array([seen[a:b].sum() for a, b in spans])
    frames = np.array([b - a for a, b in spans])
    weight = alike @ np.column_stack([balls, frames])
    rally = alike[max(range(len(spans)), key=lambda shot: (*weight[shot], -shot))]
    return [RALLY if one else OTHER for one in rally]


def _typical(pictures: Thumbnails) -> NDArray[np.float64]:
    """The median of some pictures, less its mean level, of length 1; zeros where there is none."""
    if not len(pictures):
        return np.zeros(THUMBNAIL_BYTES)
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _SAMPLES)).round().astype(int)
    picture = np.median(pictures[chosen].reshape(len(chosen), -1), axis=0)
    picture -= picture.mean()
    length = np.linalg.norm(picture)
    return picture / length if length else picture
