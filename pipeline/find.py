"""One video from file to balls in this process: all rooms in order, no Ray.

    with Decoder() as decoder:
        video = decoder.probe(Path("rally.mp4"))
        balls, shots = find_balls(video, decoder, Detector(runtime, DetectorSettings()))

An archive run (`jobs.track`) does the same in many processes, and gets the same rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tracknet.pipeline.decoding.background import median_background
from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import VideoError
from tracknet.pipeline.tracking.choose import Balls, choose_in_shots
from tracknet.pipeline.tracking.chunks import chunks_of
from tracknet.pipeline.tracking.engine import Detector
from tracknet.pipeline.tracking.link import Candidates
from tracknet.pipeline.tracking.peaks import Peak, in_source
from tracknet.pipeline.tracking.shots import THUMBNAIL_BYTES, Shots, thumbnails_of
from tracknet.pipeline.tracking.windows import Shard

CHUNK_FRAMES = 24  # a multiple of every model's window


def find_balls(
    video: Video,
    decoder: Decoder,
    detector: Detector,
    on_frames: Callable[[int], None] = lambda done: None,
) -> tuple[Balls, Shots]:
    """The ball of every frame of a video, and its camera shots.

    Args:
        video: from `decoder.probe`.
        decoder: reads the video.
        detector: the model.
        on_frames: called with how many frames are done.

    Returns:
        `video.frames` entries, in order, pixels of the displayed picture; and the shots.

    Raises:
        VideoError: no frame can be decoded.
    """
    spec, n = detector.spec, video.frames
    network_size, size = (spec.width, spec.height), (video.width, video.height)
    shard = Shard(range(n), range(n))
    background = (
        median_background(decoder, video, spec.width, spec.height) if spec.background else None
    )
    reader = decoder.read(video, shard.needed, spec.width, spec.height)
    pictures = (pair for batch in reader for pair in batch.frames())
    found: list[list[Peak]] = [[] for _ in range(n)]
    decoded = np.zeros(n, bool)
    thumbnails = np.zeros((n, THUMBNAIL_BYTES), np.uint8)
    for chunk in chunks_of(pictures, shard, n, spec, detector.stride, CHUNK_FRAMES, background):
        for detection in detector.detect(chunk):
            decoded[detection.frame] = detection.decoded
            found[detection.frame] = in_source(detection.candidates, network_size, size)
        for frame, thumbnail in zip(chunk.owned, thumbnails_of(chunk), strict=True):
            if thumbnail is not None:
                thumbnails[frame] = thumbnail.ravel()
        on_frames(chunk.owned.stop)
    if not decoded.any():
        problems = "; ".join(reader.report.errors) or "none of its frames can be decoded"
        raise VideoError(f"{video.source}: {problems}")
    candidates = Candidates.of(found)
    return choose_in_shots(candidates, decoded, thumbnails, size, video.fps, detector.settings)
