"""A frame in which a label and what was found disagree, as a picture.

The label is a green circle, what was found a red cross; a strip below enlarges both four times.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.errors import VideoError

_LABEL, _FOUND, _TEXT = (40, 220, 40), (240, 40, 40), (255, 255, 255)
_CUT_PX, _MAGNIFIED = 64, 4

Place = tuple[float, float] | None


def read_frame(path: Path, frame: int) -> np.ndarray:
    """One frame of a video as it is displayed, uint8 [H, W, 3], RGB.

    Raises:
        VideoError: the frame cannot be decoded.
        MachineError: the file cannot be read.
    """
    with Decoder() as decoder:
        video = decoder.probe(path)
        reader = decoder.read(video, range(frame, frame + 1), video.width, video.height)
        pictures = [picture for batch in reader for _, picture in batch.frames()]
    if not pictures or pictures[0] is None:
        raise VideoError(f"{path}: frame {frame} cannot be decoded")
    picture: np.ndarray = np.array(pictures[0])
    return picture


def draw_error(picture: np.ndarray, label: Place, found: Place, caption: str) -> np.ndarray:
    """The frame with both places marked, and behind it what lies around them, enlarged.

    Args:
        picture: uint8 [H, W, 3], RGB; it stays as it is.
        label, found: px of the picture; None where there is no ball.
        caption: printed in the corner, ASCII.

    Returns:
        uint8 [H + 256, W, 3].
    """
    marked = picture.copy()
    size = _CUT_PX * _MAGNIFIED
    strip = np.zeros((size, picture.shape[1], 3), np.uint8)
    for left, (place, colour) in zip(
        (0, size + 8), ((label, _LABEL), (found, _FOUND)), strict=True
    ):
        if place is None:
            continue
        x, y = (round(value) for value in place)
        if colour is _LABEL:
            cv2.circle(marked, (x, y), 14, colour, 2, cv2.LINE_AA)
        else:
            cv2.drawMarker(marked, (x, y), colour, cv2.MARKER_TILTED_CROSS, 24, 2, cv2.LINE_AA)
        around = cv2.getRectSubPix(picture, (_CUT_PX, _CUT_PX), (float(x), float(y)))
        large = cv2.resize(around, (size, size), interpolation=cv2.INTER_NEAREST)
        cv2.rectangle(large, (0, 0), (size - 1, size - 1), colour, 2)
        strip[:, left : left + size] = large[:, : max(0, strip.shape[1] - left)]
    cv2.putText(marked, caption, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, _TEXT, 2, cv2.LINE_AA)
    return np.concatenate([marked, strip])
