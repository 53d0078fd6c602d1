"""The two stages that Ray runs: decode shards, detect balls.

    shard row ──DecodeStage──▶ chunk rows (pictures) + one end row ──DetectStage──▶ frame rows

A stage is set up once in its worker and then maps batches; there is no science in it.  What
travels are Arrow tables, pictures as plain bytes.  An end row closes its shard and carries the
decoder's report; a shard that cannot be read yields its end row all the same, so nothing is lost
without a word.  `machine` in it says that the machine failed, not the video; a chunk on which the
model fails yields a row with `model_error` instead of its frames.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from tracknet.jobs.cluster import node_name
from tracknet.jobs.meters import StageMeter
from tracknet.jobs.notes import WorkNotes
from tracknet.jobs.plan import MACHINE_TRIES, video_from_row
from tracknet.jobs.settings import TrackSettings
from tracknet.pipeline.decoding.background import median_background
from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import MachineError, TrackNetError, VideoError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.chunks import chunks_of
from tracknet.pipeline.tracking.engine import Detector, FrameChunk
from tracknet.pipeline.tracking.peaks import in_source
from tracknet.pipeline.tracking.shots import thumbnails_of
from tracknet.pipeline.tracking.windows import Shard, needed_frames
from tracknet.schemas.store import Store
from tracknet.schemas.tables import CANDIDATES, THUMBNAIL

if TYPE_CHECKING:
    from tracknet.pipeline.runtimes.choice import RuntimeChoice
    from tracknet.pipeline.runtimes.prepared import Prepared
    from tracknet.pipeline.runtimes.quantize import Quantized

CHUNK_ROW = pa.schema(
    [
        ("video_id", pa.string()),
        ("shard_first", pa.int32()),
        ("owned_start", pa.int32()),
        ("owned_stop", pa.int32()),
        ("first", pa.int32()),
        ("n_frames", pa.int32()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("missing", pa.list_(pa.int32())),
        ("pictures", pa.large_binary()),
        ("thumbnails", pa.list_(THUMBNAIL)),
        ("background", pa.large_binary()),
        ("report", pa.string()),
    ]
)
FRAME_ROW = pa.schema(
    [
        ("video_id", pa.string()),
        ("shard_first", pa.int32()),
        ("frame", pa.int32()),
        ("decoded", pa.bool_()),
        ("candidates", CANDIDATES),
        ("thumbnail", THUMBNAIL),
        ("report", pa.string()),
        ("model_s", pa.float64()),
        ("began", pa.float64()),
        ("node", pa.string()),
    ]
)


class DecodeStage:
    """Decodes shards into chunks, in a child process that may be killed.

    Args:
        out: the output folder, where the probed videos are.
        notes: folder of notes on work that kills, see `jobs.notes`.
        settings: of the run.
        spec, stride: how windows are laid.
    """

    def __init__(
        self, out: Path, notes: Path, settings: TrackSettings, spec: WindowSpec, stride: int
    ) -> None:
        self.store = Store(out)
        self.notes = WorkNotes(notes)
        self.settings = settings
        self.spec = spec
        self.stride = stride
        self.decoder = Decoder(settings.decoder)
        self.meter = StageMeter("decode")
        self.node = node_name()
        self.background: tuple[str, np.ndarray] | None = None

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        for row in shards.to_pylist():
            work = f"decode-{row['video_id']}-{row['first']}"
            deaths = self.notes.begin(work)
            yield from self._decode(row["video_id"], range(row["first"], row["stop"]), deaths)
            self.notes.end(work)

    def _decode(self, video_id: str, owned: range, deaths: int) -> Iterator[pa.Table]:
        self.meter.waited()
        started, decode_s = time.perf_counter(), 0.0
        video = video_from_row(self.store.read_video(video_id))
        needed = needed_frames(owned, video.frames, self.spec, self.stride)
        reader = self.decoder.read(video, needed, self.spec.width, self.spec.height)
        report: dict[str, Any] = {"owned": [owned.start, owned.stop], "answered": 0}
        try:
            if deaths >= MACHINE_TRIES:
                raise MachineError(f"the decode worker died {MACHINE_TRIES} times at it")
            chunks = chunks_of(
                (pair for batch in reader for pair in batch.frames()),
                Shard(owned, needed),
                video.frames,
                self.spec,
                self.stride,
                self.settings.chunk_frames,
                self._background_of(video),
            )
            for chunk in chunks:
                report["answered"] += len(chunk.owned)
                row = _chunk_row(video, owned, chunk)
                decode_s += time.perf_counter() - started
                self.meter.worked(len(chunk.owned))
                yield row  # back-pressure may hold us here; that is no decoding
                self.meter.waited()
                started = time.perf_counter()
        except VideoError as error:
            reader.report.damage = str(error)
        except MachineError as error:
            report["machine"] = str(error)  # says nothing of the video; the next run tries again
        report |= {
            "decoders": reader.report.decoders,
            "attempts": reader.report.attempts,
            "errors": reader.report.errors,
            "damage": reader.report.damage,
            "node": self.node,
            "decode_s": decode_s + time.perf_counter() - started,
        }
        self.meter.worked()
        yield _end_row(video, owned, report)

    def _background_of(self, video: Video) -> np.ndarray | None:
        if not self.spec.background:
            return None
        if self.background is None or self.background[0] != video.video_id:
            picture = median_background(self.decoder, video, self.spec.width, self.spec.height)
            self.background = (video.video_id, picture)
        return self.background[1]


def _chunk_row(video: Video, shard: range, chunk: FrameChunk) -> pa.Table:
    row: dict[str, Any] = {
        "video_id": video.video_id,
        "shard_first": shard.start,
        "owned_start": chunk.owned.start,
        "owned_stop": chunk.owned.stop,
        "first": chunk.first,
        "n_frames": chunk.n_frames,
        "source_width": video.width,
        "source_height": video.height,
        "missing": sorted(chunk.missing),
        "thumbnails": [None if one is None else one.tobytes() for one in thumbnails_of(chunk)],
        "background": None if chunk.background is None else chunk.background.tobytes(),
    }
    table = pa.Table.from_pylist([row], CHUNK_ROW)
    place = CHUNK_ROW.get_field_index("pictures")
    return table.set_column(place, CHUNK_ROW.field(place), _as_bytes(chunk.pictures))


def _as_bytes(pictures: np.ndarray) -> pa.Array:
    """One value of Arrow that is the pictures' own memory: tens of megabytes, not copied."""
    ends = pa.py_buffer(np.array([0, pictures.nbytes], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(pictures)])


