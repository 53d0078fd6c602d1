"""Scores of ball tracking: outcome per frame, counts, figures, intervals.  Arithmetic only.

A frame has one of five outcomes (the protocol of TrackNetV2, kept by V5):

    TP    predicted, ball there, closer than the tolerance
    FP1   predicted, ball there, too far away
    FP2   predicted, no ball there
    TN    not predicted, no ball there
    FN    not predicted, ball there

An FP1 is a miss as well as a false alarm, yet recall = TP / (TP + FN) does not see it; we keep the
protocol so that figures compare.

**Space.** "4 px" means two things.  The paper's text says source pixels; the released metric
measures at 512x288 (10 px at 1280x720) with the ground truth scaled and truncated to integers.
`space="model"` is the released metric, `space="source"` plain distances at source size.

>>> table1_v5 = Counts(tp=16573, fp1=116, fp2=13, tn=636, fn=344)
>>> [round(table1_v5.figure(name), 3) for name in FIGURES]
[0.973, 0.992, 0.98, 0.986]

A figure without a denominator is None, never NaN or 0.  Frames without a label must be left out
by the caller: an array here has scored frames only.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Space = Literal["model", "source"]
PROTOCOL_SIZE = (512, 288)  # (width, height) in px at which published figures are measured
_FRACTIONS = {  # how often TP, FP1, FP2, TN, FN are in the numerator and in the denominator
    "accuracy": ((1, 0, 0, 1, 0), (1, 1, 1, 1, 1)),
    "precision": ((1, 0, 0, 0, 0), (1, 1, 1, 0, 0)),
    "recall": ((1, 0, 0, 0, 0), (1, 0, 0, 0, 1)),
    "f1": ((2, 0, 0, 0, 0), (2, 1, 1, 0, 1)),
}
FIGURES = tuple(_FRACTIONS)

# Predictions travel as float32 source pixels; without rounding, a distance of exactly the
# tolerance would fall on either side of it after the way there and back.
_MODEL_SPACE_DECIMALS = 3


class Outcome(IntEnum):
    """What happened in one frame."""

    TP = 0
    FP1 = 1
    FP2 = 2
    TN = 3
    FN = 4


@dataclass(frozen=True)
class Counts:
    """How many frames had each outcome, and the figures that follow.

    >>> Counts(tp=3, fn=1) + Counts(tn=4)
    Counts(tp=3, fp1=0, fp2=0, tn=4, fn=1)
    >>> Counts(tn=4).precision is None
    True
    """

    tp: int = 0
    fp1: int = 0
    fp2: int = 0
    tn: int = 0
    fn: int = 0

    @classmethod
    def of(cls, outcomes: NDArray[np.int8]) -> Counts:
        """Count an array of `Outcome` values."""
        return cls(*(int(n) for n in np.bincount(outcomes, minlength=len(Outcome))))

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Counts(*(mine + theirs for mine, theirs in pairs))

    @property
    def total(self) -> int:
        return sum(astuple(self))

    @property
    def accuracy(self) -> float | None:
        return self.figure("accuracy")

    @property
    def precision(self) -> float | None:
        return self.figure("precision")

    @property
    def recall(self) -> float | None:
        return self.figure("recall")

    @property
    def f1(self) -> float | None:
        return self.figure("f1")

    def figure(self, name: str) -> float | None:
        """One of `FIGURES` by name; None where its denominator is 0.

        Raises:
            ValueError: it is none of them.
        """
        part, whole = np.array(astuple(self)) @ _fraction(name)
        return float(part / whole) if whole else None


def _fraction(figure: str) -> NDArray[np.int64]:
    """int64 [5, 2]: how often each count is in a figure's numerator and denominator."""
    if figure not in _FRACTIONS:
        raise ValueError(f"figure {figure!r} is none of {FIGURES}")
    return np.array(_FRACTIONS[figure], np.int64).T


def outcomes(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], tolerance: float
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Judge every frame; both arrays in the same pixels.

    Args:
        predicted, truth: [N, 2] (x, y); a row of NaN where there is no prediction or no ball.
        tolerance: in the same pixels.  A hit is strictly closer.

    Returns:
        `Outcome` values, int8 [N], and the distances, float64 [N], NaN unless both are there.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape or predicted.ndim != 2 or predicted.shape[1] != 2:
        raise ValueError(f"need two arrays [N, 2], got {predicted.shape} and {truth.shape}")
    has_prediction = ~np.isnan(predicted).any(axis=1)
    has_ball = ~np.isnan(truth).any(axis=1)
    distance = np.hypot(*(predicted - truth).T)
    result = np.select(
        [
            has_prediction & has_ball & (distance < tolerance),
            has_prediction & has_ball,
            has_prediction,
            ~has_ball,
        ],
        [Outcome.TP, Outcome.FP1, Outcome.FP2, Outcome.TN],
        default=Outcome.FN,
    )
    return result.astype(np.int8), distance


