"""What is there, and what there is to do: probing and sharding, nothing decoded.

Probing is input and output, not computing, so threads do it, each with a decoder process of its
own.  A file whose size and time have not changed since it was last probed is not read again.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import VideoError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.windows import Shard, cut_shards
from tracknet.schemas.store import Store

PROBE_THREADS = 4


@dataclass(frozen=True)
class Unreadable:
    """A source that is no video, and why."""

    source: str
    error: str


@dataclass(frozen=True)
class PlannedVideo:
    """A video as the driver keeps it: small, whatever its length.

    Attributes:
        video_id, source: see `pipeline.decoding.video.Video`.
        copies: other sources with the same content.
        frames: rows to come.
        duration_s: None without a clock.
        shards: frames that each decode task owns.
        damage: what the container is missing.
    """

    video_id: str
    source: str
    frames: int
    duration_s: float | None
    shards: tuple[range, ...]
    damage: str | None
    copies: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Everything a run will do."""

    videos: list[PlannedVideo]
    unreadable: list[Unreadable]

    @property
    def frames(self) -> int:
        return sum(video.frames for video in self.videos)

    @property
    def shards(self) -> int:
        return sum(len(video.shards) for video in self.videos)


def make_plan(
    sources: list[Path],
    spec: WindowSpec,
    stride: int,
    shard_seconds: float,
    limits: DecoderLimits,
    store: Store | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Probe all sources and cut them into shards.

    Args:
        sources: from `jobs.sources.find_sources`.
        spec, stride, shard_seconds: how shards are cut, see `pipeline.tracking.windows.cut_shards`.
        limits: of the decoder processes that probe.
        store: where probed videos are kept and looked up; None to leave no trace.
        on_progress: called with the number of sources done.

    Returns:
        Videos in the order of their sources; one with the content of an earlier one becomes its
        copy, for it would get the same rows.
    """
    planned: dict[str, PlannedVideo] = {}
    unreadable: list[Unreadable] = []
    for done, result in enumerate(_probe_all(sources, limits, store), start=1):
        if isinstance(result, Unreadable):
            unreadable.append(result)
        elif result.video_id in planned:
            planned[result.video_id].copies.append(result.source)
        else:
            shards = cut_shards(result.keyframe_times(), result.frames, shard_seconds, spec, stride)
            planned[result.video_id] = _planned(result, shards)
            if store is not None:
                store.write_video(video_row(result, []))
        on_progress(done)
    if store is not None:
        for video in planned.values():
            if video.copies:
                store.write_video({**store.read_video(video.video_id), "copies": video.copies})
    return Plan(list(planned.values()), unreadable)


def _planned(video: Video, shards: list[Shard]) -> PlannedVideo:
    return PlannedVideo(
        video_id=video.video_id,
        source=video.source,
        frames=video.frames,
        duration_s=video.duration_s,
        shards=tuple(shard.owned for shard in shards),
        damage=video.damage,
    )


def _probe_all(
    sources: list[Path], limits: DecoderLimits, store: Store | None
) -> Iterable[Video | Unreadable]:
    known = _known_files(store) if store is not None else {}
    decoders: queue.SimpleQueue[Decoder] = queue.SimpleQueue()

    def probe(source: Path) -> Video | Unreadable:
        if store is not None and (video_id := known.get(_identity(source))):
            return video_from_row(store.read_video(video_id))
        decoder = decoders.get()
        try:
            return decoder.probe(source)
        except VideoError as error:
            return Unreadable(str(source), str(error).removeprefix(f"{source}: "))
        finally:
            decoders.put(decoder)

    n_threads = min(PROBE_THREADS, len(sources))
    all_decoders = [Decoder(limits) for _ in range(n_threads)]
    for decoder in all_decoders:
        decoders.put(decoder)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            yield from pool.map(probe, sources)
    finally:
        for decoder in all_decoders:
            decoder.close()


def _identity(source: Path) -> tuple[str, int, int] | None:
    """Path, size and time of a file; None for what must be probed anew."""
    try:
        stat = source.stat()
    except OSError:
        return None
    return (str(source), stat.st_size, stat.st_mtime_ns) if source.is_file() else None


def _known_files(store: Store) -> dict[tuple[str, int, int] | None, str]:
    rows = store.videos(["video_id", "source", "size_bytes", "mtime_ns", "kind"]).to_pylist()
    return {
        (row["source"], row["size_bytes"], row["mtime_ns"]): row["video_id"]
        for row in rows
        if row["kind"] == "file"
    }


_SAME_NAME = [
    *("video_id", "source", "kind", "container", "codec", "width", "height", "rotation", "frames"),
    *("mirrored", "crop", "announced_frames", "duration_s", "size_bytes", "mtime_ns", "seekable"),
    *("paired", "damage", "note"),
]


def video_row(video: Video, copies: list[str]) -> dict[str, Any]:
    """A probed video as a row of `schemas.tables.VIDEOS`."""
    base = video.time_base
    return {
        **{name: getattr(video, name) for name in _SAME_NAME},
        "copies": copies,
        "time_base_num": base and base.numerator,
        "time_base_den": base and base.denominator,
        "pts": video.pts,
        "keyframes": video.keyframes.ravel(),
    }


def video_from_row(row: dict[str, Any]) -> Video:
    """The inverse of `video_row`."""
    derived = {"frames", "duration_s"}
    return Video(
        **{name: row[name] for name in _SAME_NAME if name not in derived},
        time_base=row["time_base_den"] and Fraction(row["time_base_num"], row["time_base_den"]),
        pts=np.array(row["pts"], dtype=np.int64),
        keyframes=np.array(row["keyframes"], dtype=np.int64).reshape(-1, 3),
    )
