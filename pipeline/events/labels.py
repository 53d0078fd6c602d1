"""Labelled paths: positions with hits and bounces, as people wrote them down.

A CSV has the columns `game,clip,frame,visibility,x,y,status`: pixels of the picture; visibility 0
where there is no ball; status 0 in flight, 1 hit, 2 bounce.  The labels of the TrackNet tennis data
set look like this once its clips are put one behind the other.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.errors import LabelError
from tracknet.pipeline.events.model import KINDS

BADMINTON_HITS = Path(__file__).parent / "badminton_hits.csv"
_COLUMNS = ("game", "clip", "frame", "visibility", "x", "y", "status")


@dataclass(frozen=True)
class LabelledPath:
    """A clip's path and its events.

    Attributes:
        game, clip: its name; folds hold out whole games.
        xy: float64 [N, 2], px of the picture; NaN where no ball is labelled.
        events: (frame, kind) by frame; frame 0 is the first row of `xy`.
        first: number of that frame in the clip.
        size: width and height of the picture, px.
        fps: frames per second.
        video_id: fingerprint of its video; empty where there is none.
    """

    game: str
    clip: str
    xy: NDArray[np.float64]
    events: tuple[tuple[float, str], ...]
    first: int = 0
    size: tuple[int, int] = (1280, 720)
    fps: float = 30.0
    video_id: str = ""


def read_paths(path: Path, size: tuple[int, int], fps: float) -> list[LabelledPath]:
    """The clips of a CSV, in its order.

    Args:
        path: the CSV.
        size: width and height of the pictures, px.
        fps: frames per second.

    Raises:
        LabelError: with file and line, where a column is missing or a value is no number.
    """
    clips: dict[tuple[str, str], dict[int, tuple[float, float, int]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not set(_COLUMNS) <= set(rows.fieldnames or ()):
            raise LabelError(path, 1, f"must have the columns {','.join(_COLUMNS)}")
        for row in rows:
            try:
                visible = int(row["visibility"]) > 0
                place = (float(row["x"]), float(row["y"])) if visible else (np.nan, np.nan)
                status = int(float(row["status"] or 0))
                if status not in range(1 + len(KINDS)):
                    raise ValueError(f"status {status} is none of 0, 1, 2")
                clip = clips.setdefault((row["game"], row["clip"]), {})
                clip[int(row["frame"])] = (*place, status)
            except (ValueError, TypeError) as problem:
                raise LabelError(path, rows.line_num, str(problem)) from None
    return [_path(*name, frames, size, fps) for name, frames in clips.items()]


def read_hits(path: Path) -> dict[str, tuple[tuple[float, str], ...]]:
    """The events of each clip of a CSV with the columns `clip,frame`, one row per hit.

    A row without a frame names a clip, which may have no hit.

    Raises:
        LabelError: with file and line, where a column is missing or a frame is no number.
    """
    hits: dict[str, list[tuple[float, str]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                here = hits.setdefault(row["clip"], [])
                if row["frame"].strip():
                    here.append((int(row["frame"]), "hit"))
            except (KeyError, ValueError, TypeError, AttributeError):
                raise LabelError(path, rows.line_num, "is no row of `clip,frame`") from None
    return {clip: tuple(sorted(frames)) for clip, frames in hits.items()}


def _path(
    game: str,
    clip: str,
    frames: dict[int, tuple[float, float, int]],
    size: tuple[int, int],
    fps: float,
) -> LabelledPath:
    first = min(frames)
    xy = np.full((max(frames) - first + 1, 2), np.nan)
    for frame, (x, y, _) in frames.items():
        xy[frame - first] = x, y
    events = ((f - first, KINDS[status - 1]) for f, (_, _, status) in frames.items() if status)
    return LabelledPath(game, clip, xy, tuple(sorted(events)), first, size, fps)


def once(events: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Labels of one kind in frames that follow each other are one event, between them.

    >>> once([(39, "hit"), (40, "hit"), (52, "bounce")])
    [(39.5, 'hit'), (52.0, 'bounce')]
    """
    merged = []
    for kind in KINDS:
        run: list[float] = []
        for frame in [*sorted(f for f, k in events if k == kind), np.inf]:
            if run and frame > run[-1] + 1:
                merged.append((sum(run) / len(run), kind))
                run = []
            run.append(frame)
    return sorted(merged)
