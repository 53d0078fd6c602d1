"""The ball of each frame: chosen among its candidates, and bridged where it is hidden for a moment.

    balls = choose_balls(Candidates.of(peaks_of_each_frame), decoded, (1280, 720), settings)
    balls.xy[balls.seen]

Coordinates are pixels of the displayed picture.  This module knows nothing of heatmaps, videos or
tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.tracking.engine import DetectorSettings
from tracknet.pipeline.tracking.link import Candidates, bridge, link
from tracknet.pipeline.tracking.shots import Shots, find_cuts, views_of

_LINK_WIDTH = 512  # px; see `pipeline.tracking.link`


@dataclass(frozen=True)
class Balls:
    """At most one ball for each of N frames.

    Attributes:
        decoded: bool [N]; False where nothing is known, because the frame could not be decoded.
        seen: bool [N]; a candidate was chosen.
        xy: float64 [N, 2], px of the displayed picture; NaN where there is no ball.  A frame with a
            place that was not seen is bridged.
        score: float64 [N]; NaN where no ball was seen.
    """

    decoded: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    xy: NDArray[np.float64]
    score: NDArray[np.float64]

    @property
    def bridged(self) -> NDArray[np.bool_]:
        """bool [N]; a place was filled in between sightings."""
        return ~self.seen & ~np.isnan(self.xy[:, 0])


def choose_in_shots(
    candidates: Candidates,
    decoded: NDArray[np.bool_],
    thumbnails: NDArray[np.uint8],
    size: tuple[int, int],
    fps: float,
    settings: DetectorSettings,
) -> tuple[Balls, Shots]:
    """The shots of a video, and the balls in each; see `find_cuts` and `choose_balls`."""
    cuts = find_cuts(thumbnails, decoded, fps)
    balls = choose_balls(candidates, decoded, size, settings, cuts)
    return balls, Shots(cuts, views_of(thumbnails, decoded, cuts, balls.seen))


def choose_balls(
    candidates: Candidates,
    decoded: NDArray[np.bool_],
    size: tuple[int, int],
    settings: DetectorSettings,
    cuts: Sequence[int] = (),
) -> Balls:
    """One ball per frame, or none, out of the candidates.

    Each camera shot is linked alone: no step, bridge or fixture reaches behind a cut.  A bridge may
    lead out of the picture, as a lob does; there the ball is absent.

    Args:
        candidates: of all N frames of a video, px of the displayed picture.
        decoded: bool [N]; whether the frame has a picture.
        size: width and height of the displayed picture, px.
        settings: how candidates were found, and how the ball is chosen.
        cuts: first frames of the shots but for the first one, ascending.
    """
    shots = [
        _choose(candidates.between(first, stop), decoded[first:stop], size, settings)
        for first, stop in pairwise((0, *cuts, len(decoded)))
    ]
    names = [field.name for field in fields(Balls)]
    return Balls(*(np.concatenate([getattr(one, name) for one in shots]) for name in names))


def _choose(
    candidates: Candidates,
    decoded: NDArray[np.bool_],
    size: tuple[int, int],
    settings: DetectorSettings,
) -> Balls:
    """The balls of one shot."""
    offsets, xy, scale = candidates.offsets, candidates.xy, _LINK_WIDTH / size[0]
    if settings.link is None:
        chosen, gap = np.where(np.diff(offsets) > 0, offsets[:-1], -1), 1
    else:
        scaled = candidates._replace(xy=xy * scale)
        chosen, gap = link(scaled, settings.link, settings.threshold), settings.link.gap
    seen = chosen >= 0
    place = np.full((len(chosen), 2), np.nan)
    place[seen] = xy[chosen[seen]]
    place = np.where(seen[:, None], place, bridge(place * scale, gap) / scale)
    inside = ((place >= -0.5) & (place < np.array(size) - 0.5)).all(1)  # false where NaN
    place[~(decoded & (seen | inside))] = np.nan
    score = np.full(len(chosen), np.nan)
    score[seen] = candidates.score[chosen[seen]]
    return Balls(decoded, seen & decoded, place, score)
