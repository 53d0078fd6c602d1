"""What kind of error each wrongly judged frame is.

    kinds = error_kinds(outcomes, predicted, truth)

    missed_still     a ball that hardly moves was not seen
    missed_moving    a moving ball was not seen
    fixture          a place that is taken for the ball again and again, while the ball is elsewhere
    near_miss        the ball was seen beside its place, less than three tolerances away
    far              something else was taken for the ball
    false_alarm      something was taken for the ball, and there is none

Coordinates are pixels of a picture 512 wide, the network's.  This module knows nothing of files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.scoring.metrics import Outcome

KINDS = ("missed_still", "missed_moving", "fixture", "near_miss", "far", "false_alarm")
_STILL_PX = 1.5  # per frame
_SAME_PLACE_PX = 2.0
_FIXTURE_FRAMES = 10  # wrong at the same place
_NEAR = 3.0  # tolerances


def error_kinds(
    outcomes: NDArray[np.int8],
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    tolerance: float = 4.0,
) -> list[str | None]:
    """Name the error of each labelled frame of a clip.

    A miss is of a still ball where its label is less than 1.5 px a frame away from the label before
    or behind.  A wrong place is a fixture where 10 wrong places of the clip are within 2 px of it.

    Args:
        outcomes: [N], `metrics.Outcome` of each frame, in the order of the clip.
        predicted, truth: [N, 2], NaN rows for none.
        tolerance: px within which a prediction is right.

    Returns:
        One of KINDS for each frame; None where it is right.

    >>> nan = (np.nan, np.nan)
    >>> truth = np.array([(10, 10), (10, 11), (30, 11), nan, (90, 9)])
    >>> seen = np.array([(10, 10), nan, nan, (200, 60), (97, 9)])
    >>> error_kinds(np.array([0, 4, 4, 2, 1], np.int8), seen, truth)
    [None, 'missed_still', 'missed_moving', 'false_alarm', 'near_miss']
    """
    steps = np.linalg.norm(np.diff(truth, axis=0), axis=1)
    steps = np.nan_to_num(np.concatenate([[np.inf], steps, [np.inf]]), nan=np.inf)
    still = np.minimum(steps[:-1], steps[1:]) < _STILL_PX
    wrong = np.isin(outcomes, (Outcome.FP1, Outcome.FP2))
    places = predicted[wrong]
    between = np.linalg.norm(predicted[:, None] - places[None], axis=2)
    again = (between <= _SAME_PLACE_PX).sum(1) >= _FIXTURE_FRAMES
    near = np.linalg.norm(predicted - truth, axis=1) < _NEAR * tolerance
    kinds: list[str | None] = []
    for i, outcome in enumerate(outcomes):
        if outcome == Outcome.FN:
            kinds.append("missed_still" if still[i] else "missed_moving")
        elif not wrong[i]:
            kinds.append(None)
        elif again[i]:
            kinds.append("fixture")
        elif outcome == Outcome.FP2:
            kinds.append("false_alarm")
        else:
            kinds.append("near_miss" if near[i] else "far")
    return kinds
