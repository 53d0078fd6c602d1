"""Rallies in three dimensions: courts, balls that fly, bounce and are hit.

World axes in metres: x to the right, y away from the camera, z up; the net stands at y = 0 and the
near side of the court is negative y.  Nothing here knows of colours or pixels.

    rng = np.random.default_rng(0)
    rally = play(rng, SPORTS["badminton"], n_frames=90, fps=30.0)
    rally.ball[45 * SUBSTEPS]          # where the shuttle is at the beginning of frame 45
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SUBSTEPS = 16
"""Positions of the ball per frame: fine enough to smear it along its path in one exposure."""

GRAVITY = 9.81

_Range = tuple[float, float]
_Stroke = tuple[_Range, _Range, _Range]
# Strokes of badminton: where the shuttlecock is met next, as a share of half the court behind the
# net and in metres above the floor; and after how many seconds.
_SHORT_SERVE: _Stroke = ((0.27, 0.50), (0.5, 1.4), (0.42, 0.75))
_LONG_SERVE: _Stroke = ((0.75, 0.98), (1.2, 2.6), (1.2, 1.7))
_CLEAR: _Stroke = ((0.70, 0.97), (1.6, 2.6), (0.9, 1.4))
_DROP: _Stroke = ((0.12, 0.42), (0.4, 1.5), (0.65, 1.0))
_SMASH: _Stroke = ((0.35, 0.80), (0.3, 1.2), (0.33, 0.60))
_LIFT: _Stroke = ((0.65, 0.98), (1.5, 2.6), (1.0, 1.5))
_NET: _Stroke = ((0.06, 0.36), (0.3, 1.3), (0.5, 0.9))
_BLOCK: _Stroke = ((0.10, 0.45), (0.3, 1.3), (0.55, 1.0))
_DRIVE: _Stroke = ((0.40, 0.85), (0.8, 2.0), (0.4, 0.75))

Line = tuple[tuple[float, float], tuple[float, float]]
Vector = tuple[float, float, float]


def _mirrored(*lines: Line) -> tuple[Line, ...]:
    """Lines of the far half, and the same of the near half."""
    return lines + tuple(((ax, -ay), (bx, -by)) for (ax, ay), (bx, by) in lines)


def _sides(x: float, half_length: float) -> tuple[Line, ...]:
    return ((-x, -half_length), (-x, half_length)), ((x, -half_length), (x, half_length))


@dataclass(frozen=True)
class Sport:
    """A court and a ball, in metres and seconds.

    Attributes:
        half_width, half_length: half the court.
        lines: painted lines as pairs of (x, y).
        net_height, net_bottom, net_half_width: the net; `net_bottom` is where its mesh begins.
        run_off: floor behind the baseline up to the wall or the boards.
        ball_radius: half the ball's diameter, or half a shuttlecock's skirt.
        drag: deceleration is `drag * speed**2`; a shuttlecock falls at no more than 6.8 m/s.
        bounce: share of the vertical speed that a bounce keeps; 0 where the rally ends with it.
        grip: share of the horizontal speed that a bounce keeps.
        speed: slowest and fastest mean speed of a shot over the ground.
        far_row: where the far baseline lies in the picture, as a share of its height.
        camera_back, camera_up: the camera's distance in half court lengths, and its height as a
            share of its distance from the near baseline.
        wall: distance of the walls the ball may come back from, if there are any.
        shuttle: it is a shuttlecock, and is met in the air.
        doubles: how many of the rallies are played by four.
    """

    name: str
    half_width: float
    half_length: float
    lines: tuple[Line, ...]
    net_height: float
    net_bottom: float
    net_half_width: float
    run_off: float
    ball_radius: float
    drag: float
    bounce: float
    grip: float
    speed: tuple[float, float]
    serve_height: float
    far_row: tuple[float, float]
    camera_back: tuple[float, float]
    camera_up: tuple[float, float]
    wall: float | None = None
    shuttle: bool = False
    doubles: float = 0.0


# Court dimensions are those of the rule books of ITF, BWF and FIP.
SPORTS = {
    "tennis": Sport(
        name="tennis",
        half_width=5.485,
        half_length=11.885,
        lines=_mirrored(
            ((-5.485, 11.885), (5.485, 11.885)),
            ((-4.115, 6.4), (4.115, 6.4)),
            ((0.0, 0.0), (0.0, 6.4)),
            ((0.0, 11.685), (0.0, 11.885)),
        )
        + _sides(5.485, 11.885)
        + _sides(4.115, 11.885),
        net_height=0.95,
        net_bottom=0.0,
        net_half_width=6.4,
        run_off=6.4,
        ball_radius=0.033,
        drag=0.02,
        bounce=0.74,
        grip=0.7,
        speed=(15.0, 30.0),
        serve_height=2.7,
        far_row=(0.28, 0.36),
        camera_back=(2.7, 3.4),
        camera_up=(0.37, 0.48),
    ),
    "badminton": Sport(
        name="badminton",
        half_width=3.05,
        half_length=6.7,
        lines=_mirrored(
            ((-3.05, 6.7), (3.05, 6.7)),
            ((-3.05, 5.94), (3.05, 5.94)),
            ((-3.05, 1.98), (3.05, 1.98)),
            ((0.0, 1.98), (0.0, 6.7)),
        )
        + _sides(3.05, 6.7)
        + _sides(2.59, 6.7),
        net_height=1.54,
        net_bottom=0.76,
        net_half_width=3.05,
        run_off=2.6,
        ball_radius=0.033,
        drag=GRAVITY / 6.8**2,
        bounce=0.0,
        grip=0.2,
        speed=(8.0, 20.0),
        serve_height=1.1,
        far_row=(0.44, 0.52),
        camera_back=(4.6, 6.0),
        camera_up=(0.26, 0.34),
        shuttle=True,
        doubles=0.3,
    ),
    "padel": Sport(
        name="padel",
        half_width=5.0,
        half_length=10.0,
        lines=_mirrored(((-5.0, 6.95), (5.0, 6.95)), ((0.0, 0.0), (0.0, 7.15))),
        net_height=0.9,
        net_bottom=0.0,
        net_half_width=5.0,
        run_off=0.0,
        ball_radius=0.033,
        drag=0.02,
        bounce=0.72,
        grip=0.72,
        speed=(9.0, 18.0),
        serve_height=0.9,
        far_row=(0.28, 0.36),
        camera_back=(3.4, 4.0),
        camera_up=(0.34, 0.42),
        wall=10.0,
        doubles=1.0,
    ),
}


@dataclass(frozen=True)
class Hit:
    """A player's stroke: time in seconds, who, and where the ball was met."""

    time: float
    player: int
    point: Vector