def _from_bytes(column: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """Each value's own memory, uint8 `[bytes]`; Arrow's scalars would copy it.

    >>> none = pa.nulls(1, pa.large_binary())
    >>> column = pa.chunked_array([_as_bytes(np.ones((1, 2), np.uint8)), none])
    >>> [content.tolist() for content in _from_bytes(column)]
    [[1, 1], []]
    """
    for part in column.chunks:
        _, ends, values = part.buffers()
        places = np.frombuffer(ends, np.int64)[part.offset : part.offset + len(part) + 1]
        content = np.frombuffer(values or b"", np.uint8)
        yield from (content[start:stop] for start, stop in pairwise(places))


def _end_row(video: Video, shard: range, report: dict[str, Any]) -> pa.Table:
    row = {
        "video_id": video.video_id,
        "shard_first": shard.start,
        "report": json.dumps(report),
    }
    return pa.Table.from_pylist([row], CHUNK_ROW)


@dataclass(frozen=True)
class ModelFiles:
    """What a model is loaded from, as it travels to the workers.

    Attributes:
        prepared: the weights.
        quantized: the quantized network, where the runtime wants one.
    """

    prepared: Prepared
    quantized: Quantized | None


class DetectStage:
    """Hosts the model and turns chunks into rows of candidates for the ball.

    Args:
        notes: folder of notes on work that kills, see `jobs.notes`.
        files: of the model, in the object store.
        settings: of the run.
        choice: what computes it.
        threads: for the model on a CPU; 0 takes all cores of the machine that this runs on.
    """

    def __init__(
        self,
        notes: Path,
        files: ray.ObjectRef[ModelFiles],
        settings: TrackSettings,
        choice: RuntimeChoice,
        threads: int,
    ) -> None:
        from tracknet.pipeline.runtimes.opening import open_runtime

        self.notes = WorkNotes(notes)
        found: ModelFiles = ray.get(files)
        threshold = settings.detector.threshold
        runtime = open_runtime(
            choice, found.prepared, found.quantized, threads or os.cpu_count(), threshold
        )
        self.detector = Detector(runtime, settings.detector)
        self.meter = StageMeter("model")
        self.node = node_name()

    def __call__(self, chunks: pa.Table) -> Iterator[pa.Table]:
        pictures = _from_bytes(chunks["pictures"])
        for row, of_row in zip(chunks.drop(["pictures"]).to_pylist(), pictures, strict=True):
            if row["report"] is None:
                yield self._detect_or_say_why(row, of_row)
            else:
                yield _end(row, row["report"])

    def _detect_or_say_why(self, row: dict[str, Any], pictures: np.ndarray) -> pa.Table:
        work = f"detect-{row['video_id']}-{row['shard_first']}-{row['first']}"
        if self.notes.begin(work) >= MACHINE_TRIES:  # the note stays: no other try in this run
            error = f"its process died {MACHINE_TRIES} times at it"
            return _end(row, json.dumps({"model_error": error}))
        try:
            return self._detect(row, pictures)
        except (TrackNetError, RuntimeError, ValueError) as error:
            return _end(row, json.dumps({"model_error": str(error)}))
        finally:
            self.notes.end(work)

    def _detect(self, row: dict[str, Any], pictures: np.ndarray) -> pa.Table:
        self.meter.waited()
        began, started = time.time(), time.perf_counter()
        spec = self.detector.spec
        pictures = pictures.reshape(-1, spec.height, spec.width, 3)
        background = None
        if row["background"] is not None:
            background = np.frombuffer(row["background"], np.uint8).reshape(pictures.shape[1:])
        chunk = FrameChunk(
            owned=range(row["owned_start"], row["owned_stop"]),
            first=row["first"],
            n_frames=row["n_frames"],
            pictures=pictures,
            missing=frozenset(row["missing"]),
            background=background,
        )
        sizes = (spec.width, spec.height), (row["source_width"], row["source_height"])
        detections = self.detector.detect(chunk)
        seconds_per_frame = (time.perf_counter() - started) / len(detections)
        self.meter.worked(len(detections))
        rows = [
            {
                "video_id": row["video_id"],
                "shard_first": row["shard_first"],
                "frame": detection.frame,
                "decoded": detection.decoded,
                "candidates": [
                    {"x_px": peak.x, "y_px": peak.y, "score": peak.score}
                    for peak in in_source(detection.candidates, *sizes)
                ],
                "thumbnail": thumbnail,
                "model_s": seconds_per_frame,
                "began": began,
                "node": self.node,
            }
            for detection, thumbnail in zip(detections, row["thumbnails"], strict=True)
        ]
        return pa.Table.from_pylist(rows, FRAME_ROW)


def _end(row: dict[str, Any], report: str) -> pa.Table:
    end = {"video_id": row["video_id"], "shard_first": row["shard_first"], "report": report}
    return pa.Table.from_pylist([end], FRAME_ROW)
