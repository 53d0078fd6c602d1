"""Scoring: trajectories joined with labels, frame by frame, and the figures that follow.

    store ⋈ labelled clips ──score──▶ eval_frames (a row per labelled frame)
                           ──count──▶ eval_metrics, eval_errors

A clip finds its trajectory by content, wherever both lie.  A frame without a label is not scored;
a frame that could not be decoded is scored as one in which nothing was found.  What is kept of a
clip are counts, so memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracknet.jobs.rows import places_of
from tracknet.pipeline.datasets import Clip, clip_id, clip_labels
from tracknet.pipeline.datasets.windowed import UNLABELLED
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.scoring.errors import KINDS, error_kinds
from tracknet.pipeline.scoring.labels import VISIBILITIES
from tracknet.pipeline.scoring.metrics import (
    FIGURES,
    PROTOCOL_SIZE,
    Counts,
    Outcome,
    Space,
    bootstrap_interval,
    score_clip,
    threshold_sweep,
)
from tracknet.schemas.store import Store
from tracknet.schemas.tables import EVAL_ERRORS, EVAL_FRAMES, EVAL_METRICS

MIN_SCORES = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95)
"""The sweep; 0 keeps every ball that the run found."""


@dataclass(frozen=True)
class Protocol:
    """When a prediction is a hit.

    Attributes:
        tolerance: distance below which it is one, px of `space`.
        space: "model" (512x288, the released metric) or "source" (px of the video).
    """

    tolerance: float = 4.0
    space: Space = "model"

    def __post_init__(self) -> None:
        if self.tolerance <= 0:
            raise InputError(f"--tolerance {self.tolerance}: must be above 0")

    @property
    def name(self) -> str:
        """As files are called.

        >>> Protocol().name
        'model-4px'
        """
        return f"{self.space}-{self.tolerance:g}px"


@dataclass(frozen=True)
class Scored:
    """What is kept of a scored clip.

    Attributes:
        clip: which.
        counts: outcomes by (label's visibility, least score).
        errors: frames by kind of error.
    """

    clip: Clip
    counts: Mapping[tuple[int, float], Counts]
    errors: Mapping[str, int]

    def total(self, min_score: float = 0.0) -> Counts:
        """Outcomes of all its labelled frames."""
        parts = [counts for (_, least), counts in self.counts.items() if least == min_score]
        return reduce(add, parts, Counts())


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        protocol: how frames are scored.
        metrics: the rows of `schemas.tables.EVAL_METRICS`, as written.
        errors: the rows of `schemas.tables.EVAL_ERRORS`, as written.
        scored: labelled clips that were scored.
        missing: labelled clips without a published trajectory.
        file: the table of metrics.
    """

    protocol: Protocol
    metrics: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    scored: list[Clip]
    missing: list[Clip]
    file: Path

    def rows(self, grouping: str, min_score: float = 0.0) -> list[dict[str, Any]]:
        """The metrics of one grouping."""
        return [
            row
            for row in self.metrics
            if row["grouping"] == grouping and row["min_score"] == min_score
        ]


def evaluate(
    store: Store,
    clips: Sequence[Clip],
    protocol: Protocol,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Score the trajectories of a store, and write the tables of scores there.

    Args:
        store: what `jobs.track.track` filled.
        clips: labelled clips.
        protocol: when a prediction is a hit.
        on_progress: called with the number of clips done.

    Raises:
        InputError: none of the clips has a trajectory here.
        LabelError: labels are broken; nothing is written.
    """
    labels = [clip_labels(clip) for clip in clips]
    ids = [clip_id(clip) for clip in clips]
    scored, missing = [], []
    with store.lock():
        if not any(store.is_published(video_id) for video_id in ids):
            raise InputError(
                f"{store.root} has rows of none of the {len(clips)} labelled clips; track them "
                f"first: tracknet clips ROOT --paths > clips.txt && "
                f"tracknet track clips.txt --out {store.root}"
            )
        store.clear_evaluation(protocol.name)
        for done, (clip, video_id, label) in enumerate(zip(clips, ids, labels, strict=True), 1):
            if store.is_published(video_id):
                rows, counts = score(store.read_trajectory(video_id), clip, *label, protocol)
                store.write_eval_frames(protocol.name, video_id, rows)
                kinds = Counter(kind for kind in rows["error"].to_pylist() if kind)
                scored.append(Scored(clip, counts, kinds))
            else:
                missing.append(clip)
            on_progress(done)
        metrics = list(metric_rows(scored, protocol))
        errors = list(error_rows(scored, protocol))
        store.write_eval_errors(protocol.name, pa.Table.from_pylist(errors, EVAL_ERRORS))
        result = store.marker or {}
        file = store.write_eval_metrics(
            protocol.name, pa.Table.from_pylist(metrics, EVAL_METRICS), result
        )
    return Evaluation(protocol, metrics, errors, [one.clip for one in scored], missing, file)


def score(
    trajectory: pa.Table,
    clip: Clip,
    visibility: NDArray[np.int8],
    truth: NDArray[np.float64],
    protocol: Protocol,
) -> tuple[pa.Table, dict[tuple[int, float], Counts]]:
    """Judge the labelled frames of a clip.

    Args:
        trajectory: one row per frame.
        clip: which clip.
        visibility, truth: see `pipeline.datasets.clip_labels`.
        protocol: when a prediction is a hit.

    Returns:
        Rows of EVAL_FRAMES, and counts by (visibility, least score).

    Raises:
        InputError: trajectory and labels are of different lengths.
    """
    if len(trajectory) != clip.frames:
        raise InputError(f"{clip}: {len(trajectory)} rows, but {clip.frames} frames")
    labelled = np.flatnonzero(visibility != UNLABELLED)
    trajectory = trajectory.take(pa.array(labelled))
    visibility, truth = visibility[labelled], truth[labelled]
    predicted = places_of(trajectory)
    outcomes, distance = score_clip(
        predicted,
        truth,
        tolerance=protocol.tolerance,
        space=protocol.space,
        source_size=clip.size,
        model_size=PROTOCOL_SIZE,
    )
    return (
        _frame_rows(trajectory, clip, visibility, truth, outcomes, distance, protocol),
        _counts(outcomes, _floats(trajectory["score"]), visibility),
    )


def _counts(
    outcomes: NDArray[np.int8], scores: NDArray[np.float64], visibility: NDArray[np.int8]
) -> dict[tuple[int, float], Counts]:
    return {
        (int(kind), least): counts
        for kind in np.unique(visibility)
        for least, counts in threshold_sweep(
            outcomes[visibility == kind], scores[visibility == kind], MIN_SCORES
        ).items()
    }


def _frame_rows(
    trajectory: pa.Table,
    clip: Clip,
    visibility: NDArray[np.int8],
    truth: NDArray[np.float64],
    outcomes: NDArray[np.int8],
    distance: NDArray[np.float64],
    protocol: Protocol,
) -> pa.Table:
    n = len(trajectory)
    same = {
        "sport": clip.sport,
        "match": clip.match,
        "clip": clip.name,
        "split": clip.split,
        "test_set": clip.test_set,
        "space": protocol.space,
        "tolerance_px": protocol.tolerance,
    }
    columns = {
        **{name: trajectory[name] for name in ("video_id", "frame", "x_px", "y_px", "score")},
        **{name: pa.array([value] * n) for name, value in same.items()},
        "visibility": pa.array(visibility),
        "outcome": pa.array([Outcome(value).name for value in outcomes], pa.string()),
        "error_px": pa.array(distance, from_pandas=True),
        "error": pa.array(_error_kinds(trajectory, clip, truth, outcomes, protocol), pa.string()),
        "label_x_px": pa.array(truth[:, 0], from_pandas=True),
        "label_y_px": pa.array(truth[:, 1], from_pandas=True),
    }
    table = pa.table({name: columns[name] for name in EVAL_FRAMES.names})
    return table.cast(EVAL_FRAMES)


def _error_kinds(
    trajectory: pa.Table,
    clip: Clip,
    truth: NDArray[np.float64],
    outcomes: NDArray[np.int8],
    protocol: Protocol,
) -> list[str | None]:
    """See `pipeline.scoring.errors`; places and the tolerance are scaled to a width of 512 px."""
    scale = PROTOCOL_SIZE[0] / clip.size[0]
    tolerance = protocol.tolerance * (scale if protocol.space == "source" else 1)
    return error_kinds(outcomes, places_of(trajectory) * scale, truth * scale, tolerance)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A nullable column as float64, NaN for null."""
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


def metric_rows(scored: Sequence[Scored], protocol: Protocol) -> Iterator[dict[str, Any]]:
    """The rows of EVAL_METRICS, in the order of the groupings."""
    for grouping, groups in _groupings(scored).items():
        for group, members in groups.items():
            for least in MIN_SCORES:
                yield _metric_row(
                    grouping, group, least, [s.total(least) for s in members], protocol
                )
    for kind, name in VISIBILITIES.items():
        for least in MIN_SCORES:
            per_clip = [s.counts[kind, least] for s in scored if (kind, least) in s.counts]
            if per_clip:
                yield _metric_row("visibility", name, least, per_clip, protocol)


def error_rows(scored: Sequence[Scored], protocol: Protocol) -> Iterator[dict[str, Any]]:
    """The rows of EVAL_ERRORS, in the order of the groupings."""
    for grouping, groups in _groupings(scored).items():
        for group, members in groups.items() if grouping not in ("match", "clip") else ():
            frames = sum(one.total().total for one in members)
            for kind in KINDS:
                wrong = sum(one.errors.get(kind, 0) for one in members)
                yield {
                    "grouping": grouping,
                    "group": group,
                    "space": protocol.space,
                    "tolerance_px": protocol.tolerance,
                    "error": kind,
                    "frames": wrong,
                    "share": wrong / frames if frames else 0.0,
                }


def _groupings(scored: Sequence[Scored]) -> dict[str, dict[str, list[Scored]]]:
    name_of: dict[str, Callable[[Clip], str]] = {
        "all": lambda _: "all",
        "split": lambda clip: clip.split,
        "test_set": lambda clip: clip.test_set and f"{clip.sport}/{clip.test_set}",
        "sport": lambda clip: clip.sport,
        "match": lambda clip: f"{clip.sport}/{clip.match}",
        "clip": str,
    }
    groupings: dict[str, dict[str, list[Scored]]] = {}
    for grouping, name in name_of.items():
        groups = groupings.setdefault(grouping, {})
        for one in scored:
            if group := name(one.clip):
                groups.setdefault(group, []).append(one)
    return groupings


def _metric_row(
    grouping: str, group: str, least: float, per_clip: Sequence[Counts], protocol: Protocol
) -> dict[str, Any]:
    total = reduce(add, per_clip)
    tp, fp1, fp2, tn, fn = astuple(total)
    row: dict[str, Any] = {
        "grouping": grouping,
        "group": group,
        "min_score": least,
        "space": protocol.space,
        "tolerance_px": protocol.tolerance,
        "clips": len(per_clip),
        "frames": total.total,
        **{"tp": tp, "fp1": fp1, "fp2": fp2, "tn": tn, "fn": fn},
    }
    for figure in FIGURES:
        row[figure] = total.figure(figure)
        interval = bootstrap_interval(per_clip, figure) or (None, None)
        row[f"{figure}_low"], row[f"{figure}_high"] = interval
    return row
