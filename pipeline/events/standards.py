"""Standard courts in metres, and the names of their landmarks.

Seen from the camera: x to the right, y away from it, z up; the origin is the middle of the court,
on the ground (of a table: on its top).  `near` is the side of the camera, `far` the other one.
Distances are measured to the outside of lines, as rule books do; those of centre lines, to their
middle.

>>> STANDARDS["tennis"].landmarks["far-right"]
(5.485, 11.885)

Sources: ITF Rules of Tennis; BWF Laws of Badminton; FIP Rules of Padel; ITTF Laws of Table Tennis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tracknet.pipeline.errors import InputError

Point = tuple[float, float]
Line = tuple[Point, Point]

TENNIS_DRAG = 0.02  # 1/m: 1.2 kg/m3, coefficient 0.55, 33 mm, 58 g
TABLE_TENNIS_DRAG = 0.14  # 1/m: coefficient 0.5, 20 mm, 2.7 g


@dataclass(frozen=True)
class Standard:
    """A court as its rule book has it.

    Attributes:
        half_width, half_length: half of what a ball must bounce in, m.
        landmarks: places that a person can find in a picture, by name, m.
        lines: what is painted, and the net's line on the ground, m.
        run_off: how far ground, or table, goes on behind the lines, m.
        ball_radius: m.
        hit_heights: how high above the court balls are hit, mean and deviation of each kind of
            stroke, m: beside or before the player, and overhead.
        drag: what slows the ball is `drag * speed**2`, 1/m; None where its flights end in the air.
    """

    half_width: float
    half_length: float
    landmarks: dict[str, Point]
    lines: tuple[Line, ...]
    run_off: float
    ball_radius: float = 0.033
    hit_heights: tuple[tuple[float, float], ...] = ((1.0, 0.5), (2.75, 0.12))
    drag: float | None = TENNIS_DRAG


def _four(landmarks: dict[str, Point]) -> dict[str, Point]:
    """Landmarks of the far right quarter, mirrored to the others.

    >>> _four({"T": (0.0, 6.4)})
    {'near-T': (0.0, -6.4), 'far-T': (0.0, 6.4)}
    """
    found = {}
    for name, (x, y) in landmarks.items():
        for end, v in (("near", -y), ("far", y)) if y else (("net", 0.0),):
            for side, u in (("left", -x), ("right", x)) if x else (("", 0.0),):
                found["-".join(filter(None, (end, side, name)))] = (u, v)
    return found


def _lines(far: tuple[Line, ...], *others: Line) -> tuple[Line, ...]:
    """Lines of the far half, the same of the near half, and others."""
    near = (((ax, -ay), (bx, -by)) for (ax, ay), (bx, by) in far)
    return (*far, *near, *others)


def _sides(x: float, half_length: float) -> tuple[Line, ...]:
    return tuple(((u, -half_length), (u, half_length)) for u in (-x, x))


def _ends(x: float, *ys: float) -> tuple[Line, ...]:
    return tuple(((-x, y), (x, y)) for y in ys)


def _along(start: float, stop: float) -> Line:
    return (0.0, start), (0.0, stop)


_TENNIS = Standard(
    5.485,
    11.885,
    _four(
        {"": (5.485, 11.885), "singles": (4.115, 11.885), "centre": (0.0, 11.885)}
        | {"service": (4.115, 6.4), "T": (0.0, 6.4)}
    )
    | {"net-left": (-5.485, 0.0), "net-right": (5.485, 0.0)}
    | {"net-left-singles": (-4.115, 0.0), "net-right-singles": (4.115, 0.0)},
    _lines(
        (*_ends(5.485, 11.885), *_ends(4.115, 6.4), _along(0.0, 6.4), _along(11.685, 11.885)),
        *(*_sides(5.485, 11.885), *_sides(4.115, 11.885), *_ends(5.485, 0.0)),
    ),
    run_off=8.0,
)

STANDARDS = {
    "tennis": _TENNIS,
    "tennis-singles": replace(_TENNIS, half_width=4.115),
    "badminton": Standard(
        3.05,
        6.7,
        _four(
            {"": (3.05, 6.7), "singles": (2.59, 6.7), "centre": (0.0, 6.7)}
            | {"long-service": (3.05, 5.94), "short-service": (3.05, 1.98), "T": (0.0, 1.98)}
        )
        | {"net-left": (-3.05, 0.0), "net-right": (3.05, 0.0)},
        _lines(
            (*_ends(3.05, 6.7, 5.94, 1.98), _along(1.98, 6.7)),
            *(*_sides(3.05, 6.7), *_sides(2.59, 6.7), *_ends(3.05, 0.0)),
        ),
        run_off=2.0,
        drag=None,
    ),
    "padel": Standard(
        5.0,
        10.0,
        _four({"": (5.0, 10.0), "service": (5.0, 6.95), "T": (0.0, 6.95)})
        | {"net-left": (-5.0, 0.0), "net-right": (5.0, 0.0)},
        _lines(
            (*_ends(5.0, 10.0, 6.95), _along(0.0, 7.15)),
            *(*_sides(5.0, 10.0), *_ends(5.0, 0.0)),
        ),
        run_off=0.2,
    ),
    "table-tennis": Standard(
        0.7625,
        1.37,
        _four({"": (0.7625, 1.37), "centre": (0.0, 1.37)})
        | {"net-left": (-0.7625, 0.0), "net-right": (0.7625, 0.0)},
        _lines(
            (*_ends(0.7625, 1.37), _along(0.0, 1.37)),
            *(*_sides(0.7625, 1.37), *_ends(0.7625, 0.0)),
        ),
        run_off=0.1,
        ball_radius=0.02,
        hit_heights=((0.3, 0.2),),
        drag=TABLE_TENNIS_DRAG,
    ),
}
"""By sport; a ball is in within the doubles court, but for `tennis-singles`."""


def standard_of(sport: str) -> Standard:
    """The court of a sport.

    Raises:
        InputError: it is not known.
    """
    if sport not in STANDARDS:
        raise InputError(f"no court of {sport!r} is known; known are {', '.join(STANDARDS)}")
    return STANDARDS[sport]
