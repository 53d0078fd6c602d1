"""From a path to its events: peaks of the network's probabilities, in their likeliest order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.flight import turn
from tracknet.pipeline.events.model import (
    FPS,
    KINDS,
    LONGEST_GAP,
    EventNet,
    centred,
    load_net,
    pieces,
    probabilities,
    without_repeats,
)
from tracknet.pipeline.events.order import APART, FLOOR, Peak, likeliest

THRESHOLD = 0.5
_HIT = KINDS.index("hit")
_SPREAD = 2  # frames at 30 per second, to either side, that an event is seen in
_TENNIS_BOUNCES = 0.25  # share of the scores; at least 0.38 in tennis, 0 in badminton


@cache
def _shipped(name: str) -> EventNet:
    return load_net(name)


class Event(NamedTuple):
    """A hit or a bounce.

    Attributes:
        frame: 0-based index of the frame nearest to it, as the network sees it.
        kind: "hit" or "bounce".
        x_px, y_px: where, pixels of the displayed picture.
        score: how likely, in [0, 1].
        offset: frames from `frame` to the moment itself, -1.5 to 1.5; 0 where the path around does
            not tell.
        speed_before, speed_behind: px of the displayed picture per second, just before and just
            behind; in the picture, not on the court.  NaN where it cannot be told.
    """

    frame: int
    kind: str
    x_px: float
    y_px: float
    score: float
    offset: float
    speed_before: float
    speed_behind: float


def find_events(
    xy: NDArray[np.float64],
    size: tuple[int, int],
    fps: float,
    net: EventNet | None = None,
    threshold: float = THRESHOLD,
    cuts: Sequence[int] = (),
) -> list[Event]:
    """The events of a path, in order.

    In frames that repeat the picture before, the ball counts as unseen; see `without_repeats`.

    Args:
        xy: [N, 2], px of the displayed picture; NaN where no ball was seen.
        size: width and height of the displayed picture, px.
        fps: frames per second.
        net: from `load_net` or `train`; None takes the shipped one of the sport that the path looks
            like: badminton where the network that knows both sports finds hardly a bounce, else
            tennis.
        threshold: events have at least this score where the events around do not matter; see
            `order.likeliest`.
        cuts: first frames of camera shots but for the first one, ascending; each shot is a path of
            its own.

    Raises:
        InputError: the path is no [N, 2], or the frame rate is not above 0.
    """
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise InputError(f"a path is an array [N, 2], not {list(xy.shape)}")
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"{fps} frames per second: must be above 0")
    path = np.where(np.isfinite(xy).all(1, keepdims=True), xy, np.nan).astype(np.float64)
    if net is None:
        events = find_events(path, size, fps, _shipped("badminton"), cuts=cuts)
        bounces = sum(event.score for event in events if event.kind == "bounce")
        tennis = bounces >= _TENNIS_BOUNCES * sum(event.score for event in events)
        net = _shipped("tennis" if tennis else "badminton")
    step = max(1, round(fps / FPS))
    found = []
    for first, stop in pairwise((0, *cuts, len(path))):
        shot = without_repeats(path[first:stop])
        likely = peaks(probabilities(net, centred(shot, size), fps), step)
        same_kind = net.same_kind.tolist()
        for frame, kind, score in _chosen(likely, shot, same_kind, threshold, step):
            offset, (x, y), *speeds = turn(shot, frame)
            before, behind = (speed * fps for speed in speeds)
            found.append(Event(first + frame, KINDS[kind], x, y, score, offset, before, behind))
    return found


def _chosen(
    likely: list[Peak],
    shot: NDArray[np.float64],
    same_kind: list[float],
    threshold: float,
    step: int,
) -> list[Peak]:
    """The events among peaks; pieces of path with a long gap between do not matter to each other.

    Args:
        likely: by frame.
        shot: [N, 2]; NaN where no ball was seen.
        same_kind, threshold, step: as in `likeliest`.
    """
    chosen: list[Peak] = []
    frames = [peak.frame for peak in likely]
    for piece in pieces(shot, LONGEST_GAP * step):
        here = likely[bisect_left(frames, piece.start) : bisect_left(frames, piece.stop)]
        chosen += likeliest(here, piece.start, same_kind, threshold, step)
    return chosen


def peaks(found: NDArray[np.float64], step: int = 1) -> list[Peak]:
    """Where events of each kind are likeliest, by frame, from a score of `FLOOR` on.

    The score is the sum of the probabilities around a frame, as a share of the sum that a certain
    event there has.  Where a path begins, a hit has less: what lies before the first sighting is
    missing.  A bounce, or an event where a path ends, gets no such allowance: it finds more false
    events than right ones.

    Args:
        found: [2, N], from `probabilities`.
        step: frames per 1/30 s.
    """
    frames, reach = found.shape[1], _SPREAD * step
    if not frames:
        return []
    event = np.exp(-0.5 * (np.arange(-reach, reach + 1) / step) ** 2)  # see `training.targets`
    in_path = found.any(0)
    # As if a path went on behind its end.
    counted = np.convolve(in_path, np.ones(reach + 1)) > 0
    certain = np.full(found.shape, event.sum())
    certain[_HIT, in_path] = np.convolve(counted, event)[reach : reach + frames][in_path]
    sums = np.stack([np.convolve(row, np.ones(len(event)))[reach:-reach] for row in found])
    score = sums / certain
    rank = score + 1e-3 * found  # a plateau of the sum has its peak where the probability has
    chosen = []
    for kind, frame in np.argwhere(score >= FLOOR):
        around = rank[kind, max(0, frame - APART * step) : frame + APART * step + 1]
        if rank[kind, frame] == around.max():
            chosen.append(Peak(int(frame), int(kind), min(1.0, float(score[kind, frame]))))
    return sorted(chosen)