def score_clip(
    predicted_px: NDArray[np.floating],
    truth_px: NDArray[np.floating],
    *,
    tolerance: float = 4.0,
    space: Space = "model",
    source_size: tuple[int, int],
    model_size: tuple[int, int],
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Judge the frames of one clip, both arrays in source pixels.

    Args:
        predicted_px, truth_px: [N, 2] source px (x, y), NaN rows for none.
        tolerance: in px of `space`.
        space: "model" is the released metric at `model_size`; "source" plain source pixels.
        source_size, model_size: (width, height) in px.

    Returns:
        As `outcomes`; the distances are px of `space`.
    """
    if space == "source":
        return outcomes(predicted_px, truth_px, tolerance)
    return outcomes(
        predictions_in_model_space(predicted_px, source_size, model_size),
        truth_in_model_space(truth_px, source_size, model_size),
        tolerance,
    )


def truth_in_model_space(
    truth_px: NDArray[np.floating], source_size: tuple[int, int], model_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Ground truth as the released metric sees it: scaled about the corner, then truncated.

    >>> truth_in_model_space(np.array([[639.0, 361.0]]), (1280, 720), (512, 288))
    array([[255., 144.]])
    """
    scale = np.divide(model_size, source_size)
    return np.trunc(np.asarray(truth_px, np.float64) * scale)


def predictions_in_model_space(
    predicted_px: NDArray[np.floating], source_size: tuple[int, int], model_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Undo the way of a prediction to source pixels (pixel centres at integers).

    >>> predictions_in_model_space(np.array([[640.75, 360.75]]), (1280, 720), (512, 288))
    array([[256., 144.]])
    """
    scale = np.divide(model_size, source_size)
    model = (np.asarray(predicted_px, np.float64) + 0.5) * scale - 0.5
    return np.round(model, _MODEL_SPACE_DECIMALS)


def breakdown(found: NDArray[np.int8], keys: Sequence[Hashable]) -> dict[Hashable, Counts]:
    """Counts per key (clip, match, sport, visibility), in order of first appearance.

    >>> breakdown(np.array([0, 4, 0], np.int8), ["a", "a", "b"])["a"]
    Counts(tp=1, fp1=0, fp2=0, tn=0, fn=1)
    """
    if len(keys) != len(found):
        raise ValueError(f"{len(found)} outcomes but {len(keys)} keys")
    members: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    return {key: Counts.of(found[rows]) for key, rows in members.items()}


def bootstrap_interval(
    clips: Sequence[Counts],
    figure: str = "f1",
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of a figure, resampling whole clips.

    Frames of a rally resemble each other, so frames are no independent sample; clips nearly are.

    Args:
        clips: one `Counts` per clip.
        figure: one of `FIGURES`.
        level: share of resamples between the two ends.

    Returns:
        (low, high), or None if there are fewer than two clips or the figure is undefined.
    """
    if len(clips) < 2:
        return None
    table = np.array([astuple(clip) for clip in clips], np.int64)
    draws = np.random.default_rng(seed).integers(len(clips), size=(resamples, len(clips)))
    part, whole = (table[draws].sum(axis=1) @ _fraction(figure)).T
    defined = part[whole > 0] / whole[whole > 0]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def threshold_sweep(
    found: NDArray[np.int8], scores: NDArray[np.floating], thresholds: Sequence[float]
) -> Mapping[float, Counts]:
    """Counts if only predictions with a score of at least each threshold had been made.

    Args:
        found: [N], `Outcome` values.
        scores: [N], the score of each prediction; NaN where there is no prediction, or one that
            has no score (a bridge over a gap) and stays at every threshold.

    >>> found = np.array([Outcome.TP, Outcome.FP2, Outcome.FN], np.int8)
    >>> threshold_sweep(found, np.array([0.9, 0.6, np.nan]), [0.7])[0.7]
    Counts(tp=1, fp1=0, fp2=0, tn=1, fn=1)
    """
    # Dropping a prediction turns TP and FP1 into FN, and FP2 into TN; the distance stays as it is.
    dropped = np.where(found == Outcome.FP2, Outcome.TN, found)
    dropped = np.where(found <= Outcome.FP1, Outcome.FN, dropped)
    return {
        threshold: Counts.of(np.where(scores < threshold, dropped, found))
        for threshold in thresholds
    }
