"""From frame rows to published videos: the exactly-once commit.

Rows come in any order, from any worker, perhaps twice.  A `Committer` gathers them per shard,
stages a shard when it is whole, and publishes a video when all its shards are staged.  Only then,
with the candidates of all its frames at hand, is the ball chosen (`pipeline.tracking.choose`), so
a trajectory does not depend on how the video was cut.  What was
staged before a crash is taken as it is.  It keeps in memory only the rows of shards in flight.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tracknet.jobs.plan import PlannedVideo, Unreadable, video_from_row
from tracknet.jobs.rows import candidates_of, trajectory_table
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.tracking.choose import choose_balls
from tracknet.pipeline.tracking.engine import DetectorSettings
from tracknet.schemas.store import ResultKey, Store
from tracknet.schemas.tables import (
    DETECTED,
    SCHEMA_VERSION,
    STAGED,
    STATUSES,
)

log = logging.getLogger(__name__)


@dataclass
class _OpenShard:
    """A shard whose rows are coming in; `report` is there once it has been read to its end."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    report: dict[str, Any] | None = None

    def is_whole(self) -> bool:
        return self.report is not None and len(self.rows) == self.report["answered"]


@dataclass
class CommitTotals:
    """What a run has committed so far; the progress display reads it.

    `model_began` is when the model took its first frames, in seconds since the epoch.
    """

    frames: int = 0
    detected: int = 0
    videos: int = 0
    decode_s: float = 0.0
    model_s: float = 0.0
    model_began: float = math.inf
    commit_s: float = 0.0


class Committer:
    """Takes frame rows, leaves published videos.

    Args:
        store: the output folder, locked by the caller.
        key: what the rows are made with.
        detector: how candidates were found, and how the ball is chosen of them.
        run_id: of the run, for the manifests.
        metadata: for every trajectory file (weights, settings, versions).
    """

    def __init__(
        self,
        store: Store,
        key: ResultKey,
        detector: DetectorSettings,
        run_id: str,
        metadata: Mapping[str, Any],
    ) -> None:
        self.store = store
        self.key = key
        self.detector = detector
        self.run_id = run_id
        self.metadata = metadata
        self.totals = CommitTotals()
        self._videos: dict[str, PlannedVideo] = {}
        self._todo: dict[str, list[range]] = {}
        self._missing: dict[str, set[int]] = {}
        self._open: dict[tuple[str, int], _OpenShard] = {}

    def expect(self, video: PlannedVideo) -> list[range]:
        """Announce a video; returns the shards that are still to be done.

        A video whose shards were all staged before is published at once.
        """
        todo = [s for s in video.shards if not self.store.is_staged(video.video_id, s)]
        self._videos[video.video_id] = video
        self._todo[video.video_id] = todo
        self._missing[video.video_id] = {shard.start for shard in todo}
        if not todo:
            self._publish(video.video_id)
        return todo

    def add(self, table: pa.Table) -> None:
        """Take rows of `jobs.stages.FRAME_ROW`."""
        started = time.perf_counter()
        for row in table.to_pylist():
            shard = self._open.setdefault((row["video_id"], row["shard_first"]), _OpenShard())
            if row["report"] is not None:
                shard.report = json.loads(row["report"])
                self.totals.decode_s += shard.report["decode_s"]
            elif row["frame"] not in shard.rows:  # a retried task may deliver a row again
                shard.rows[row["frame"]] = {name: row[name] for name in STAGED.names}
                self.totals.frames += 1
                self.totals.model_s += row["model_s"]
                self.totals.model_began = min(self.totals.model_began, row["began"])
        touched = zip(table["video_id"].to_pylist(), table["shard_first"].to_pylist(), strict=True)
        for name in dict.fromkeys(touched):
            if name in self._open and self._open[name].is_whole():
                self._stage(*name, self._open.pop(name))
        self.totals.commit_s += time.perf_counter() - started

    def _stage(self, video_id: str, first: int, shard: _OpenShard) -> None:
        if first not in self._missing.get(video_id, ()):
            return  # staged already: the task was retried after its last row had arrived
        assert shard.report is not None
        owned = range(*shard.report["owned"])
        lost = {"decoded": False, "candidates": []}
        rows = [shard.rows.get(frame, {"frame": frame, **lost}) for frame in owned]
        self.store.stage(video_id, owned, pa.Table.from_pylist(rows, STAGED), shard.report)
        self._missing[video_id].discard(first)
        if not self._missing[video_id]:
            self._publish(video_id)

    def _publish(self, video_id: str) -> None:
        planned = self._videos.pop(video_id)
        del self._missing[video_id]
        staged, reports = self.store.staged(video_id, list(planned.shards))
        video = video_from_row(self.store.read_video(video_id))
        problems = _problems(video, planned, reports)
        for source in (video.source, *planned.copies):
            named = [{**row, "source": source} for row in problems]
            self.store.write_quarantine(source, named)
        size = (video.width, video.height)
        rows = trajectory_table(video, choose_balls(*candidates_of(staged), size, self.detector))
        status = np.array(rows["status"].to_pylist())
        counts = {name: int((status == name).sum()) for name in STATUSES}
        decoders = sorted({name for report in reports for name in report["decoders"]})
        manifest = {
            "video_id": video_id,
            "source": video.source,
            "run_id": self.run_id,
            "result_key": self.key.digest,
            "schema_version": SCHEMA_VERSION,
            "decoders": decoders,
            "whole": not problems,
            **counts,
        }
        metadata = {
            **self.metadata,
            "schema_version": str(SCHEMA_VERSION),
            "decoder": "+".join(decoders),
            "time_base": str(video.time_base),
        }
        self.store.publish(rows, manifest, metadata)
        self.totals.videos += 1
        log.debug("published %s: %d frames", video.source, len(rows))
        for problem in problems:
            log.warning("%s: %s", video.source, problem["error"])
        for shard in self._todo.pop(video_id):
            self.totals.detected += int((status[shard.start : shard.stop] == DETECTED).sum())


def _problems(
    video: Video, planned: PlannedVideo, reports: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Quarantine rows but for the source: what the container lacks, what no decoder could read."""
    rows = []
    base = {"video_id": video.video_id}
    if video.damage:
        rows.append({**base, "stage": "probe", "error": video.damage, "attempts": 1})
    for owned, report in zip(planned.shards, reports, strict=True):
        if report["damage"]:
            error = "; ".join([report["damage"], *report["errors"]])
            where = {"shard_first": owned.start, "shard_stop": owned.stop, "stage": "decode"}
            rows.append({**base, **where, "error": error, "attempts": report["attempts"]})
    return rows


def unreadable_row(unreadable: Unreadable) -> dict[str, Any]:
    """The quarantine row of a source that is no video."""
    return {
        "source": unreadable.source,
        "stage": "probe",
        "error": unreadable.error,
        "attempts": 1,
    }
