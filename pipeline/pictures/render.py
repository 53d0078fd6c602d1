"""Trajectories made visible: an overlay video, and one picture of a whole rally.

`render` copies a video with the ball circled and its last places trailing behind; every frame keeps
its own time.  `snapshot` draws a trajectory, coloured by time, on one picture.

    render(Path("rally.mp4"), rows, Path("overlay.mp4"), tail_frames=15)
    snapshot(Path("rally.mp4"), rows, Path("rally.png"))

Coordinates are pixels of the picture as it is displayed (`pipeline.decoding.geometry`).  Pictures
come from the same decoder process that tracking uses, so frame numbers are the same; sound is
dropped.  Where the rows come from is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.errors import InputError, VideoError
from tracknet.pipeline.pictures.draw import FRACTION_BITS, Cover, blend, fixed, write_png
from tracknet.pipeline.pictures.encode import EncodeConfig, VideoWriter

TAIL = np.array((255, 214, 64))
RING = (255, 255, 255)
OUTLINE = (16, 16, 16)
BACKGROUND_FRAMES = 24
"""About so many pictures, spread over the clip, give the median background."""

NO_CLOCK_TIME_BASE = Fraction(1, 30)
"""A folder of pictures and a raw stream have no clock; they are shown as broadcasts are."""


@dataclass(frozen=True)
class BallRow:
    """One frame of a trajectory.

    Attributes:
        frame: 0-based index of the frame in the video.
        x_px, y_px: the ball in pixels of the picture as shown; None where there is none.
        score: confidence in [0, 1], or None.
    """

    frame: int
    x_px: float | None
    y_px: float | None
    score: float | None = None

    @property
    def place(self) -> tuple[float, float] | None:
        """(x, y) in pixels, None where there is no ball."""
        if self.x_px is None or self.y_px is None:
            return None
        return self.x_px, self.y_px


class Shown(NamedTuple):
    """A decoded frame: its index, RGB uint8 `[H, W, 3]` as displayed, and its time."""

    frame: int
    picture: np.ndarray
    pts: int
    time_base: Fraction


def render(
    video: Path,
    rows: Iterable[BallRow],
    out: Path,
    *,
    tail_frames: int = 12,
    max_height: int | None = None,
    info: bool = True,
    config: EncodeConfig | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Write `video` with the ball and its fading tail on it; returns the number of frames.

    Frames keep their timestamps and time base, a variable frame rate included.  Rows whose frame
    does not decode are passed over, frames without a row are copied.

    Args:
        rows: the trajectory, in frame order; it is read as a stream.
        tail_frames: how many earlier frames the tail reaches back; 0 for no tail.
        max_height: shrink the picture to this height, pixels.
        info: print the frame number and the score in a corner.
        on_progress: called with the number of frames written so far.

    Raises:
        VideoError: the video cannot be opened, has no pictures, or none of them decodes.
        MachineError: it is not there, or cannot be read.
        InputError: a setting that makes no sense, or an `out` that cannot be written.
    """
    if tail_frames < 0:
        raise InputError(f"tail_frames must not be negative, got {tail_frames}")
    if out.resolve() == video.resolve():
        raise InputError(f"{out} is the video itself; write the overlay to another file")
    frames = _matched(decode_upright(video), rows)
    first = next(frames, None)
    if first is None:
        raise VideoError(f"{video}: no frame of it can be decoded")
    height, width, _ = first[0].picture.shape
    scale = _scale(height, max_height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    tail: deque[tuple[float, float] | None] = deque(maxlen=tail_frames + 1)
    written, last_pts = 0, None
    with VideoWriter(out, *size, time_base=first[0].time_base, config=config) as writer:
        for shown, skipped, row in _chain(first, frames):
            tail.extend([None] * min(skipped, tail_frames + 1))
            tail.append(_scaled(row.place, scale) if row and row.place else None)
            picture = _resized(shown.picture, size)
            draw_tail(picture, tail)
            if info and row is not None:
                _print_info(picture, row)
            pts = shown.pts
            if last_pts is not None:
                pts = max(pts, last_pts + 1)  # broken files repeat a time, or go back
            writer.write(picture, pts)
            written, last_pts = written + 1, pts
            if on_progress is not None:
                on_progress(written)
    return written


def snapshot(
    video: Path,
    rows: Iterable[BallRow],
    out: Path,
    *,
    background: Literal["last", "median"] = "last",
    max_height: int | None = None,
) -> None:
    """Write a PNG: one picture of the rally with the whole trajectory on it, coloured by time.

    Args:
        rows: the trajectory, in frame order; matched to frames as in `render`.
        background: the last frame that has a row, or the median over such frames, from which
            players vanish when the camera stands still.
        max_height: shrink the picture to this height, pixels.

    Raises:
        VideoError: the video cannot be opened, or no frame with a row decodes.
        MachineError: it is not there, or cannot be read.
    """
    album: list[np.ndarray] = []
    places: list[tuple[float, float] | None] = []
    stride, last = 1, None
    for i, (shown, skipped, row) in enumerate(_matched(decode_upright(video), rows)):
        if row is None:
            continue
        places += [None] * skipped + [row.place]
        last = shown.picture
        if background == "median" and i % stride == 0:
            album.append(last)
            if len(album) >= 2 * BACKGROUND_FRAMES:
                album, stride = album[::2], 2 * stride
    if last is None:
        raise VideoError(f"{video}: no frame of the trajectory can be decoded")
    still = np.median(album, axis=0).astype(np.uint8) if album else last
    scale = _scale(still.shape[0], max_height)
    size = round(still.shape[1] * scale), round(still.shape[0] * scale)
    picture = _resized(still, size)
    draw_trajectory(picture, [place and _scaled(place, scale) for place in places])
    write_png(out, picture)


def draw_tail(picture: np.ndarray, places: Sequence[tuple[float, float] | None]) -> None:
    """Draw the ball at the last of `places` and a fading tail through the others, in place.

    Args:
        picture: uint8 `[H, W, 3]`, RGB.
        places: x, y in pixels, oldest first; None breaks the tail.
    """
    unit = _unit(picture)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    for age, start, end in _segments(places):
        strength = 1 - age / max(1, len(places))
        width = max(1, round(unit * (1 + 4 * strength)))
        _line(alpha, start, end, round(230 * strength), width)
    used = np.argwhere(alpha.any(axis=1)).ravel(), np.argwhere(alpha.any(axis=0)).ravel()
    if used[0].size:
        top, left = int(used[0][0]), int(used[1][0])
        patch = alpha[top : used[0][-1] + 1, left : used[1][-1] + 1].astype(np.float32) / 255
        blend(picture, Cover(patch, left, top), TAIL)
    ball = places[-1] if places else None
    if ball is not None:
        centre, radius = tuple(fixed(np.array(ball)).tolist()), round(9 * unit)
        for colour, width in ((OUTLINE, round(4 * unit)), (RING, round(2 * unit))):
            cv2.circle(
                picture,
                centre,
                radius << FRACTION_BITS,
                colour,
                max(1, width),
                cv2.LINE_AA,
                FRACTION_BITS,
            )


def draw_trajectory(picture: np.ndarray, places: Sequence[tuple[float, float] | None]) -> None:
    """Draw a whole trajectory in place, violet where it begins and yellow where it ends.

    Args:
        picture: uint8 `[H, W, 3]`, RGB; it is dimmed so that the trajectory stands out.
        places: x, y in pixels by frame; None where there is no ball.
    """
    picture[:] = (picture * 0.6).astype(np.uint8)
    unit, n = _unit(picture), max(2, len(places))
    ramp = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_PLASMA)[
        :, 0, ::-1
    ]
    # The darkest tenth of the map would vanish on a dark court.
    colours = [tuple(ramp[40 + round(215 * i / (n - 1))].tolist()) for i in range(n)]
    for age, start, end in _segments(places):
        _line(picture, start, end, colours[len(places) - 1 - age], max(1, round(2 * unit)))
    for colour, place in zip(colours, places, strict=False):
        if place is not None:
            centre = tuple(fixed(np.array(place)).tolist())
            radius = max(1, round(3.5 * unit * (1 << FRACTION_BITS)))
            cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA, FRACTION_BITS)
    _print_legend(picture, colours, seen=sum(place is not None for place in places))