@dataclass
class Rally:
    """What happens in one clip.

    Attributes:
        ball: `[n_frames * SUBSTEPS, 3]` metres, NaN while no ball is in play.
        players: `[P, n_frames, 2]` where the players stand (x, y).
        hits: every stroke, by time.
    """

    ball: np.ndarray
    players: np.ndarray
    hits: list[Hit]


def play(rng: np.random.Generator, sport: Sport, n_frames: int, fps: float) -> Rally:
    """Play rally after rally until `n_frames` are full; pauses without a ball lie between them."""
    dt = 1 / (fps * SUBSTEPS)
    homes = _homes(rng, sport)
    total = n_frames * SUBSTEPS
    pieces: list[np.ndarray] = []
    hits: list[Hit] = []
    done = 0
    while done < total:
        pause = np.full((round(rng.uniform(0.1, 0.8) / dt), 3), np.nan)
        path, new = _rally(rng, sport, homes, dt, start=(done + len(pause)) * dt)
        pieces += [pause, path]
        hits += new
        done += len(pause) + len(path)
    ball = np.concatenate(pieces)[:total]
    return Rally(ball, _walk(rng, sport, homes, hits, n_frames, fps), hits)


def _homes(rng: np.random.Generator, sport: Sport) -> np.ndarray:
    """Where each player waits, `[P, 2]`: the near ones first."""
    if rng.random() < sport.doubles:
        x = sport.half_width * 0.5
        depth = 0.72 * sport.half_length
        return np.array([[-x, -depth], [x, -depth], [-x, depth], [x, depth]])
    depth = sport.half_length * (0.62 if sport.shuttle else 1.04)
    return np.array([[0.0, -depth], [0.0, depth]])


def _rally(
    rng: np.random.Generator, sport: Sport, homes: np.ndarray, dt: float, start: float
) -> tuple[np.ndarray, list[Hit]]:
    """One rally from the serve to the last ball: its path and its hits."""
    side = int(rng.choice([-1, 1]))
    x = float(rng.uniform(-0.6, 0.6) * sport.half_width)
    depth = float(rng.uniform(0.3, 0.5)) if sport.shuttle else 0.98
    at = (x, side * sport.half_length * depth, sport.serve_height)
    pieces = [_held(rng, at, dt)] if sport.shuttle else []
    pieces += [_toss(at, dt)] if sport.serve_height > 2 else []
    hits: list[Hit] = []
    fewest = 1 if sport.shuttle else 3
    for shots_left in range(int(rng.integers(fewest, 12)), -1, -1):
        now = start + sum(map(len, pieces)) * dt
        velocity, seconds = _shot(rng, sport, at, side, serve=not hits, last=shots_left == 0)
        hits.append(Hit(now, _nearest(homes, at, side), at))
        path, stopped = fly(at, velocity, sport, round(seconds / dt), dt)
        pieces.append(path)
        if stopped or path[-1, 2] < 0.2:
            break
        at, side = tuple(path[-1].tolist()), -side
    return np.concatenate(pieces), hits


