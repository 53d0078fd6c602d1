"""What is there, and what there is to do: probing and sharding, nothing decoded.

Probing is input and output, not computing, so threads do it, each with a decoder process of its
own.  A file whose size and time have not changed since it was last probed is not read again.

`make_plan` says what each source is now; `bind` makes the tables say the same.  The rules:

- A source of this run is bound to the content that it has now, or to none if it is no video.  One
  that cannot be reached keeps what it had: a disk that is gone says nothing about a video.
- A source outside of this run's inputs keeps what it had.  Where its content was found in this run
  under another name, it stays a copy if the file is still there, and is dropped if not (moved).
- Content that no source has any more is retracted: its rows go to `superseded/`.
- The `source` of a video is the first of this run's inputs with that content.
"""

from __future__ import annotations

import logging
import queue
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tracknet.jobs.sources import is_text, source_path, source_text
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import MachineError, VideoError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.windows import Shard, cut_shards
from tracknet.schemas.errors import TableError
from tracknet.schemas.files import errors_of
from tracknet.schemas.store import Store

log = logging.getLogger(__name__)
PROBE_THREADS = 4
MACHINE_TRIES = 3  # how often what fails for the machine's sake is tried in one run


@dataclass(frozen=True)
class Unreadable:
    """A source without rows, and why.

    Attributes:
        source: see `jobs.sources.source_text`.
        error: what is wrong.
        machine: it cannot be reached; that says nothing about what it holds.
    """

    source: str
    error: str
    machine: bool = False


@dataclass(frozen=True)
class PlannedVideo:
    """A video as the driver keeps it: small, whatever its length.

    Attributes:
        video_id: see `pipeline.decoding.video.Video`.
        source: the first source with this content, see `jobs.sources.source_text`.
        copies: other sources of this run with the same content.
        frames: rows to come.
        duration_s: None without a clock.
        shards: frames that each decode task owns.
        damage: what the container is missing.
        mtime_ns: modification time of `source`.
    """

    video_id: str
    source: str
    frames: int
    duration_s: float | None
    shards: tuple[range, ...]
    damage: str | None
    mtime_ns: int
    copies: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        """All sources of this run with this content."""
        return [self.source, *self.copies]


@dataclass(frozen=True)
class Plan:
    """Everything a run will do.

    Attributes:
        videos: in the order of their sources.
        unreadable: sources that are no videos, and those that cannot be reached.
    """

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
    decoder: Callable[[DecoderLimits], Decoder] = Decoder,
) -> Plan:
    """Probe all sources and cut them into shards.

    Args:
        sources: from `jobs.sources.find_sources`.
        spec, stride, shard_seconds: how shards are cut, see `pipeline.tracking.windows.cut_shards`.
        limits: of the decoder processes that probe.
        store: where probed videos are kept and looked up; None to leave no trace.
        on_progress: called with the number of sources done.
        decoder: what probes.

    Returns:
        Videos in the order of their sources; one with the content of an earlier one becomes its
        copy, for it would get the same rows.
    """
    planned: dict[str, PlannedVideo] = {}
    unreadable: list[Unreadable] = []
    results = _probe_all(sources, limits, store, decoder)
    for done, result in enumerate(results, start=1):
        if isinstance(result, Unreadable):
            unreadable.append(result)
        elif result.video_id in planned:
            planned[result.video_id].copies.append(source_text(result.source))
        else:
            video = result if store is None else _keep(result, store)
            shards = cut_shards(video.keyframe_times(), video.frames, shard_seconds, spec, stride)
            planned[video.video_id] = _planned(video, shards)
        on_progress(done)
    return Plan(list(planned.values()), unreadable)


def bind(plan: Plan, store: Store) -> None:
    """Make the tables say what each source is now; see above for the rules.

    Raises:
        NotWritable, Locked: see `schemas.errors`.
    """
    here = {video.video_id: video for video in plan.videos}
    decided = {bad.source for bad in plan.unreadable if not bad.machine}
    decided |= {source for video in plan.videos for source in video.sources}
    for video_id, (former, size, mtime_ns) in store.bindings().items():
        elsewhere = [source for source in former if source not in decided]
        video = here.get(video_id)
        if video is not None:
            now = [*video.sources, *(s for s in elsewhere if _exists(s, size))]
            if now != former or mtime_ns != video.mtime_ns:
                store.rename(video_id, now[0], now[1:], video.mtime_ns)
        elif not elsewhere:
            gone = ", ".join(former) or video_id
            log.warning("%s: its content has changed; old rows moved to superseded/", gone)
            store.retract(video_id)
        elif elsewhere != former:
            store.rename(video_id, elsewhere[0], elsewhere[1:])
    named = decided | {bad.source for bad in plan.unreadable}
    before = store.unreadable()
    bad_rows = [r for r in before if r["source"] not in named and _exists(r["source"])]
    bad_rows += problems_of_plan(plan)
    if bad_rows != before:
        store.write_unreadable(bad_rows)


