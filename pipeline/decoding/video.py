"""What is known of a video before a frame of it is decoded.

A `Video` is made once per file by the decoder process (`pipeline.decoding.child`), from the
container's own numbers: every packet's integer PTS, the keyframes, size, rotation, time base.
Nothing here is derived from a frame rate, and a header that announces more frames than there
are does not matter: frames are the packets that will be presented, in order of presentation.

This module holds the record and its arithmetic; it opens no video and knows nothing of decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tracknet.pipeline.errors import VideoError


@dataclass(frozen=True)
class Video:
    """A probed video.

    Attributes:
        video_id: content fingerprint, the first 32 hex digits of the SHA-256 of the bytes (for a
            folder of pictures: of names and bytes in order).
        source: path or URI as found.
        kind: `file`, or `frames` for a folder of pictures.
        container, codec: FFmpeg's short names.
        width, height: pixels of the picture as displayed, after `rotation`.
        rotation: degrees counter-clockwise that the stored picture is turned for display,
            one of 0, 90, 180, 270.
        time_base: seconds per PTS tick; None for a folder of pictures, which has no clock.
        announced_frames: what the container's header claims, 0 where it claims nothing.
        size_bytes, mtime_ns: of the file, to notice later that it is unchanged.
        seekable: False where packets have no usable timestamps, or packets and frames do not
            correspond; such a video is decoded from its start, in one shard.
        damage: what the container is missing, in words; None where it is whole.
        pts: int64 `[frames]`, ascending presentation timestamps in ticks.
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
    time_base: Fraction | None
    announced_frames: int
    size_bytes: int
    mtime_ns: int
    seekable: bool
    damage: str | None
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
        """Seconds from the first frame to the last; None without a clock."""
        if self.time_base is None or not self.frames:
            return None
        return float((self.pts[-1] - self.pts[0]) * self.time_base)


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