def _nearest(homes: np.ndarray, at: Vector, side: int) -> int:
    """The player of that side whose place is nearest to the ball."""
    distance = np.hypot(homes[:, 0] - at[0], homes[:, 1] - at[1])
    return int(np.argmin(np.where(np.sign(homes[:, 1]) == side, distance, np.inf)))


def _toss(top: Vector, dt: float) -> np.ndarray:
    """The ball thrown up before a tennis serve: from the hand to where it is hit."""
    t = np.arange(0.0, 0.55, dt)[::-1]
    z = top[2] - 0.5 * GRAVITY * t**2 * 0.6
    return np.stack([np.full_like(t, top[0]), np.full_like(t, top[1]), z], axis=1)


def _held(rng: np.random.Generator, at: Vector, dt: float) -> np.ndarray:
    """The shuttlecock in the server's hand, which is not quite still, until it is hit at `at`."""
    steps = round(rng.uniform(0, 1.6) / dt) if rng.random() < 0.6 else 0
    return np.cumsum(rng.normal(0, 0.0015, (steps, 3)), 0)[::-1] + at


def _shot(
    rng: np.random.Generator, sport: Sport, at: Vector, side: int, serve: bool, last: bool
) -> tuple[Vector, float]:
    """Initial velocity of a shot from `at`, and how long it flies before it is met again."""
    if sport.shuttle:
        goal, seconds = _shuttle_goal(rng, sport, at, side, serve)
    else:
        goal, seconds = _ball_goal(rng, sport, at, side)
    # A ball that would catch the net is hit higher, that is slower, until it clears it; the last
    # one of a rally is left as it is.
    velocity = _aim(at, goal, seconds, sport.drag)
    for _ in range(0 if last else 8):
        if _height_over_net(at, velocity, sport) > sport.net_height + 0.12:
            break
        seconds *= 1.18
        velocity = _aim(at, goal, seconds, sport.drag)
    if last:
        return velocity, seconds + float(rng.uniform(0.7, 1.3))
    met_in_the_air = sport.shuttle or goal[2] > 0.5
    if met_in_the_air:
        return velocity, seconds
    off_the_wall = sport.wall is not None and rng.random() < 0.3
    after = rng.uniform(0.7, 1.0) if off_the_wall else rng.uniform(0.2, 0.5)
    return velocity, seconds + float(after)


def _ball_goal(
    rng: np.random.Generator, sport: Sport, at: Vector, side: int
) -> tuple[Vector, float]:
    """Where a tennis or padel shot lands (or is volleyed), and when."""
    x = float(rng.uniform(-0.72, 0.72) * sport.half_width)
    volley = rng.random() < (0.3 if sport.wall else 0.08)
    deep = rng.uniform(0.25, 0.45) if volley else rng.uniform(0.5, 0.93)
    goal = (x, float(-side * deep * sport.half_length), 1.3 if volley else sport.ball_radius)
    lob = 0.55 if rng.random() < 0.12 else 1.0
    distance = float(np.hypot(goal[0] - at[0], goal[1] - at[1]))
    return goal, distance / (float(rng.uniform(*sport.speed)) * lob)


def _shuttle_goal(
    rng: np.random.Generator, sport: Sport, at: Vector, side: int, serve: bool
) -> tuple[Vector, float]:
    """Where a shuttlecock is met next, and when: one of the strokes that suit where it is."""
    from_the_front = abs(at[1]) < 0.4 * sport.half_length
    if serve:
        strokes = [_SHORT_SERVE, _SHORT_SERVE, _LONG_SERVE]
    elif at[2] > 1.8:
        strokes = [_SMASH, _SMASH, _DROP] if from_the_front else [_CLEAR, _DROP, _SMASH, _SMASH]
    else:
        short = _NET if from_the_front else _BLOCK
        strokes = [_LIFT, _LIFT, short, short, _DRIVE]
    depth, height, seconds = strokes[int(rng.integers(len(strokes)))]
    x = float(rng.uniform(-0.85, 0.85) * sport.half_width)
    y = float(-side * rng.uniform(*depth) * sport.half_length)
    return (x, y, float(rng.uniform(*height))), float(rng.uniform(*seconds))


def _accelerate(velocity: np.ndarray, drag: float) -> np.ndarray:
    speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
    return -drag * speed * velocity - np.array([0.0, 0.0, GRAVITY])


