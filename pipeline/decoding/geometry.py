"""From stored to displayed pixels: the one place where it is done.

What a file stores is not what a player shows.  In this order a player

1. cuts out the part to be shown (Matroska's pixel crop, QuickTime's clean aperture),
2. stretches pixels that are not square (the height stays, the width follows the sample aspect),
3. mirrors and turns the picture (the display matrix).

What comes out is the *displayed* picture; all coordinates of the project are its pixels.  A
picture handed to a network keeps this shape, with black beside it (`pipeline.spec.fit`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideData

from tracknet.pipeline.spec import Box, fit

_SCALER = "BILINEAR"  # what Decord scales with, so that both decoders give the same picture
_WIDEST = 8  # a sample aspect beyond 8:1 is damage, not a format


@dataclass(frozen=True)
class Geometry:
    """How the stored pictures of a video are displayed.

    Attributes:
        width, height: of the displayed picture, px.
        rotation: degrees counter-clockwise that the picture is turned: 0, 90, 180, 270.
        mirrored: left and right are swapped, before it is turned.
        crop: the part of the stored picture that is shown, stored px; None for all of it.
    """

    width: int
    height: int
    rotation: int = 0
    mirrored: bool = False
    crop: Box | None = None

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to scale the stored picture to, so that `place` puts it in `width` x
        `height`.
        """
        box = fit((self.width, self.height), (width, height))
        turned = self.rotation in (90, 270)
        return (box.height, box.width) if turned else (box.width, box.height)

    def place(self, pictures: np.ndarray, width: int, height: int) -> np.ndarray:
        """Stored pictures uint8 `[..., h, w, 3]` of `scaled_size` as they are displayed.

        Returns:
            uint8 `[..., height, width, 3]`, black beside the picture.
        """
        if self.mirrored:
            pictures = pictures[..., ::-1, :]
        pictures = np.rot90(pictures, self.rotation // 90, axes=(-3, -2))
        box = fit((self.width, self.height), (width, height))
        if (box.width, box.height) == (width, height):
            return pictures
        canvas = np.zeros((*pictures.shape[:-3], height, width, 3), np.uint8)
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        canvas[..., rows, columns, :] = pictures
        return canvas

    def show(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """A decoded frame as it is displayed, RGB uint8 `[height, width, 3]`.

        A frame of another size than the first (streams may change) fills the same picture.
        """
        if self.crop is not None:
            left, top, wide, high = self.crop
            part: Any = frame.to_ndarray(format="rgb24")[top : top + high, left : left + wide]
            part = np.ascontiguousarray(part, np.uint8)
            frame = av.VideoFrame.from_ndarray(part, format="rgb24")
        size = self.scaled_size(width, height)
        scaled = frame.reformat(*size, format="rgb24", interpolation=_SCALER)
        return self.place(scaled.to_ndarray(), width, height)

    def show_picture(self, picture: np.ndarray, width: int, height: int) -> np.ndarray:
        """A picture of a folder, uint8 BGR `[h, w, 3]`, as RGB uint8 `[height, width, 3]`."""
        own = Geometry(picture.shape[1], picture.shape[0])
        if (own.width, own.height) != (self.width, self.height):
            picture = own._scaled_by_area(picture, self.width, self.height)
        return cv2.cvtColor(self._scaled_by_area(picture, width, height), cv2.COLOR_BGR2RGB)

    def _scaled_by_area(self, picture: np.ndarray, width: int, height: int) -> np.ndarray:
        size = self.scaled_size(width, height)
        return self.place(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), width, height)


def geometry_of(
    stored: tuple[int, int],
    sample_aspect: Fraction | None,
    crop: Box | None,
    matrix: np.ndarray | None,
) -> Geometry:
    """What the container and the codec say about display, as one thing.

    Args:
        stored: width and height of the stored picture, px.
        sample_aspect: width by height of a pixel; None for square.
        crop: the part that is shown; None for all of it.
        matrix: int32 `[3, 3]`, the display matrix (row vectors, y down); None for none.

    >>> geometry_of((720, 576), Fraction(16, 15), None, None)
    Geometry(width=768, height=576, rotation=0, mirrored=False, crop=None)
    """
    if crop is not None and not (
        0 <= crop.left <= stored[0] - crop.width
        and 0 <= crop.top <= stored[1] - crop.height
        and min(crop.width, crop.height) > 0
    ):
        crop = None  # a part that lies outside of the picture
    width, height = stored if crop is None else (crop.width, crop.height)
    aspect = Fraction(sample_aspect or 1)
    if not Fraction(1, _WIDEST) <= aspect <= _WIDEST:
        aspect = Fraction(1)
    if aspect == Fraction(stored[0] * height, stored[1] * width):
        # Matroska's display size, left as it was when the crop was added: the pixels are square.
        aspect = Fraction(1)
    size = max(1, round(width * aspect)), height
    mirrored, rotation = _turn(matrix)
    if rotation in (90, 270):
        size = size[::-1]
    return Geometry(*size, rotation, mirrored, crop)


def display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """The display matrix of a frame, int32 `[3, 3]`; None where there is none."""
    side_data: Any = frame.side_data
    for data in side_data:
        if data.type is SideData.DISPLAYMATRIX:
            return np.frombuffer(bytes(data), np.int32, count=9).reshape(3, 3)
    return None


def _turn(matrix: np.ndarray | None) -> tuple[bool, int]:
    """Whether to mirror, and then how far to turn, degrees counter-clockwise."""
    if matrix is None:
        return False, 0
    (a, b), (c, d) = matrix[:2, :2].astype(float)
    mirrored = bool(a * d - b * c < 0)
    if mirrored:
        a, b = -a, -b
    # A turn by w is ((cos w, -sin w), (sin w, cos w)), since y points down.
    return mirrored, round(math.degrees(math.atan2(c - b, a + d)) / 90) % 4 * 90
