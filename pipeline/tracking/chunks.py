"""Decoded frames put together as the chunks that a `Detector` takes.

This module knows nothing of how frames are decoded or where chunks go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.engine import FrameChunk
from tracknet.pipeline.tracking.windows import Chunk, Shard, cut_chunks


def chunks_of(
    frames: Iterable[tuple[int, np.ndarray | None]],
    shard: Shard,
    n_frames: int,
    spec: WindowSpec,
    stride: int,
    chunk_frames: int,
    background: np.ndarray | None = None,
) -> Iterator[FrameChunk]:
    """The chunks of a shard, each as soon as its last frame is there.

    A chunk none of whose own frames has a picture is left out: there is nothing to detect in it.

    Args:
        frames: `(absolute index, picture)` of the frames `shard.needed` in order, as far as they
            could be read; uint8 `[H, W, 3]` RGB at network size, None where a frame is damaged.
        shard: owned and needed frames.
        n_frames: frames of the whole video.
        spec, stride: how windows are laid.
        chunk_frames: owned frames of a chunk, at most.
        background: uint8 `[H, W, 3]`, for models that want it.
    """
    waiting = list(cut_chunks(shard, n_frames, spec, stride, chunk_frames))
    pictures: dict[int, np.ndarray] = {}
    for frame, picture in frames:
        if picture is not None:
            pictures[frame] = picture
        while waiting and waiting[0].needed.stop <= frame + 1:
            yield from _assemble(waiting.pop(0), pictures, n_frames, background)
            still_needed = waiting[0].needed.start if waiting else n_frames
            pictures = {f: p for f, p in pictures.items() if f >= still_needed}
    for chunk in waiting:
        yield from _assemble(chunk, pictures, n_frames, background)


def _assemble(
    chunk: Chunk, pictures: dict[int, np.ndarray], n_frames: int, background: np.ndarray | None
) -> Iterator[FrameChunk]:
    present = [frame for frame in chunk.needed if frame in pictures]
    if not any(frame in chunk.owned for frame in present):
        return
    stand_in = pictures[present[0]]
    yield FrameChunk(
        owned=chunk.owned,
        first=chunk.needed.start,
        n_frames=n_frames,
        pictures=np.stack([pictures.get(frame, stand_in) for frame in chunk.needed]),
        missing=frozenset(chunk.needed) - frozenset(present),
        background=background,
    )