def decode_upright(path: Path) -> Iterator[Shown]:
    """Decode a video in order of presentation, as it is displayed and at full size.

    Frames that do not decode are passed over.  A folder of pictures is a video, too.

    Raises:
        VideoError: the file cannot be opened as a video.
        MachineError: it is not there, or cannot be read.
    """
    with Decoder() as decoder:
        video = decoder.probe(path)
        for batch in decoder.read(video, range(video.frames), video.width, video.height):
            present = [batch.first + i for i in range(batch.count) if i not in batch.missing]
            for frame, picture in zip(present, batch.pictures, strict=True):
                time_base = video.time_base or NO_CLOCK_TIME_BASE
                yield Shown(frame, picture.copy(), int(video.pts[frame]), time_base)


def _matched(
    frames: Iterator[Shown], rows: Iterable[BallRow]
) -> Iterator[tuple[Shown, int, BallRow | None]]:
    """Each frame with the row that belongs to it, and how many rows had no frame before it."""
    stream = iter(rows)
    row = next(stream, None)
    for shown in frames:
        skipped = 0
        while row is not None and row.frame < shown.frame:
            row, skipped = next(stream, None), skipped + 1
        if row is not None and row.frame == shown.frame:
            yield shown, skipped, row
            row = next(stream, None)
        else:
            yield shown, skipped, None


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _segments(
    places: Sequence[tuple[float, float] | None],
) -> Iterator[tuple[int, tuple[float, float], tuple[float, float]]]:
    """Lines between neighbours that are both known, oldest first, and how old their end is."""
    for i in range(1, len(places)):
        start, end = places[i - 1], places[i]
        if start is not None and end is not None:
            yield len(places) - 1 - i, start, end


