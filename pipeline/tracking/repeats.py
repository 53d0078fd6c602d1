"""Frames that repeat the previous one, as broadcasts made from another frame rate have them.

25 frames a second become 30 by showing every fifth picture twice.  Within a window such a pair
hides the motion that finds the ball, so windows are laid over frames that differ
(`pipeline.tracking.windows.without_repeats`), and a repeat gets the answer of its picture.

>>> pictures = np.zeros((3, 4, 6, 3), np.uint8)
>>> pictures[2, 1, 1] = 200
>>> repeats(pictures)
array([False,  True, False])

A repeat is not equal to the last bit, since it was encoded again; but nothing changes that a ball
could be.  In badminton broadcasts made from 25 to 30 frames/s (6,512 pairs of neighbours at
512x288, of which a sixth, 1,085, are repeats) 1,064 pairs differ by less than 20 levels in every
value, 42 by 20 to 25; then a thin tail of still scenes begins.  In 8,284 pairs of padel and tennis
videos, 3 differ by less than 30.

Those pictures hold black and white.  In a dark or hazy one a ball makes less difference than that,
so pictures are compared as if their darkest and brightest values were 0 and 255.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LEVELS = 25  # of 255 between a picture's darkest and brightest values


def repeats(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pictures repeat the previous one.

    Args:
        pictures: uint8 `[N, H, W, 3]` at network size.

    Returns:
        bool `[N]`; the first is never one.
    """
    found = np.zeros(len(pictures), np.bool_)
    for i in range(1, len(pictures)):
        difference = cv2.norm(pictures[i], pictures[i - 1], cv2.NORM_INF)
        if difference < _LEVELS:  # of what may be less: look closer
            levels = max(1, int(pictures[i].max()) - int(pictures[i].min()))
            found[i] = difference * 255 < _LEVELS * levels
    return found
