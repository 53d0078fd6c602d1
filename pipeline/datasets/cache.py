"""Decoded clips, kept once at network size: uint8 arrays on disk that are read by mapping.

Training looks at every frame hundreds of times and decoding costs more than a small network's
forward pass, so a clip is decoded once into `FOLDER/FINGERPRINT-WxH.npy`, `[N, H, W, 3]` RGB.  The
name is the content's fingerprint, so a renamed clip is found again and a changed one is not.

    frames = cached_frames(clip, Path("cache"), width=512, height=288)
    frames[100:103]            # touches three frames of the disk, not the clip

A file appears whole or not at all (written aside, then renamed), and two processes that want the
same clip write the same bytes.  Pixels are those of the tracker's PyAV path: swscale's bilinear
filter straight to RGB at network size; pictures are scaled by area, as there.

This module knows nothing of labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.datasets.clips import Clip, check_pictures
from tracknet.pipeline.decoding.probe import decode_all, fingerprint, quarter_turns
from tracknet.pipeline.errors import VideoError
from tracknet.schemas.files import whole_file


def cached_frames(clip: Clip, folder: Path, *, width: int, height: int) -> NDArray[np.uint8]:
    """The frames of a clip at network size, decoded now if they are not in the cache.

    Args:
        clip: which clip.
        folder: of the cache; made if missing.
        width, height: network size, px.

    Returns:
        uint8 `[N, height, width, 3]`, RGB, read-only, mapped from disk.

    Raises:
        VideoError: not every frame that the container presents can be decoded.
    """
    path = folder / f"{clip_id(clip)}-{width}x{height}.npy"
    if not path.exists():
        with whole_file(path) as aside:
            _write(aside, clip, width, height)
    frames: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return frames


def clip_id(clip: Clip) -> str:
    """The content fingerprint of a clip, the tracker's `video_id`."""
    pictures = check_pictures(clip.source) if clip.source.is_dir() else [clip.source]
    return fingerprint(pictures, heartbeat=lambda: None)


def _write(path: Path, clip: Clip, width: int, height: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (clip.frames, height, width, 3)}
    decode = _decode_pictures if clip.source.is_dir() else _decode_video
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        count = 0
        for picture in decode(clip.source, width, height):
            file.write(np.ascontiguousarray(picture).data)
            count += 1
    if count != clip.frames:
        raise VideoError(
            f"{clip.source}: {count} frames decode, the container presents {clip.frames}; "
            "labels would stand at the wrong frames, so repair the file or leave the clip out"
        )


def _decode_video(path: Path, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    for frame in decode_all(path):
        turns = quarter_turns(frame) // 90
        stored = (height, width) if turns % 2 else (width, height)
        scaled = frame.reformat(*stored, format="rgb24", interpolation="BILINEAR").to_ndarray()
        yield np.rot90(scaled, turns)


def _decode_pictures(folder: Path, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    for path in check_pictures(folder):
        picture = cv2.imread(str(path))
        if picture is None:
            raise VideoError(f"{path}: not a picture that can be read")
        scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        yield np.asarray(cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB), np.uint8)