def _line(
    picture: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: int | tuple[int, ...],
    width: int,
) -> None:
    a, b = fixed(np.array([start, end])).tolist()
    cv2.line(picture, a, b, colour, width, cv2.LINE_AA, FRACTION_BITS)


def _unit(picture: np.ndarray) -> float:
    """Line widths and letters grow with the picture: 1 at 720 rows."""
    return max(0.35, picture.shape[0] / 720)


def _scale(height: int, max_height: int | None) -> float:
    if max_height is not None and max_height < 16:
        raise InputError(f"max_height must be at least 16 pixels, got {max_height}")
    return 1.0 if max_height is None else min(1.0, max_height / height)


def _scaled(place: tuple[float, float], scale: float) -> tuple[float, float]:
    """Pixel centres are integers, so it is the pixels' edges that scale."""
    return (place[0] + 0.5) * scale - 0.5, (place[1] + 0.5) * scale - 0.5


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture of (width, height) pixels that may be drawn on."""
    if picture.shape[1::-1] == size:
        return picture.copy()
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _print_info(picture: np.ndarray, row: BallRow) -> None:
    """Frame number, and the score as a number and a bar, in the lower right corner."""
    unit = _unit(picture)
    text = f"{row.frame:6d}"
    if row.place is not None and row.score is not None:
        text += f"  {row.score:.2f}"
    height, width, _ = picture.shape
    box = round(26 * unit), round(190 * unit)
    top, left = max(0, height - box[0] - round(8 * unit)), max(0, width - box[1] - round(8 * unit))
    panel = picture[top : top + box[0], left : left + box[1]]
    panel[:] = panel // 3
    corner = left + round(8 * unit), top + round(18 * unit)
    cv2.putText(
        picture,
        text,
        corner,
        cv2.FONT_HERSHEY_DUPLEX,
        0.55 * unit,
        RING,
        max(1, round(unit)),
        cv2.LINE_AA,
    )
    if row.place is not None and row.score is not None:
        share = min(1.0, max(0.0, row.score))
        panel[-max(2, round(3 * unit)) :, : round(panel.shape[1] * share)] = TAIL


def _print_legend(picture: np.ndarray, colours: Sequence[tuple[int, ...]], seen: int) -> None:
    """The colours of time as a bar, and how many frames show a ball."""
    unit = _unit(picture)
    height, width, _ = picture.shape
    length, thick, edge = round(0.25 * width), max(3, round(8 * unit)), round(16 * unit)
    index = np.linspace(0, len(colours) - 1, max(1, length)).round().astype(int)
    bar = np.array(colours, np.uint8)[index]
    top, left = height - edge - thick, max(0, width - edge - length)
    picture[top : top + thick, left : left + length] = bar
    spot = (left, top - round(8 * unit))
    cv2.putText(
        picture,
        f"{seen} places in {len(colours)} frames",
        spot,
        cv2.FONT_HERSHEY_DUPLEX,
        0.6 * unit,
        RING,
        max(1, round(unit)),
        cv2.LINE_AA,
    )
