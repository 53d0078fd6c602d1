"""From frame rows to published videos: the exactly-once commit.

Rows come in any order, from any worker, perhaps twice.  A `Committer` gathers them per shard,
stages a shard when it is whole, and publishes a video when all its shards are staged.  Only then,
with the candidates of all its frames at hand, is the ball chosen (`pipeline.tracking.choose`), so
a trajectory does not depend on how the video was cut.  What was
staged before a crash is taken as it is.  It keeps in memory only the rows of shards in flight.

A shard that the machine failed (`report["machine"]`), or whose worker died, is not staged and its
video not published: `unfinished` gives it back to be tried again, `failures` names it in the end.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tracknet.jobs.plan import PlannedVideo, is_changed, message, video_from_row
from tracknet.jobs.rows import candidates_of, thumbnails_in, trajectory_table
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import TrackNetError
from tracknet.pipeline.tracking.choose import choose_in_shots
from tracknet.pipeline.tracking.engine import DetectorSettings
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store
from tracknet.schemas.tables import (
    DETECTED,
    SCHEMA_VERSION,
    STAGED,
    STATUSES,
)

log = logging.getLogger(__name__)
MODEL_FAILURES = 8  # that a run stands; a model that always fails must end it


class WorkError(TrackNetError):
    """Workers fail again and again, so that the run cannot go on."""


@dataclass
class _OpenShard:
    """A shard whose rows are coming in; `report` is there once it has been read to its end."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    nodes: Counter[str] = field(default_factory=Counter)
    report: dict[str, Any] | None = None

    def is_whole(self) -> bool:
        return self.report is not None and len(self.rows) == self.report["answered"]


