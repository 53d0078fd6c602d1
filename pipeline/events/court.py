"""Where on the court: a homography from landmarks in the picture, and the camera that it implies.

    court = fit_court("tennis", {"near-left": (254, 589), ...}, size=(1280, 720))
    court.to_metres(np.array([[640.0, 400.0]]))     # a bounce

A homography knows the ground only: a ball in the air has no place on it.  Where pixels are square
and the optical axis meets the middle of the picture, as in pictures that were not cropped, it also
tells focal length and place of the camera (Zhang, "A flexible new technique for camera
calibration", 2000, section 3.1), and with that how points above the ground are seen.  The lens is
taken to be without distortion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.standards import Standard, standard_of

Array = NDArray[np.float64]

LARGEST_ERROR = 0.01  # of the picture's width; points that fit worse were misread
_FLAT = 1e-3  # share of the points' extent squared; a triangle with less area is a line
_FOCAL = (0.3, 30.0)  # widths of the picture; what lies outside is no camera


@dataclass(frozen=True)
class Court:
    """A court in a picture; `fit_court` makes it.

    Attributes:
        sport: a key of `STANDARDS`.
        standard: its dimensions.
        ground: [3, 3], from (x, y, 1) in metres on the ground to the picture, px, homogeneous;
            the last coordinate is above 0 in front of the camera.
        camera: [3, 4], the same from (x, y, z, 1); None where the picture does not tell, as of a
            camera that looks straight down.
        errors_px, errors_m: by landmark, how far what was given lies from what was fitted.
    """

    sport: str
    standard: Standard
    ground: Array
    camera: Array | None
    errors_px: dict[str, float]
    errors_m: dict[str, float]

    @property
    def rms_px(self) -> float:
        """Root mean square of `errors_px`; 0 with four points, which always fit."""
        return _rms(self.errors_px)

    @property
    def rms_m(self) -> float:
        return _rms(self.errors_m)

    def to_metres(self, xy: Array, height: float = 0.0) -> Array:
        """Where balls lie that are known to be on the ground.

        Args:
            xy: [N, 2], px.
            height: of their centres above the ground, m; without a camera it counts as 0.

        Returns:
            [N, 2], m; NaN for what lies above the horizon.
        """
        plane = self.ground
        if self.camera is not None:
            raised = self.camera[:, 3] + height * self.camera[:, 2]
            plane = np.column_stack([self.camera[:, :2], raised])
        found = _homogeneous(xy) @ np.linalg.inv(plane).T
        front = np.where(found[:, 2:] > 0, found[:, 2:], np.nan)
        metres: Array = found[:, :2] / front
        return metres

    def to_px(self, points: Array) -> Array:
        """Where points are seen, [N, 2] px.

        Args:
            points: [N, 2] on the ground, or [N, 3] with a `camera`, m.

        NaN for what lies behind the camera.
        """
        matrix = self.ground if points.shape[1] == 2 else self.camera
        assert matrix is not None
        found = _homogeneous(points) @ matrix.T
        seen: Array = found[:, :2] / np.where(found[:, 2:] > 0, found[:, 2:], np.nan)
        return seen


def fit_court(
    sport: str, points: Mapping[str, tuple[float, float]], size: tuple[int, int]
) -> Court:
    """The court whose landmarks are seen at these places.

    Args:
        sport: a key of `STANDARDS`.
        points: by landmark, px of the displayed picture, four or more.
        size: width and height of the picture, px.

    Raises:
        InputError: sport or landmark is unknown, a point lies outside of the picture, there are
            fewer than four, or three of four in a line, they are mirrored, or do not fit together.
    """
    standard = standard_of(sport)
    _check(sport, standard, points, size)
    names = list(points)
    metres = np.array([standard.landmarks[name] for name in names])
    px = np.array([points[name] for name in names], np.float64)
    ground = _homography(metres, px)
    if ground is None:
        raise InputError("the points do not make a court: check that each name is at its place")
    if np.linalg.det(ground) > 0:
        raise InputError("the court is seen as in a mirror: left and right are swapped")
    court = Court(sport, standard, ground, _camera(ground, size), {}, {})
    off_px = np.linalg.norm(court.to_px(metres) - px, axis=1)
    off_m = np.linalg.norm(court.to_metres(px) - metres, axis=1)
    court.errors_px.update(zip(names, off_px.tolist(), strict=True))
    court.errors_m.update(zip(names, off_m.tolist(), strict=True))
    if court.rms_px > LARGEST_ERROR * size[0]:
        worst = names[_worst(metres, px, off_px)]
        raise InputError(
            f"the points do not fit together ({court.rms_px:.0f} px off on average); most off is "
            f"{worst}: is it really at {points[worst][0]:g},{points[worst][1]:g}?"
        )
    return court


def _check(
    sport: str, standard: Standard, points: Mapping[str, tuple[float, float]], size: tuple[int, int]
) -> None:
    for name, (x, y) in points.items():
        if name not in standard.landmarks:
            known = ", ".join(standard.landmarks)
            raise InputError(f"{name!r} is no landmark of {sport}; they are {known}")
        if not (-0.5 <= x <= size[0] - 0.5 and -0.5 <= y <= size[1] - 0.5):
            raise InputError(
                f"{name} at {x:g},{y:g} lies outside of the picture, {size[0]}x{size[1]}"
            )
    if len(points) < 4:
        raise InputError(f"{len(points)} points: a court needs four or more")
    for places in ([standard.landmarks[name] for name in points], list(points.values())):
        if not _spread(np.array(places, np.float64)):
            raise InputError(
                "three points lie in a line: give four of which no three do, such as the corners"
            )


def _spread(points: Array) -> bool:
    """Whether four of the points make a quadrangle: no three of these lie in a line."""
    extent = float(np.ptp(points, axis=0).max()) ** 2
    for four in combinations(points, 4):
        areas = [abs(np.linalg.det([b - a, c - a])) / 2 for a, b, c in combinations(four, 3)]
        if min(areas) > _FLAT * extent:
            return True
    return False


def _homography(metres: Array, px: Array) -> Array | None:
    """From metres to px, above 0 in front of the camera; None where there is none."""
    found, _ = cv2.findHomography(metres, px)
    if found is None or not np.isfinite(found).all():
        return None
    depth = _homogeneous(metres) @ found[2]
    if not (np.all(depth > 0) or np.all(depth < 0)):
        return None
    matrix: Array = found * np.sign(depth[0])
    return matrix


def _camera(ground: Array, size: tuple[int, int]) -> Array | None:
    """[3, 4]: the columns of `ground`, and between them that of height."""
    centre = np.array([[1, 0, -(size[0] - 1) / 2], [0, 1, -(size[1] - 1) / 2], [0, 0, 1]])
    a, b = (centre @ ground)[:, :2].T
    # r1.r2 = 0 and |r1| = |r2|, both linear in 1 / focal**2
    factors = np.array([a[:2] @ b[:2], a[:2] @ a[:2] - b[:2] @ b[:2]])
    rest = np.array([a[2] * b[2], a[2] ** 2 - b[2] ** 2])
    inverse = -(factors @ rest) / (factors @ factors)
    low, high = (focal * size[0] for focal in _FOCAL)
    if not high**-2 < inverse < low**-2:
        return None
    focal = np.diag([inverse**-0.5, inverse**-0.5, 1])
    r1, r2 = (np.linalg.inv(focal) @ column for column in (a, b))
    up = np.cross(r1, r2) / np.sqrt(np.linalg.norm(r1) * np.linalg.norm(r2))
    height = np.linalg.inv(centre) @ focal @ up
    return np.column_stack([ground[:, :2], height, ground[:, 2]])


def _worst(metres: Array, px: Array, off: Array) -> int:
    """The point without which the others fit best; with five, the one that is off most."""
    if len(px) < 6:
        return int(np.argmax(off))
    without = []
    for i in range(len(px)):
        kept = np.arange(len(px)) != i
        found = _homography(metres[kept], px[kept])
        if found is None or not _spread(metres[kept]):
            without.append(np.inf)
            continue
        seen = _homogeneous(metres[kept]) @ found.T
        without.append(float(np.linalg.norm(seen[:, :2] / seen[:, 2:] - px[kept])))
    return int(np.argmin(without))


def _homogeneous(points: Array) -> Array:
    return np.column_stack([points, np.ones(len(points))])


def _rms(errors: Mapping[str, float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(errors.values())))))
