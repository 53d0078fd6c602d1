"""How fast a ball leaves a racket: a flight in three dimensions, fitted to its path in the picture.

A flight that ends with a bounce ends at a place that is known, on the ground.  Gravity and the drag
of the air are known, too, so few numbers are left, and each frame of the path gives two equations.
(Kim, Seo, Hong, "Physics-based 3D position analysis of a soccer ball from monocular image
sequences", ICCV 1998, and many since.)

A ball that flies along the line of sight shows its distance by little else than by how it falls,
and spin makes it fall otherwise.  So the fit also knows what is usual: how high balls are hit, and
how much spin they have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.events.court import Court

Array = NDArray[np.float64]

GRAVITY = np.array([0.0, 0.0, -9.81])  # m/s2
FEWEST = 6  # sightings of a flight
LARGEST_RMS = 0.004  # of the picture's width; what fits worse was no such flight
LARGEST_DOUBT = 0.15  # standard error of a speed, as a share of it
FASTEST_M_S = 80.0

# Number of a flight: velocity at the bounce, m/s; s by which the bounce is earlier; spin, that is
# its lift over its drag, above 0 for topspin.
_VELOCITY, _MOMENT, _SPIN = slice(3), 3, 4
_SMALL = np.array([0.01, 0.01, 0.01, 1e-4, 0.01])
# What is usual, as mean and deviation; so is `Standard.hit_heights`.
_USUAL_MOMENT, _USUAL_SPIN = (0.0, 0.01), (0.1, 0.2)
_NOISE_PX = 2.0  # of a place in the path, with what the model of the flight leaves out
_LATEST_S, _LONGEST_S = 0.1, 3.0
_STEP_S = 1 / 60
_TRIES = 15
_SETTLED = 0.02  # m/s


class Flight(NamedTuple):
    """Where balls were, [K, N, 3] m, and how they moved there, [K, N, 3] m/s."""

    places: Array
    velocities: Array


class _Fit(NamedTuple):
    """A flight, [5], how unlikely it is, and its `_residuals`."""

    cost: float
    flight: Array
    off: Array
    slope: Array


def speed_at_hit(
    court: Court, path: Array, times: Array, bounce_px: tuple[float, float], width: int
) -> float | None:
    """Speed of a ball just after a hit, in km/h; None where it cannot be told.

    It cannot where the camera is not known, where the ball was seen in fewer than six frames of its
    flight, where no flight fits the path, or where many fit about as well.

    Args:
        court: in that picture.
        path: [N, 2], px; where the ball was seen between hit and bounce, NaN where it was not.
        times: [N + 1], s from the bounce, all below 0: of the hit, then of each place.
        bounce_px: where the ball bounced, px.
        width: of the picture, px.
    """
    seen = np.isfinite(path).all(1)
    if court.camera is None or court.standard.drag is None:
        return None
    if seen.sum() < FEWEST or times[0] < -_LONGEST_S:
        return None
    radius = court.standard.ball_radius
    end = np.append(court.to_metres(np.array([bounce_px]), radius)[0], radius)
    if np.isnan(end).any():
        return None
    path, times = path[seen], times[np.append(True, seen)]
    start = np.append(_start(court.camera, end, path, times[1:]), (0.0, _USUAL_SPIN[0]))
    fits = [_fit(court, end, start, path, times, height) for height in court.standard.hit_heights]
    found = [fit for fit in fits if fit is not None]
    if not found:
        return None
    likeliest = min(found, key=lambda fit: fit.cost)
    return _speed(court, end, likeliest, times, width)


def _fit(
    court: Court, end: Array, flight: Array, path: Array, times: Array, height: tuple[float, float]
) -> _Fit | None:
    """The likeliest flight by Gauss and Newton, from a first guess; None where there is none."""
    for _ in range(_TRIES):
        off, slope = _residuals(court, end, flight, path, times, height)
        if not (np.isfinite(off).all() and np.isfinite(slope).all()):
            return None
        step = np.linalg.lstsq(slope, -off, rcond=None)[0]
        flight = flight + step
        if abs(flight[_MOMENT]) > _LATEST_S:
            return None
        if np.linalg.norm(step[_VELOCITY]) < _SETTLED:
            return _Fit(float(off @ off + 2 * np.log(height[1])), flight, off, slope)
    return None


def _speed(court: Court, end: Array, fit: _Fit, times: Array, width: int) -> float | None:
    """km/h of a fitted flight at its first moment, where that is certain enough."""
    _, flight, off, slope = fit
    rms = _NOISE_PX * float(np.sqrt(2 * np.mean(off[: 2 * len(times) - 2] ** 2)))
    probes = flight + np.vstack([np.zeros(5), np.diag(_SMALL)])
    hit = fly_back(end, probes, times[:1], court.standard.drag or 0.0).velocities[:, 0]
    fast = np.linalg.norm(hit, axis=1)
    change = (fast[1:] - fast[0]) / _SMALL
    doubt = np.sqrt(change @ np.linalg.pinv(slope.T @ slope) @ change) * max(rms / _NOISE_PX, 1.0)
    if rms > LARGEST_RMS * width or doubt > LARGEST_DOUBT * fast[0] or fast[0] > FASTEST_M_S:
        return None
    return 3.6 * float(fast[0])


def fly_back(end: Array, flights: Array, times: Array, drag: float) -> Flight:
    """Where balls were before they bounced at a place.

    Args:
        end: [3], m.
        flights: [K, 5], velocity there in m/s, moment in s, spin.
        times: [N], s from the bounce, not above 0.
        drag: 1/m.
    """
    times = times + flights[0, _MOMENT]
    at = np.arange(0.0, max(0.0, -times.min()) + 2 * _STEP_S, _STEP_S)
    v, spin = flights[:, _VELOCITY], flights[:, _SPIN, None]
    place = np.broadcast_to(end, v.shape)
    flown = [np.stack([place, v])]
    for _ in at[1:]:  # the midpoint method
        middle = v - _STEP_S / 2 * _acceleration(v, drag, spin)
        place, v = place - _STEP_S * middle, v - _STEP_S * _acceleration(middle, drag, spin)
        flown.append(np.stack([place, v]))
    states = np.stack(flown)  # [steps, 2, K, 3]
    after = np.clip(np.searchsorted(at, -times), 1, len(at) - 1)
    share = ((-times - at[after - 1]) / _STEP_S)[:, None, None, None]
    found = states[after - 1] * (1 - share) + states[after] * share
    places, velocities = np.moveaxis(found, (1, 2), (0, 1))
    later = (flights[:, _MOMENT] - flights[0, _MOMENT])[:, None, None]
    return Flight(places + later * velocities, velocities)


def _acceleration(velocity: Array, drag: float, spin: Array) -> Array:
    """Of balls that fly with these velocities, [K, 3] m/s2."""
    x, y, z = velocity.T
    level = np.maximum(np.hypot(x, y), 1e-6)
    down = np.stack([x * z / level, y * z / level, -level], 1)  # across the velocity, as long
    speed = np.linalg.norm(velocity, axis=1, keepdims=True)
    # Backwards, drag makes a ball faster without end; no flight that fits is near the limit.
    found: Array = GRAVITY + drag * np.minimum(speed, 2 * FASTEST_M_S) * (spin * down - velocity)
    return found


def _start(camera: Array, end: Array, path: Array, times: Array) -> Array:
    """The velocity of the flight without air that fits best: linear in it."""
    rows, rest = [], []
    for axis in (0, 1):
        plane = path[:, axis, None] * camera[2] - camera[axis]  # [N, 4]; 0 for what is seen there
        rows.append(plane[:, :3] * times[:, None])
        known = end + 0.5 * GRAVITY * times[:, None] ** 2
        rest.append(-(plane[:, :3] * known).sum(1) - plane[:, 3])
    velocity: Array = np.linalg.lstsq(np.concatenate(rows), np.concatenate(rest), rcond=None)[0]
    return velocity


def _residuals(
    court: Court, end: Array, flight: Array, path: Array, times: Array, height: tuple[float, float]
) -> tuple[Array, Array]:
    """[2N + 3], how many deviations a flight is off, and from what is usual; its slope, [.., 5]."""
    probes = flight + np.vstack([np.zeros(5), np.diag(_SMALL)])
    places = fly_back(end, probes, times, court.standard.drag or 0.0).places
    seen = court.to_px(places[:, 1:].reshape(-1, 3)).reshape(6, -1, 2)
    usual = [
        (places[:, 0, 2] - height[0]) / height[1],
        (probes[:, _MOMENT] - _USUAL_MOMENT[0]) / _USUAL_MOMENT[1],
        (probes[:, _SPIN] - _USUAL_SPIN[0]) / _USUAL_SPIN[1],
    ]
    off = np.column_stack([(seen - path).reshape(6, -1) / _NOISE_PX, *usual])
    slope: Array = ((off[1:] - off[0]) / _SMALL[:, None]).T
    return off[0], slope