def problems_of_plan(plan: Plan) -> list[dict[str, Any]]:
    """The sources that are no videos, as rows of `QUARANTINE`."""
    base = {"video_id": None, "shard_first": None, "shard_stop": None, "stage": "probe"}
    return [
        {**base, "source": bad.source, "error": bad.error, "attempts": 1}
        for bad in plan.unreadable
        if not bad.machine
    ]


def _exists(source: str, size: int | None = None) -> bool:
    """Whether a source is still there, if a file then of this size where one is given."""
    path = source_path(source)
    try:
        found = path.stat()
    except errors_of(path):
        return False
    return size is None or not stat.S_ISREG(found.st_mode) or found.st_size == size


def _keep(video: Video, store: Store) -> Video:
    """The video as the store knows it, which learns of it now where it does not."""
    try:
        row = store.read_video(video.video_id)
    except TableError:
        store.write_video(video_row(video, []))
        return video
    return replace(video_from_row(row), source=video.source, mtime_ns=video.mtime_ns)


def _planned(video: Video, shards: list[Shard]) -> PlannedVideo:
    return PlannedVideo(
        video_id=video.video_id,
        source=source_text(video.source),
        frames=video.frames,
        duration_s=video.duration_s,
        shards=tuple(shard.owned for shard in shards),
        damage=video.damage,
        mtime_ns=video.mtime_ns,
    )


def _probe_all(
    sources: list[Path],
    limits: DecoderLimits,
    store: Store | None,
    make_decoder: Callable[[DecoderLimits], Decoder],
) -> Iterable[Video | Unreadable]:
    known = _known_files(store) if store is not None else {}
    decoders: queue.SimpleQueue[Decoder] = queue.SimpleQueue()

    def probe(source: Path) -> Video | Unreadable:
        if bad := _no_file(source):
            return bad
        if store is not None and (video_id := known.get(_identity(source))):
            try:
                return replace(video_from_row(store.read_video(video_id)), source=str(source))
            except TableError as error:
                log.warning("damaged; will be redone: %s", error)
        decoder = decoders.get()
        try:
            return _probe(decoder, source)
        finally:
            decoders.put(decoder)

    n_threads = min(PROBE_THREADS, len(sources))
    all_decoders = [make_decoder(limits) for _ in range(n_threads)]
    for decoder in all_decoders:
        decoders.put(decoder)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            yield from pool.map(probe, sources)
    finally:
        for decoder in all_decoders:
            decoder.close()


def _probe(decoder: Decoder, source: Path) -> Video | Unreadable:
    for attempt in range(1, MACHINE_TRIES + 1):
        try:
            return decoder.probe(source)
        except VideoError as error:
            return Unreadable(source_text(source), message(error, source))
        except MachineError as error:
            if attempt == MACHINE_TRIES:
                return Unreadable(source_text(source), message(error, source), machine=True)
    raise AssertionError("unreachable")


def message(error: Exception | str, source: Path | str) -> str:
    """What an error says of a source, without the path in front, as text that tables can hold."""
    text = str(error).removeprefix(f"{source}: ")
    return text if is_text(text) else text.encode("utf-8", "backslashreplace").decode()


def _no_file(source: Path) -> Unreadable | None:
    """What is wrong with a path before it is opened; a pipe would be waited for."""
    name = source_text(source)
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        is_link = source.is_symlink()
        error = "a link to what is not there" if is_link else "no such file"
        return Unreadable(name, error, machine=True)
    except errors_of(source) as error:
        reason = getattr(error, "strerror", None) or error
        return Unreadable(name, f"cannot be reached ({reason})", machine=True)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return Unreadable(name, "a pipe, socket or device, not a file")
    return None


def _identity(source: Path) -> tuple[str, int, int] | None:
    """Path, size and time of a file; None for what must be probed anew."""
    try:
        found = source.stat()
    except errors_of(source):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return source_text(source), found.st_size, found.st_mtime_ns


def is_changed(row: dict[str, Any]) -> bool:
    """Whether the file of a row of `VIDEOS` is another than when it was probed."""
    now = _identity(source_path(row["source"]))
    return now is not None and now[1:] != (row["size_bytes"], row["mtime_ns"])


def _known_files(store: Store) -> dict[tuple[str, int, int] | None, str]:
    rows = store.videos(["video_id", "source", "size_bytes", "mtime_ns", "kind"])
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
        "source": source_text(video.source),
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
        **{name: row[name] for name in _SAME_NAME if name not in {"source", *derived}},
        source=str(source_path(row["source"])),
        time_base=row["time_base_den"] and Fraction(row["time_base_num"], row["time_base_den"]),
        pts=np.array(row["pts"], dtype=np.int64),
        keyframes=np.array(row["keyframes"], dtype=np.int64).reshape(-1, 3),
    )
