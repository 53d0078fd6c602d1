"""Ball labels: reads both public layouts into one record per frame.

* TrackNetV2 layout: `Frame,Visibility,X,Y`, one file per video (`NAME_ball.csv` or `NAME.csv`).
* TrackNet tennis layout: `file name,visibility,x-coordinate,y-coordinate,status`, one `Label.csv`
  beside the frames `0000.jpg`, `0001.jpg`, ...; coordinates are empty where there is no ball.

Which layout a file has is read off its header line.  A frame without a row is *unlabelled*: it
gets no record at all, because "not labelled" is not "there is no ball".

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "rally_ball.csv"
>>> _ = path.write_text("Frame,Visibility,X,Y\\n0,1,640.5,360\\n1,0,0,0\\n")
>>> read_labels(path, n_frames=2, size=(1280, 720))[1]
BallLabel(frame=1, visibility=0, x_px=None, y_px=None)

This module knows nothing of pictures: it is told how many frames there are and how large they are.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracknet.pipeline.errors import LabelError

VISIBILITIES = {0: "absent", 1: "clear", 2: "hard to see", 3: "occluded"}

# Column names for (frame, visibility, x, y).
_TRACKNETV2 = ("Frame", "Visibility", "X", "Y")
_TENNIS = ("file name", "visibility", "x-coordinate", "y-coordinate")


@dataclass(frozen=True, slots=True)
class BallLabel:
    """Where the ball is in one frame.

    Attributes:
        frame: 0-based frame index within the clip.
        visibility: 0 no ball in the picture, 1 clear, 2 hard to see, 3 occluded.
        x_px, y_px: source pixels, origin top left, pixel centres at integers; None exactly where
            the visibility is 0.
    """

    frame: int
    visibility: int
    x_px: float | None
    y_px: float | None


def read_labels(
    path: Path, *, n_frames: int | None = None, size: tuple[int, int] | None = None
) -> tuple[BallLabel, ...]:
    """Read a label file of either layout, ascending by frame.

    Args:
        path: the label file.
        n_frames: frames of the clip; a label beyond it is an error.  None: not checked.
        size: (width, height) of the source in px; a ball outside of it is an error.  A pixel
            reaches half a pixel around its centre, so x lies in [-0.5, width - 0.5].

    Raises:
        LabelError: with file and line, if the columns are wrong, a value is no number, a frame
            appears twice or lies outside the clip, or a ball lies outside the picture.
    """
    labels: dict[int, BallLabel] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = _columns_of(path, rows.fieldnames or ())
            for row in rows:
                try:
                    label = _parse(row, columns)
                    _check(label, labels, n_frames, size)
                except ValueError as problem:
                    raise LabelError(path, rows.line_num, str(problem)) from None
                labels[label.frame] = label
    except UnicodeDecodeError:
        raise LabelError(path, 1, "is not UTF-8 text; save it as CSV") from None
    return tuple(labels[frame] for frame in sorted(labels))


def _columns_of(path: Path, header: object) -> tuple[str, str, str, str]:
    names = tuple(header) if isinstance(header, (list, tuple)) else ()
    for columns in (_TRACKNETV2, _TENNIS):
        if set(columns) <= set(names):
            return columns
    expected = " or ".join(repr(",".join(columns)) for columns in (_TRACKNETV2, _TENNIS))
    raise LabelError(path, 1, f"has the columns {','.join(map(str, names))!r}; expected {expected}")


def _parse(row: Mapping[str | None, str | None], columns: tuple[str, str, str, str]) -> BallLabel:
    if None in row or None in row.values():
        raise ValueError("has another number of columns than the header")
    frame_text, visibility_text, x_text, y_text = (str(row[name]).strip() for name in columns)
    frame = _integer("frame", Path(frame_text).stem if columns is _TENNIS else frame_text)
    visibility = _integer("visibility", visibility_text)
    if visibility not in VISIBILITIES:
        raise ValueError(f"visibility {visibility} is none of {sorted(VISIBILITIES)}")
    if visibility == 0:  # whatever the file has for coordinates here ("0,0" or nothing) is no place
        return BallLabel(frame, 0, None, None)
    return BallLabel(frame, visibility, _coordinate("x", x_text), _coordinate("y", y_text))


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not a whole number") from None


def _coordinate(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{name} {text!r} is not a finite number")
    return value


def _check(
    label: BallLabel,
    earlier: Mapping[int, BallLabel],
    n_frames: int | None,
    size: tuple[int, int] | None,
) -> None:
    if label.frame in earlier:
        raise ValueError(f"frame {label.frame} is labelled twice")
    if label.frame < 0 or (n_frames is not None and label.frame >= n_frames):
        last = "" if n_frames is None else n_frames - 1
        raise ValueError(f"frame {label.frame} lies outside the clip (0..{last})")
    if size is None or label.x_px is None or label.y_px is None:
        return
    width, height = size
    if not (-0.5 <= label.x_px <= width - 0.5 and -0.5 <= label.y_px <= height - 0.5):
        raise ValueError(
            f"ball at ({label.x_px:g}, {label.y_px:g}) lies outside the {width}x{height} picture"
        )
