"""From candidates to one ball per frame: what the frames before and after say.

A heatmap often shows more than one bright spot, or a ball that is too faint to count alone.  Over
time they differ: a ball moves on from where it was, a shoe or a lamp comes from nowhere.  `link`
chooses at most one candidate of each frame, so that evidence and continuity together are greatest:

    sum over chosen candidates of  log-odds of its score, above the threshold's
    + for each step from one chosen candidate to the next
          -(distance / (reach * frames between))^2 - gap_cost * frames skipped
    - start_cost for each candidate that begins a track

A step spans at most `gap` frames; behind a longer silence a new track begins, which costs.  So a
faint ball between two clear ones is kept, and a lone flash is dropped unless it is bright.  The
best choice over a camera shot is found exactly (dynamic programming over candidates, in one
pass), so it does not depend on how the video was cut into shards.

>>> rally = [[(10, 10, 0.9)], [(200, 90, 0.7), (14, 11, 0.45)], [(17, 12, 0.8)], [], [(60, 9, 0.9)]]
>>> link(Candidates.of(rally), LinkSettings(), threshold=0.5).tolist()
[0, 2, 3, -1, 4]

Where the ball is lost for a moment (behind a player, too slow to stand out) its way is usually
plain from what was seen before and after: `bridge` fills such gaps, where one parabola fits both.

A lamp, a logo or the dot of a scoreboard can be as bright as a ball, but it is always there.
Candidates that stand at one place in half of the frames around them, `fixtures`, are never chosen.

Distances are in pixels of a picture 512 wide, the network's.  This module knows nothing of
heatmaps, videos or tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.errors import InputError

_LOG_ODDS_LIMIT = 5.0  # a network's certainty beyond this is no further evidence
_MARGIN = 1e-6
_FIXTURE_CELL_PX = 2.0
_FIXTURE_SHARE = 0.5
_CELLS = 1 << 20  # more rows of cells than a picture has
_BRIDGE_REACH = 4  # frames before and behind a gap whose sightings must fit
_BRIDGE_LEAST = 2  # of them, on either side
_BRIDGE_ERROR_PX = 5.0


class Candidates(NamedTuple):
    """The candidates of all frames of a video, one behind the other.

    Attributes:
        offsets: int64 [N + 1]; those of frame t are offsets[t] to offsets[t + 1] - 1.
        xy: float64 [M, 2], px of a picture 512 wide.
        score: float64 [M], in (0, 1).
    """

    offsets: NDArray[np.int64]
    xy: NDArray[np.float64]
    score: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Sequence[Sequence[tuple[float, float, float]]]) -> Candidates:
        """From a list of (x, y, score) per frame, in single precision like staged shards."""
        offsets = np.array([0, *accumulate(len(frame) for frame in frames)], np.int64)
        rows = np.array([one for frame in frames for one in frame], np.float32).reshape(-1, 3)
        return cls(offsets, rows[:, :2].astype(np.float64), rows[:, 2].astype(np.float64))

    def between(self, first: int, stop: int) -> Candidates:
        """Those of the frames `first` to `stop` - 1."""
        offsets = self.offsets[first : stop + 1]
        here = slice(offsets[0], offsets[-1])
        return Candidates(offsets - offsets[0], self.xy[here], self.score[here])


@dataclass(frozen=True)
class LinkSettings:
    """What a track is; the defaults were chosen on training and validation clips.

    Attributes:
        floor: faint candidates need this share of the threshold.
        candidates: of a frame at most.
        gap: frames that a step, or a bridge, spans at most.
        reach: px of a picture 512 wide; a ball that moves so far in a frame costs 1.
        gap_cost: for each frame that a step skips.
        start_cost: for beginning a track.
        fixture_frames: frames around a candidate, half before and half behind, that are asked
            whether it is a fixture; it must have been there in half of them.
        fixture_least: and in so many frames, so that a ball at rest in a short clip is none.
    """

    floor: float = 0.3
    candidates: int = 4
    gap: int = 7
    reach: float = 25.0
    gap_cost: float = 0.5
    start_cost: float = 4.0
    fixture_frames: int = 600
    fixture_least: int = 60

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 1:
            raise InputError(f"floor {self.floor}: must lie between 0 and 1")
        if self.candidates < 1 or self.gap < 1 or self.reach <= 0:
            raise InputError("candidates, gap and reach must be above 0")


def link(candidates: Candidates, settings: LinkSettings, threshold: float) -> NDArray[np.int64]:
    """Choose the ball of each frame.

    Args:
        candidates: of a whole video; none where nothing was seen or nothing is known.
        settings: what a track is.
        threshold: score at which a candidate's evidence is 0.

    Returns:
        int64 [N], the number of a candidate in `candidates`, or -1.
    """
    offsets, xy, score = candidates
    frame_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    evidence = _log_odds(score) - _log_odds(np.array(threshold))
    value = np.clip(evidence, -_LOG_ODDS_LIMIT, _LOG_ODDS_LIMIT)  # of the best choice ending here
    value[fixtures(candidates, settings)] = -np.inf
    came_from = np.full(len(score), -1)
    ended, ended_at = 0.0, -1  # the best choice so far, and its last candidate
    for frame in np.unique(frame_of):
        here = slice(offsets[frame], offsets[frame + 1])
        before = slice(offsets[max(0, frame - settings.gap)], here.start)
        best = np.full(here.stop - here.start, ended - settings.start_cost)
        came_from[here] = ended_at
        if before.start < before.stop:
            span = frame - frame_of[before]
            onward = value[before, None] + _steps(xy[before], xy[here], span, settings)
            goes_on = onward.max(0) > best
            best = np.maximum(best, onward.max(0))
            came_from[here][goes_on] = before.start + onward.argmax(0)[goes_on]
        value[here] += best
        if value[here].max() > ended:
            ended, ended_at = value[here].max(), here.start + int(value[here].argmax())
    chosen = np.full(len(offsets) - 1, -1)
    while ended_at >= 0:
        chosen[frame_of[ended_at]] = ended_at
        ended_at = came_from[ended_at]
    return chosen


def fixtures(candidates: Candidates, settings: LinkSettings) -> NDArray[np.bool_]:
    """Which candidates stand where one is nearly always.

    Places are compared on a grid of 2 px: a candidate is at the same place as those in its cell
    and in the eight around it.

    >>> lamp_and_ball = Candidates.of([[(100, 50, 0.9), (3 * t, 80, 0.6)] for t in range(80)])
    >>> fixtures(lamp_and_ball, LinkSettings()).tolist() == [True, False] * 80
    True

    Args:
        candidates: of a whole video.
        settings: `fixture_frames` and `fixture_least` say what "nearly always" is.

    Returns:
        bool [M].
    """
    offsets, xy, _ = candidates
    n = len(offsets) - 1
    frame_of = np.repeat(np.arange(n), np.diff(offsets))
    first = np.clip(frame_of - settings.fixture_frames // 2, 0, n - settings.fixture_frames)
    first = np.maximum(first, 0)
    stop = np.minimum(first + settings.fixture_frames, n)
    column, row = np.floor(xy / _FIXTURE_CELL_PX).astype(np.int64).T
    cells = [(column + dx) * _CELLS + row + dy for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    # One number for cell and frame, in order, so that counting is two binary searches.
    there = np.unique(cells[4] * n + frame_of)
    present = sum(
        np.searchsorted(there, cell * n + stop) - np.searchsorted(there, cell * n + first)
        for cell in cells
    )
    least = np.maximum(settings.fixture_least, _FIXTURE_SHARE * (stop - first))
    found: NDArray[np.bool_] = present >= least
    return found


def bridge(track: NDArray[np.float64], gap: int) -> NDArray[np.float64]:
    """Fill short gaps in a track.

    A ball in flight follows a parabola, nearly so in the picture.  A gap is filled where one, by
    least squares through the sightings around, passes each of them closely; behind a hit or a
    bounce it does not.

    >>> seen = np.array([(t, t * t) for t in range(8)], float)
    >>> seen[3:5] = np.nan
    >>> bridge(seen, gap=4)[3:5].round(6).tolist()
    [[3.0, 9.0], [4.0, 16.0]]

    Args:
        track: [N, 2], px of a picture 512 wide; NaN where no ball was seen.
        gap: frames that a bridge spans at most, so that it fills one less.

    Returns:
        [N, 2], the same with gaps filled; a place may lie outside the picture.
    """
    filled = track.copy()
    sightings = np.flatnonzero(~np.isnan(track[:, 0]))
    spans = np.diff(sightings)
    for i in np.flatnonzero((spans > 1) & (spans <= gap)):
        last, first = sightings[i], sightings[i + 1]
        before = sightings[(sightings > last - _BRIDGE_REACH) & (sightings <= last)]
        behind = sightings[(sightings >= first) & (sightings < first + _BRIDGE_REACH)]
        if min(len(before), len(behind)) < _BRIDGE_LEAST:
            continue
        around = np.concatenate([before, behind])
        way = np.polynomial.Polynomial.fit
        x, y = (way(around, track[around, axis], 2) for axis in (0, 1))
        fit = np.column_stack([x(around), y(around)])
        if np.abs(fit - track[around]).max() < _BRIDGE_ERROR_PX:
            lost = np.arange(last + 1, first)
            filled[lost] = np.column_stack([x(lost), y(lost)])
    return filled


def _steps(
    before: NDArray[np.float64],
    here: NDArray[np.float64],
    span: NDArray[np.int64],
    settings: LinkSettings,
) -> NDArray[np.float64]:
    """[K, L]: what it is worth to go from each of K candidates to each of L, `span` [K] later."""
    squared = ((here[None] - before[:, None]) ** 2).sum(2)
    free = (settings.reach * span[:, None]) ** 2
    return -squared / free - settings.gap_cost * (span[:, None] - 1)


def _log_odds(score: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(score, _MARGIN, 1 - _MARGIN)
    return np.log(clipped) - np.log1p(-clipped)