@dataclass
class CommitTotals:
    """What a run has committed so far; the progress display reads it.

    `troubled` are videos with problems; `model_began` is when the model took its first frames, in
    seconds since the epoch.
    """

    frames: int = 0
    detected: int = 0
    videos: int = 0
    troubled: int = 0
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
        self._failed: dict[tuple[str, int], str] = {}
        self._changed: dict[str, str] = {}
        self._model_failures = 0

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
            report = None if row["report"] is None else json.loads(row["report"])
            if report and "model_error" in report:
                self._fail((row["video_id"], row["shard_first"]), report["model_error"])
            elif report:
                shard.report = report
                self.totals.decode_s += report["decode_s"]
            elif row["frame"] not in shard.rows:  # a retried task may deliver a row again
                shard.rows[row["frame"]] = {name: row[name] for name in STAGED.names}
                shard.nodes[row["node"]] += 1
                self.totals.frames += 1
                self.totals.model_s += row["model_s"]
                self.totals.model_began = min(self.totals.model_began, row["began"])
        touched = zip(table["video_id"].to_pylist(), table["shard_first"].to_pylist(), strict=True)
        for name in dict.fromkeys(touched):
            if name in self._open and self._open[name].is_whole():
                self._take(name, self._open.pop(name))
        self.totals.commit_s += time.perf_counter() - started

    def unfinished(self) -> list[dict[str, Any]]:
        """The shards that were expected and are not staged, to be sent again.

        What arrived of them is forgotten.
        """
        self.totals.frames -= sum(len(shard.rows) for shard in self._open.values())
        self._open.clear()
        return [
            {"video_id": video_id, "first": shard.start, "stop": shard.stop}
            for video_id, missing in self._missing.items()
            for shard in self._todo[video_id]
            if shard.start in missing
        ]

    def failures(self) -> list[dict[str, str]]:
        """The videos that could not be published, by source, and why."""
        found = []
        for video_id, missing in self._missing.items():
            shard = next(s for s in self._todo[video_id] if s.start in missing)
            reason = self._failed.get((video_id, shard.start), "its worker process died")
            error = f"frames {shard.start}-{shard.stop - 1}: {reason}"
            more = f" (and {len(missing) - 1} more parts of it)" if len(missing) > 1 else ""
            found.append({"source": self._videos[video_id].source, "error": error + more})
        return found + [{"source": s, "error": e} for s, e in self._changed.items()]

    def _fail(self, name: tuple[str, int], error: str) -> None:
        """Note that the model failed on a part of a shard, which so will not be whole."""
        self._failed[name] = f"the model failed: {error}"
        self._model_failures += 1
        if self._model_failures > MODEL_FAILURES:
            raise WorkError(f"the model failed {self._model_failures} times; last: {error}")

    def _take(self, name: tuple[str, int], shard: _OpenShard) -> None:
        assert shard.report is not None
        if failure := shard.report.get("machine"):
            self._failed[name] = failure
            self.totals.frames -= len(shard.rows)
            log.warning("%s frames %d-: %s", name[0], name[1], failure)
        else:
            self._failed.pop(name, None)
            self._stage(*name, shard)

    def _stage(self, video_id: str, first: int, shard: _OpenShard) -> None:
        if first not in self._missing.get(video_id, ()):
            return  # staged already: the task was retried after its last row had arrived
        assert shard.report is not None
        owned = range(*shard.report["owned"])
        lost = {"decoded": False, "candidates": []}
        rows = [shard.rows.get(frame, {"frame": frame, **lost}) for frame in owned]
        report = shard.report | {"modelled": dict(shard.nodes)}
        self.store.stage(video_id, owned, pa.Table.from_pylist(rows, STAGED), report)
        self._missing[video_id].discard(first)
        if not self._missing[video_id]:
            self._publish(video_id)

    def _publish(self, video_id: str) -> None:
        planned = self._videos.pop(video_id)
        todo = self._todo.pop(video_id)
        del self._missing[video_id]
        row = self.store.read_video(video_id)
        if is_changed(row):
            self._changed[planned.source] = "changed while it was tracked; run again"
            self.store.unstage(video_id)
            return
        staged, reports = self.store.staged(video_id, list(planned.shards))
        video = video_from_row(row)
        problems = _problems(video, planned, reports)
        size = (video.width, video.height)
        candidates, decoded = candidates_of(staged)
        balls, shots = choose_in_shots(
            candidates, decoded, thumbnails_in(staged), size, video.fps, self.detector
        )
        rows = trajectory_table(video, balls, shots)
        status = np.array(rows["status"].to_pylist())
        counts = {name: int((status == name).sum()) for name in STATUSES}
        decoders = sorted({name for report in reports for name in report["decoders"]})
        manifest = {
            "video_id": video_id,
            "source": row["source"],
            "copies": row["copies"],
            "run_id": self.run_id,
            "result_key": self.key.digest,
            "schema_version": SCHEMA_VERSION,
            "decoders": decoders,
            "problems": problems,
            "nodes": _nodes(reports),
            **counts,
        }
        metadata = {
            **self.metadata,
            "schema_version": str(SCHEMA_VERSION),
            "decoder": "+".join(decoders),
            "time_base": str(video.time_base),
        }
        from tracknet.jobs.game import game_tables  # PyTorch, while the model works

        game = game_tables(row, rows, self.store.courts_of(row["source"]))
        self.store.publish(rows, manifest, metadata, game)
        self.totals.videos += 1
        log.debug("published %s: %d frames", row["source"], len(rows))
        self.totals.troubled += bool(problems)
        for problem in problems:
            log.warning("%s: %s", row["source"], problem["error"])
        for shard in todo:
            self.totals.detected += int((status[shard.start : shard.stop] == DETECTED).sum())


def _nodes(reports: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Frames that each node decoded, and that its models computed."""
    found: dict[str, Counter[str]] = {"decoded": Counter(), "modelled": Counter()}
    for report in reports:
        found["decoded"][report.get("node", "unknown")] += report["answered"]
        found["modelled"].update(report.get("modelled", {}))
    return {stage: dict(frames) for stage, frames in found.items()}


def _problems(
    video: Video, planned: PlannedVideo, reports: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Quarantine rows but for video and source: what the container lacks, what cannot be read."""
    rows: list[dict[str, Any]] = []
    everywhere = {"shard_first": None, "shard_stop": None}
    if video.damage:
        error = message(video.damage, video.source)
        rows.append({**everywhere, "stage": "probe", "error": error, "attempts": 1})
    for owned, report in zip(planned.shards, reports, strict=True):
        if report["damage"]:
            error = message("; ".join([report["damage"], *report["errors"]]), video.source)
            where = {"shard_first": owned.start, "shard_stop": owned.stop, "stage": "decode"}
            rows.append({**where, "error": error, "attempts": report["attempts"]})
    return rows
