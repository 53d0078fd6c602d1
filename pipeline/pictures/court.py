"""A court on a frame, so that a person can check by looking; and a frame to read its points from.

Pictures are uint8 [H, W, 3], RGB; places are px with centres at integers.  This module knows
nothing of metres in pictures: what it draws was projected by others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.pictures.draw import FRACTION_BITS, fixed

Array = NDArray[np.float64]

_LINE, _GIVEN, _GRID, _INK = (255, 60, 200), (255, 220, 0), (120, 255, 255), (20, 20, 20)
_READABLE = 720  # px; a lower picture is enlarged
_STEP = 50  # px between lines of the grid; every second one has its number
_FONT, _SMALL = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_FAR = 8  # times the picture's size; what lies further out is not drawn


def draw_court(
    picture: np.ndarray, lines: Sequence[Array], points: Mapping[str, tuple[float, float]]
) -> np.ndarray:
    """The frame with lines on it, and circles around the points that a person gave.

    Args:
        picture: the frame; it stays as it is.
        lines: [N, 2] px each; NaN for what is out of sight.
        points: by name, px.
    """
    drawn = picture.copy()
    limit = _FAR * max(picture.shape[:2])
    for line in lines:
        shown = np.abs(line).max(1) < limit  # false for NaN
        for i in np.flatnonzero(shown[:-1] & shown[1:]):
            a, b = fixed(line[i : i + 2]).tolist()
            cv2.line(drawn, a, b, _LINE, 1, cv2.LINE_AA, FRACTION_BITS)
    for name, (x, y) in points.items():
        at = (round(x), round(y))
        cv2.circle(drawn, at, 7, _GIVEN, 1, cv2.LINE_AA)
        _write(drawn, name, (at[0] + 9, at[1] - 6), _GIVEN)
    return drawn


def draw_guide(
    picture: np.ndarray,
    landmarks: Mapping[str, tuple[float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> np.ndarray:
    """The frame with a grid of its pixel coordinates, and beside it the court's landmarks by name.

    Args:
        picture: the frame; it stays as it is.
        landmarks, lines: the court from above, m; y points away from the camera.
    """
    factor = -(-_READABLE // picture.shape[0])
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    height, width = picture.shape[:2]
    grid = large.copy()
    for axis, size in ((0, width), (1, height)):
        for value in range(0, size, _STEP):
            at = round((value + 0.5) * factor - 0.5)
            line = grid[:, at] if axis == 0 else grid[at]
            line[:] = _GRID
    large = cv2.addWeighted(large, 0.65, grid, 0.35, 0)
    for axis, size in ((0, width), (1, height)):
        for value in range(0, size, 2 * _STEP):
            at = value * factor
            _write(large, str(value), (at + 2, 12) if axis == 0 else (2, at + 12), _GRID)
    return np.concatenate([large, _sketch(landmarks, lines, len(large))], axis=1)


def _sketch(
    landmarks: Mapping[str, tuple[float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    height: int,
) -> np.ndarray:
    """The court from above with numbers, and a list of what they mean."""
    x_m, y_m = np.abs(list(landmarks.values())).max(0)
    scale = (height - 80) / (2 * y_m)
    width = round(2 * x_m * scale) + 80
    panel = np.full((height, width + 260, 3), 255, np.uint8)

    def at(point: tuple[float, float]) -> tuple[int, int]:
        return round(width / 2 + point[0] * scale), round(height / 2 - point[1] * scale)

    for a, b in lines:
        cv2.line(panel, at(a), at(b), _INK, 1, cv2.LINE_AA)
    step = min(24, (height - 60) // len(landmarks))
    for number, (name, point) in enumerate(landmarks.items(), 1):
        cv2.circle(panel, at(point), 4, (200, 30, 30), -1, cv2.LINE_AA)
        x, y = at(point)
        cv2.putText(panel, str(number), (x + 5, y - 5), _FONT, _SMALL, _INK, 1, cv2.LINE_AA)
        text = f"{number}  {name}"
        where = (width, 40 + number * step)
        cv2.putText(panel, text, where, _FONT, _SMALL, _INK, 1, cv2.LINE_AA)
    for text, y in (("far side", 20), ("near side: the camera", height - 10)):
        cv2.putText(panel, text, (20, y), _FONT, _SMALL, _INK, 1, cv2.LINE_AA)
    return panel


def _write(picture: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, ...]) -> None:
    cv2.putText(picture, text, at, _FONT, _SMALL, _INK, 3, cv2.LINE_AA)
    cv2.putText(picture, text, at, _FONT, _SMALL, colour, 1, cv2.LINE_AA)