def _reach(start: np.ndarray, velocity: np.ndarray, seconds: float, drag: float) -> np.ndarray:
    """Where free flight leads after `seconds`; velocities `[N, 3]` to positions `[N, 3]`."""
    steps = 60
    dt = seconds / steps
    position, velocity = np.broadcast_to(start, velocity.shape).copy(), velocity.copy()
    for _ in range(steps):
        velocity = velocity + dt * _accelerate(velocity, drag)
        position += dt * velocity
    return position


def _aim(at: Vector, goal: Vector, seconds: float, drag: float) -> Vector:
    """The velocity at `at` that brings the ball to `goal` after `seconds`, by Newton's method."""
    start, target = np.array(at), np.array(goal)
    velocity = (target - start) / seconds + np.array([0.0, 0.0, 0.5 * GRAVITY * seconds])
    step = 0.05
    for _ in range(8):
        probes = velocity + np.vstack([np.zeros(3), step * np.eye(3)])
        ends = _reach(start, probes, seconds, drag)
        jacobian = (ends[1:] - ends[0]).T / step
        change = np.linalg.solve(jacobian, target - ends[0])
        # Far from the goal the drag makes the linear guess overshoot.
        velocity = velocity + change * min(1.0, 15.0 / (np.linalg.norm(change) + 1e-9))
    return (float(velocity[0]), float(velocity[1]), float(velocity[2]))


def _height_over_net(at: Vector, velocity: Vector, sport: Sport) -> float:
    """Height of the ball above the floor where free flight crosses the net."""
    position, v = np.array(at), np.array(velocity)
    dt = 0.005
    for _ in range(1000):
        ahead = position + dt * v
        if ahead[1] * position[1] <= 0:
            return float(position[2])
        v = v + dt * _accelerate(v, sport.drag)
        position = ahead
    return -np.inf


def fly(
    at: Vector, velocity: Vector, sport: Sport, steps: int, dt: float
) -> tuple[np.ndarray, bool]:
    """Flight with drag, bounces, walls and the net.

    Returns:
        Positions `[steps, 3]`, and whether the ball was stopped (by the net or, for a
        shuttlecock, by the floor).
    """
    x, y, z = at
    vx, vy, vz = velocity
    path = np.empty((max(steps, 1), 3))
    stopped = False
    for i in range(len(path)):
        path[i] = x, y, z
        pull = sport.drag * (vx * vx + vy * vy + vz * vz) ** 0.5
        vx, vy, vz = vx - dt * pull * vx, vy - dt * pull * vy, vz - dt * (pull * vz + GRAVITY)
        before = y
        x, y, z = x + dt * vx, y + dt * vy, z + dt * vz
        if before * y < 0 and z < sport.net_height and abs(x) < sport.net_half_width:
            y, vx, vy, stopped = before, 0.3 * vx, -0.08 * vy, True
        if z < sport.ball_radius and vz < 0:
            z, vx, vy = sport.ball_radius, sport.grip * vx, sport.grip * vy
            vz = -sport.bounce * vz if vz < -0.5 else 0.0
            stopped = stopped or sport.shuttle
        if sport.wall is not None and abs(y) > sport.wall - sport.ball_radius and y * vy > 0:
            vy = -0.75 * vy
    return path, stopped


def _walk(
    rng: np.random.Generator,
    sport: Sport,
    homes: np.ndarray,
    hits: list[Hit],
    n_frames: int,
    fps: float,
) -> np.ndarray:
    """Players run to where they hit and drift home in between: `[P, n_frames, 2]`."""
    times = np.arange(n_frames) / fps
    tracks = np.empty((len(homes), n_frames, 2))
    window = 2 * (round(fps / 5) // 2) + 1
    for player, home in enumerate(homes):
        stops = [(-1.0, home[0], home[1])]
        for hit in (h for h in hits if h.player == player):
            hand = 0.55 if hit.point[0] >= 0 else -0.55
            back = np.sign(home[1]) * 0.35
            stops.append((hit.time, hit.point[0] - hand, hit.point[1] + back))
            stops.append((hit.time + 0.9, *(home + rng.normal(0, 0.5, 2))))
        stops.append((n_frames / fps + 1, home[0], home[1]))
        t, x, y = np.array(sorted(stops)).T
        path = np.stack([np.interp(times, t, x), np.interp(times, t, y)], axis=1)
        path += 0.1 * np.sin(2.1 * times + player)[:, None]
        # A moving average, so that players do not turn on the spot at full speed.
        tracks[player] = cv2.blur(path, (1, window), borderType=cv2.BORDER_REPLICATE)
    return tracks
