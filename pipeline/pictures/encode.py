"""Writing video: RGB arrays in, one H.264 file out, every frame at exactly the time it was given.

The writer streams (memory is the encoder's look-ahead, whatever the length of the video) and works
under a temporary name beside the target: a file that bears its final name is complete, and a run
that failed leaves nothing behind.

It deliberately does not know what is on the pictures, and carries neither audio nor rotation:
pictures are stored the way up they arrive.

    with VideoWriter(Path("out.mp4"), 1280, 720, time_base=Fraction(1, 90_000)) as video:
        video.write(first, pts=0)
        video.write(second, pts=3003)
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from tracknet.pipeline.errors import InputError, VideoError
from tracknet.schemas.files import whole_file


@dataclass(frozen=True)
class EncodeConfig:
    """How H.264 is encoded.

    Attributes:
        crf: constant rate factor, 0 (lossless) to 51; 18 looks like the source, 28 like a stream.
        preset: x264's trade of time for size, `ultrafast` ... `veryslow`.
        gop: most frames from one keyframe to the next; None is x264's own choice (250).
        bframes: most consecutive B-frames; None is the preset's choice.
    """

    crf: int = 18
    preset: str = "veryfast"
    gop: int | None = None
    bframes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf must lie in 0..51, got {self.crf}")

    def options(self) -> dict[str, str]:
        """The settings as x264's option strings; what is None is left to x264."""
        given = {"crf": self.crf, "preset": self.preset, "g": self.gop, "bf": self.bframes}
        return {name: str(value) for name, value in given.items() if value is not None}


class VideoWriter:
    """Writes RGB pictures as H.264, yuv420p; a context manager.

    The file appears at `path` when the `with` block ends without an exception, never before.

    Args:
        path: the file to write; its suffix picks the container.  In `.mp4` and `.mov` the time
            base is stored as given where its numerator is 1; other containers may round it.
        width, height: picture size in pixels.  yuv420p halves the colour planes, so an odd size is
            stored one pixel larger, the last column or row repeated: coordinates do not move.
        fps: nominal frame rate, for rate control and for frames without a `pts`.
        time_base: seconds per unit of `pts`; by default one unit is one frame, `1 / fps`.
        config: see `EncodeConfig`.

    Raises:
        InputError: a size that is not positive, or a container that cannot hold H.264.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        fps: Fraction | float = 30,
        time_base: Fraction | None = None,
        config: EncodeConfig | None = None,
    ) -> None:
        if width < 1 or height < 1:
            raise InputError(f"{path}: a video of {width}x{height} pixels cannot be written")
        self.path = path
        self.width, self.height = width, height
        self._fps = Fraction(fps).limit_denominator(100_000)
        self._time_base = time_base if time_base is not None else 1 / self._fps
        self._config = config or EncodeConfig()
        self._file = ExitStack()
        self._last_pts: int | None = None

    def __enter__(self) -> VideoWriter:
        try:
            with ExitStack() as stack:
                self._open(stack.enter_context(whole_file(self.path)))
                self._file = stack.pop_all()
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{self.path}: cannot be opened for writing ({error}); use a name that ends "
                "in .mp4, .mov or .mkv"
            ) from error
        return self

    def _open(self, aside: Path) -> None:
        self._container = av.open(str(aside), "w", options=self._muxer_options())
        self._stream: Any = self._container.add_stream(
            "libx264", rate=self._fps, options=self._config.options()
        )
        self._stream.width = self.width + self.width % 2
        self._stream.height = self.height + self.height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._time_base
        self._stream.time_base = self._time_base

    def _muxer_options(self) -> dict[str, str]:
        if self.path.suffix.lower() not in (".mp4", ".mov", ".m4v"):
            return {}
        # Left alone, the muxer multiplies coarse time scales by a power of two and rounds the time
        # of the first frame to milliseconds; with these it keeps integer timestamps as they are.
        ticks = str(self._time_base.denominator)
        return {"video_track_timescale": ticks, "movie_timescale": ticks}

    def write(self, picture: np.ndarray, pts: int | None = None) -> None:
        """Append one picture.

        Args:
            picture: uint8 `[height, width, 3]`, RGB.
            pts: presentation time in units of `time_base`, greater than the one before; by
                default one frame (`1 / fps`) after the picture before.

        Raises:
            InputError: a picture of another size or type, or a `pts` that does not grow.
        """
        expected = (self.height, self.width, 3)
        if picture.shape != expected or picture.dtype != np.uint8:
            raise InputError(
                f"{self.path}: a picture must be uint8 {list(expected)}, "
                f"got {picture.dtype} {list(picture.shape)}"
            )
        pts = self._next_pts() if pts is None else pts
        if self._last_pts is not None and pts <= self._last_pts:
            raise InputError(f"{self.path}: pts {pts} follows {self._last_pts}; it must grow")
        self._last_pts = pts
        frame = av.VideoFrame.from_ndarray(_even(picture), format="rgb24")
        frame.pts, frame.time_base = pts, self._time_base
        self._mux(self._stream.encode(frame))

    def _next_pts(self) -> int:
        if self._last_pts is None:
            return 0
        return self._last_pts + max(1, round(1 / (self._fps * self._time_base)))

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._file:  # which is renamed at the end, and deleted when something raises
            with closing(self._container):
                if kind is None and self._last_pts is not None:
                    self._mux(self._stream.encode(None))
            if error is not None:
                raise error
            if self._last_pts is None:
                raise VideoError(f"{self.path}: no picture was written, so there is no video file")


def _even(picture: np.ndarray) -> np.ndarray:
    """`picture`, its last row or column repeated where there is an odd number of them."""
    height, width, _ = picture.shape
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
