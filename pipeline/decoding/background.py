"""The median background of a video, for the models that look at it (TrackNetV3).

The median over frames spread evenly through the video removes whatever moves.  It depends on the
whole video and on nothing else, so every shard of a video sees the same background.
"""

from __future__ import annotations

import numpy as np

from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import VideoError

SAMPLES = 60


def median_background(decoder: Decoder, video: Video, width: int, height: int) -> np.ndarray:
    """The per-pixel median of up to `SAMPLES` evenly spaced frames.

    Args:
        decoder: reads the frames; samples between the same two keyframes are read in one go.
        video: the video.
        width, height: network size.

    Returns:
        uint8 `[height, width, 3]` RGB.

    Raises:
        VideoError: none of the sampled frames can be decoded.
    """
    sampled = np.unique(np.linspace(0, video.frames - 1, SAMPLES).round().astype(int))
    gop = np.searchsorted(video.keyframes[:, 0], sampled, side="right")
    pictures = []
    for key in np.unique(gop):
        wanted = sampled[gop == key].tolist()
        needed = range(wanted[0], wanted[-1] + 1)
        for batch in decoder.read(video, needed, width, height):
            pictures += [p for frame, p in batch.frames() if p is not None and frame in wanted]
    if not pictures:
        raise VideoError(f"{video.source}: no frame for the background can be decoded")
    return np.median(np.stack(pictures), axis=0).astype(np.uint8)
