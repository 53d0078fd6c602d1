"""Decoded clips, kept once at network size: uint8 arrays on disk that are read by mapping.

Training looks at every frame hundreds of times and decoding costs more than a small network's
forward pass, so a clip is decoded once into `FOLDER/FINGERPRINT-WxH.npy`, `[N, H, W, 3]` RGB.  The
name is the content's fingerprint, so a renamed clip is found again and a changed one is not.

    frames = cached_frames(clip, Path("cache"), width=512, height=288)
    frames[100:103]            # touches three frames of the disk, not the clip

A file appears whole or not at all (written aside, then renamed), and two processes that want the
same clip write the same bytes.  Pixels are those of the tracker's PyAV path, as displayed: what
training sees is what tracking sees.

This module knows nothing of labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.datasets.clips import Clip, check_pictures
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.decoding.probe import fingerprint
from tracknet.pipeline.errors import VideoError
from tracknet.pipeline.spec import fit
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
        MachineError: the clip is not there, or cannot be read.
    """
    box = fit(clip.size, (width, height))
    black = "" if box[2:] == (width, height) else f"-{box.width}x{box.height}"
    path = folder / f"{clip_id(clip)}-{width}x{height}{black}.npy"
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
    with path.open("wb") as file, Decoder(DecoderLimits(backend="pyav")) as decoder:
        np.lib.format.write_array_header_1_0(file, header)
        video, count = decoder.probe(clip.source), 0
        for batch in decoder.read(video, range(video.frames), width, height):
            file.write(batch.pictures.data)
            count += len(batch.pictures)
    if not count == video.frames == clip.frames:
        raise VideoError(
            f"{clip.source}: {count} frames decode, the container presents {clip.frames}; "
            "labels would not match the frames, so repair the file or leave the clip out"
        )
