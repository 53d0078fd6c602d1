"""Painting small things on a picture: soft-edged covers, blurred disks, blends.

What is painted says which pixels it covers and how much (`Cover`), so that a caller who paints from
far to near knows what hides what.  Pictures are uint8 RGB and are painted in place; coordinates are
pixels with centres at integers.

>>> picture = np.zeros((20, 20, 3), np.uint8)
>>> blend(picture, streak(np.array([[[10.0, 5.0]]]), np.array([2.0])), np.array([255, 255, 255]))
>>> int(picture[5, 10, 0]), int(picture[5, 14, 0])
(255, 0)

Nothing here knows what the things are.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tracknet.pipeline.errors import InputError
from tracknet.schemas.files import whole_file

Colour = tuple[int, int, int]

FRACTION_BITS = 4
"""cv2 draws at 1/16 of a pixel when told that coordinates carry four fraction bits."""


class Cover(NamedTuple):
    """How much of each pixel is covered: `alpha` float32 `[h, w]` in [0, 1], and its corner."""

    alpha: np.ndarray
    left: int
    top: int

    def faded(self, strength: float) -> Cover:
        """The same shape, `strength` times as opaque."""
        return Cover(self.alpha * strength, self.left, self.top)


def streak(centres: np.ndarray, radii: np.ndarray, softness: float = 0.6) -> Cover:
    """The coverage of a disk that moves during the exposure, summed over instants.

    Args:
        centres: `[S, K, 2]` pixel centres at S instants of the K disks that make up the ball.
        radii: `[K]` or `[S, K]`, pixels.
        softness: width in pixels over which an edge fades, the blur of a lens.
    """
    radii = np.broadcast_to(radii, centres.shape[:2])
    reach = float(radii.max()) + softness + 1
    left, top = np.floor(centres.min(axis=(0, 1)) - reach).astype(int)
    right, bottom = np.ceil(centres.max(axis=(0, 1)) + reach).astype(int)
    xs = np.arange(left, right + 1, dtype=np.float32)
    ys = np.arange(top, bottom + 1, dtype=np.float32)
    dx = xs[None, None, None, :] - centres[:, :, 0, None, None].astype(np.float32)
    dy = ys[None, None, :, None] - centres[:, :, 1, None, None].astype(np.float32)
    edge = radii[:, :, None, None].astype(np.float32) - np.sqrt(dx * dx + dy * dy)
    cover = np.clip(edge / (2 * softness) + 0.5, 0, 1)
    return Cover(cover.max(axis=1).mean(axis=0), int(left), int(top))


def blend(picture: np.ndarray, cover: Cover, colour: np.ndarray) -> None:
    """Paint `colour` (`[3]` or `[h, w, 3]`) on `picture` in place where `cover` says so.

    Parts that lie outside the picture are left out.
    """
    area = overlap(picture, cover)
    if area is None:
        return
    inside, patch = area
    alpha = cover.alpha[patch][..., None]
    paint = colour[patch] if colour.ndim == 3 else colour.astype(np.float32)
    mixed = picture[inside] * (1 - alpha) + paint * alpha
    picture[inside] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def overlap(
    picture: np.ndarray, cover: Cover
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where a cover lies in the picture, and which part of the cover that is; None for nowhere."""
    height, width = cover.alpha.shape
    x0, y0 = max(cover.left, 0), max(cover.top, 0)
    x1 = min(cover.left + width, picture.shape[1])
    y1 = min(cover.top + height, picture.shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    inside = slice(y0, y1), slice(x0, x1)
    return inside, (slice(y0 - cover.top, y1 - cover.top), slice(x0 - cover.left, x1 - cover.left))


def fixed(points: np.ndarray) -> np.ndarray:
    """Pixels to the fixed point numbers that cv2 draws with."""
    return np.round(np.asarray(points) * (1 << FRACTION_BITS)).astype(np.int32)


def polygon(picture: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    """Fill a convex polygon, `[N, 2]` pixels, in place."""
    cv2.fillConvexPoly(picture, fixed(points), colour, cv2.LINE_AA, FRACTION_BITS)


def write_png(out: Path, picture: np.ndarray) -> None:
    """Write uint8 `[H, W, 3]` RGB.

    Raises:
        InputError: the name does not end in .png.
    """
    done, data = cv2.imencode(".png", picture[..., ::-1])
    if not done or out.suffix.lower() != ".png":
        raise InputError(f"{out}: a snapshot is a PNG; use a name that ends in .png")
    with whole_file(out) as aside:
        aside.write_bytes(data.tobytes())
