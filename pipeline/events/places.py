"""Events on the court: where bounces lie in metres, and how fast hits were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.events.court import Court
from tracknet.pipeline.events.find import Event
from tracknet.pipeline.events.model import without_repeats
from tracknet.pipeline.events.speed import speed_at_hit


class Place(NamedTuple):
    """What a court adds to an event; None where it is not known.

    Attributes:
        x_m, y_m: of a bounce, metres from the middle of the court; see `standards`.
        in_court: of a bounce, whether it touched a line or what they enclose.
        speed_kmh: of a hit that a bounce follows, just behind it.
    """

    x_m: float | None = None
    y_m: float | None = None
    in_court: bool | None = None
    speed_kmh: float | None = None


def places(
    events: Sequence[Event],
    xy: NDArray[np.float64],
    width: int,
    fps: float,
    court_at: Callable[[int], Court | None],
) -> list[Place]:
    """What the court says of each event.

    Args:
        events: by frame.
        xy: [N, 2], px, the path that they were found in; NaN where no ball was seen.
        width: of the picture, px.
        fps: frames per second.
        court_at: the court in a frame, the same object for all frames that show the same one.
    """
    path = without_repeats(xy)
    found = []
    for event, following in zip_longest(events, events[1:]):
        court = court_at(event.frame)
        if court is None:
            found.append(Place())
        elif event.kind == "bounce":
            found.append(_bounce(event, court))
        elif following and following.kind == "bounce" and court_at(following.frame) is court:
            found.append(Place(speed_kmh=_hit(event, following, path, width, fps, court)))
        else:
            found.append(Place())
    return found


def _bounce(event: Event, court: Court) -> Place:
    standard = court.standard
    at = np.array([[event.x_px, event.y_px]])
    x, y = court.to_metres(at, standard.ball_radius)[0].tolist()
    out = max(abs(x) - standard.half_width, abs(y) - standard.half_length)
    if not out <= standard.run_off:  # NaN above the horizon
        return Place()
    return Place(x, y, out <= standard.ball_radius)


def _hit(
    hit: Event, bounce: Event, path: NDArray[np.float64], width: int, fps: float, court: Court
) -> float | None:
    frames = np.arange(hit.frame + 1, bounce.frame)
    times = np.append(hit.frame + hit.offset, frames) - (bounce.frame + bounce.offset)
    flight = path[hit.frame + 1 : bounce.frame]
    return speed_at_hit(court, flight, times / fps, (bounce.x_px, bounce.y_px), width)
