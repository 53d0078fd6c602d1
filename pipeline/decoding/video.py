"""What is known of a video before a frame of it is decoded.

A `Video` is made once per file by the decoder process (`pipeline.decoding.child`), from the
container's own numbers: every packet's integer PTS, the keyframes, size, rotation, time base.
Nothing here is derived from a frame rate, and a header that announces more frames than there
are does not matter: frames are the packets that will be presented, in order of presentation.

This module holds the record and its arithmetic; it opens no video and knows nothing of decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tracknet.pipeline.decoding.geometry import Geometry
from tracknet.pipeline.errors import VideoError
from tracknet.pipeline.spec import Box

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Of the files in a folder of pictures."""


@dataclass(frozen=True)
class Video:
    """A probed video.

    Attributes:
        video_id: content fingerprint, the first 32 hex digits of the SHA-256 of the bytes (for a
            folder of pictures: of names and bytes in order).
        source: path or URI as found.
        kind: `file`, or `frames` for a folder of pictures.
        container, codec: FFmpeg's short names.
        width, height, rotation, mirrored, crop: how the picture is displayed, see
            `pipeline.decoding.geometry.Geometry`.
        time_base: seconds per PTS tick; None where there is no clock: a folder of pictures, a raw
            stream.
        announced_frames: what the container's header claims, 0 where it claims nothing.
        size_bytes, mtime_ns: of the file, to notice later that it is unchanged.
        seekable: False where packets have no usable timestamps, or packets and frames do not
            correspond; such a video is decoded from its start, in one shard.
        paired: every packet gives one picture, in order of PTS, so that pictures may be counted
            (see `pipeline.decoding.probe`).
        damage: what the container is missing, in words; None where it is whole.
        note: what a reader of the rows should know, such as a missing clock; None for nothing.
        pts: int64 `[frames]`, presentation timestamps in ticks, the number of the frame without a
            clock.  Ascending where the video is seekable; else as the container says.
        keyframes: int64 `[k, 3]`: frame index, PTS and DTS of each frame at which a decoder can
            start. The first row is frame 0 and means "from the start of the file".
    """

    video_id: str
    source: str
    kind: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    mirrored: bool
    crop: Sequence[int] | None
    time_base: Fraction | None
    announced_frames: int
    size_bytes: int
    mtime_ns: int
    seekable: bool
    paired: bool
    damage: str | None
    note: str | None
    pts: np.ndarray
    keyframes: np.ndarray

    def __post_init__(self) -> None:
        if self.pts.dtype != np.int64 or self.pts.ndim != 1:
            raise VideoError(f"{self.source}: pts must be int64 [frames], is {self.pts.dtype}")
        if self.keyframes.ndim != 2 or self.keyframes.shape[1] != 3:
            raise VideoError(f"{self.source}: keyframes must be [k, 3], is {self.keyframes.shape}")
        if self.rotation not in (0, 90, 180, 270):
            raise VideoError(f"{self.source}: rotation {self.rotation} is no quarter turn")

    @property
    def geometry(self) -> Geometry:
        """How stored pictures become displayed ones."""
        crop = None if self.crop is None else Box(*self.crop)
        return Geometry(self.width, self.height, self.rotation, self.mirrored, crop)

    @property
    def frames(self) -> int:
        """Frames that will be presented; each gets one row."""
        return len(self.pts)

    def time_s(self) -> np.ndarray | None:
        """Seconds from the container's zero, float64 `[frames]`; None without a clock."""
        if self.time_base is None:
            return None
        return self.pts * float(self.time_base)

    def keyframe_times(self) -> list[tuple[int, float]]:
        """`(frame, seconds)` of each keyframe; without a clock a picture counts as 1/25 s."""
        seconds_per_tick = 0.04 if self.time_base is None else float(self.time_base)
        return [(int(f), float(self.pts[f]) * seconds_per_tick) for f in self.keyframes[:, 0]]

    @property
    def duration_s(self) -> float | None:
        """Seconds from the earliest frame to the latest; None without a clock."""
        if self.time_base is None or not self.frames:
            return None
        return float((self.pts.max() - self.pts.min()) * self.time_base)

    @property
    def fps(self) -> float:
        """Mean frames per second; 30 without a clock."""
        seconds = self.duration_s
        return (self.frames - 1) / seconds if seconds and self.frames > 1 else 30.0


def video_from_message(header: dict[str, Any], arrays: bytes) -> Video:
    """Rebuild a `Video` from what the decoder process sent: a JSON header and raw int64 arrays."""
    fields = dict(header)
    n_frames = fields.pop("n_frames")
    num_den = fields.pop("time_base")
    values = np.frombuffer(arrays, dtype=np.int64)
    return Video(
        **fields,
        time_base=Fraction(*num_den) if num_den else None,
        pts=values[:n_frames].copy(),
        keyframes=values[n_frames:].reshape(-1, 3).copy(),
    )
