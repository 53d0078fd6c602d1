"""Where and when a path turns, and how fast the ball is on either side: two local fits.

Between two events a ball in flight follows a parabola, nearly so in the picture.  One is fitted to
the sightings before a frame and one to those behind it; where they come closest, the ball turned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

REACH = 6  # frames to either side that are fitted
_FOR_PARABOLA = 5  # sightings; fewer give a straight line
_SEARCH = 1.5  # frames around the event
_STEPS = 61


class Turn(NamedTuple):
    """How a path turns.

    Attributes:
        offset: frames from the frame asked for, -1.5 to 1.5; 0 where it cannot be told.
        xy: place, in the unit of the path; NaN where nothing is known.
        before, behind: speed on either side, units per frame; NaN where it cannot be told.
    """

    offset: float
    xy: tuple[float, float]
    before: float
    behind: float


def turn(path: NDArray[np.float64], frame: int) -> Turn:
    """How a path turns at a frame.

    >>> found = turn(np.array([(t, abs(3.25 - t) * 4) for t in range(8)]), 3)
    >>> round(found.offset, 2), round(found.before, 2)
    (0.25, 4.12)

    Args:
        path: [N, 2]; NaN where no ball was seen.
        frame: near the turn.
    """
    seen = np.flatnonzero(~np.isnan(path[:, 0]))
    came = _fit(path, seen[(seen >= frame - REACH) & (seen < frame)], frame)
    goes = _fit(path, seen[(seen > frame) & (seen <= frame + REACH)], frame)
    if came is None or goes is None:
        near = [
            np.interp(frame, seen, path[seen, axis]) if len(seen) else np.nan for axis in (0, 1)
        ]
        return Turn(0.0, (near[0], near[1]), _speed(came, 0.0), _speed(goes, 0.0))
    times = np.linspace(-_SEARCH, _SEARCH, _STEPS)
    apart = sum((a(times) - b(times)) ** 2 for a, b in zip(came, goes, strict=True))
    offset = float(times[np.argmin(apart)])
    x, y = ((a(offset) + b(offset)) / 2 for a, b in zip(came, goes, strict=True))
    return Turn(offset, (float(x), float(y)), _speed(came, offset), _speed(goes, offset))


def _fit(
    path: NDArray[np.float64], seen: NDArray[np.int64], frame: int
) -> tuple[Polynomial, Polynomial] | None:
    if len(seen) < 2:
        return None
    degree = 2 if len(seen) >= _FOR_PARABOLA else 1
    x, y = (Polynomial.fit(seen - frame, path[seen, axis], degree).convert() for axis in (0, 1))
    return x, y


def _speed(fit: tuple[Polynomial, Polynomial] | None, time: float) -> float:
    if fit is None:
        return float("nan")
    x, y = fit
    return float(np.hypot(x.deriv()(time), y.deriv()(time)))
