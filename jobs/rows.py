"""Between arrays and tables: candidates as they are staged, balls as rows of `TRAJECTORIES`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracknet.jobs.sources import source_text
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.tracking.choose import Balls
from tracknet.pipeline.tracking.link import Candidates
from tracknet.pipeline.tracking.shots import THUMBNAIL_BYTES, Shots
from tracknet.schemas.tables import ABSENT, BRIDGED, DETECTED, TRAJECTORIES, UNDECODABLE


def candidates_of(staged: pa.Table) -> tuple[Candidates, NDArray[np.bool_]]:
    """The candidates of all frames of a video, and bool [N], which frames were decoded.

    Args:
        staged: rows of `schemas.tables.STAGED`, all N frames in order.
    """
    lists = staged["candidates"].combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    x, y, score = (
        lists.flatten().field(name).to_numpy().astype(np.float64)
        for name in ("x_px", "y_px", "score")
    )
    candidates = Candidates(offsets - offsets[0], np.column_stack([x, y]), score)
    return candidates, staged["decoded"].to_numpy()


def thumbnails_in(staged: pa.Table) -> NDArray[np.uint8]:
    """The thumbnails of all frames of a video, uint8 [N, 432]; anything where a frame has none."""
    values = staged["thumbnail"].combine_chunks().fill_null(bytes(THUMBNAIL_BYTES))
    pixels = np.frombuffer(values.buffers()[-1] or b"", np.uint8)
    return pixels.reshape(-1, THUMBNAIL_BYTES)[values.offset : values.offset + len(values)]


def places_of(rows: pa.Table) -> NDArray[np.float64]:
    """`x_px` and `y_px` of rows of `TRAJECTORIES`, [N, 2] in displayed px; NaN for null."""
    columns = [rows[name].cast(pa.float64()).to_numpy() for name in ("x_px", "y_px")]
    places: NDArray[np.float64] = np.column_stack(columns)
    return places


def trajectory_table(video: Video, balls: Balls, shots: Shots) -> pa.Table:
    """Balls as rows of `schemas.tables.TRAJECTORIES`, one per frame of the video, in order."""
    shot = shots.number(video.frames)
    n, decoded, seen = video.frames, balls.decoded, balls.seen
    times = video.time_s()

    def numbers(values: NDArray[np.float64]) -> pa.Array:
        return pa.array(values.astype(np.float32), from_pandas=True)  # NaN becomes null

    x_px, y_px = (numbers(balls.xy[:, axis]) for axis in (0, 1))

    def normalised(px: pa.Array, size: int) -> pa.Array:
        return numbers((px.to_numpy(zero_copy_only=False).astype(np.float64) + 0.5) / size)

    status = np.select([~decoded, seen, balls.bridged], [UNDECODABLE, DETECTED, BRIDGED], ABSENT)
    columns = {
        "video_id": pa.array([video.video_id] * n),
        "source": pa.array([source_text(video.source)] * n),
        "frame": pa.array(np.arange(n)),
        "pts": pa.array(video.pts),
        "time_s": pa.nulls(n, pa.float64()) if times is None else pa.array(times),
        "status": pa.array(status),
        "visible": pa.array(seen, mask=~decoded),
        "x_px": x_px,
        "y_px": y_px,
        "x_norm": normalised(x_px, video.width),
        "y_norm": normalised(y_px, video.height),
        "score": numbers(balls.score),
        "shot": pa.array(shot),
        "view": pa.array(np.array(shots.views)[shot]),
    }
    return pa.table(columns).cast(TRAJECTORIES)
