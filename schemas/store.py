"""The output folder: what is in it, what of it counts, and how a video is published.

    OUT/result.json                    what all rows here were made with; written first
    OUT/videos/VIDEO.parquet           what was probed
    OUT/staging/VIDEO/A-B.parquet      rows of frames A..B-1, waiting for the rest of the video
    OUT/trajectories/VIDEO.parquet     the rows of a video
    OUT/quarantine/SOURCE.parquet      what could not be read
    OUT/manifests/VIDEO.json           written last: only now the video is published
    OUT/runs/RUN.parquet               one row per run
    OUT/eval_frames/PROTOCOL/VIDEO.parquet, OUT/eval_metrics/PROTOCOL.parquet   scores

A manifest is the truth.  `trajectory_files` gives readers the published files, `is_published`
tells a resumed run what it need not do again.  One writer at a time: `lock`.

This module knows files and tables, nothing of videos, models or Ray.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracknet.schemas import parquet
from tracknet.schemas.errors import Locked, MixedResults
from tracknet.schemas.tables import (
    EVAL_FRAMES,
    EVAL_METRICS,
    QUARANTINE,
    RUNS,
    SCHEMA_VERSION,
    STAGED,
    TRAJECTORIES,
    VIDEOS,
)

_FOLDERS = (
    "manifests",
    "trajectories",
    "staging",
    "quarantine",
    "videos",
    "runs",
    "eval_metrics",
    "eval_frames",
)


@dataclass(frozen=True)
class ResultKey:
    """Everything that decides what the rows look like.

    Attributes:
        weights_hash: SHA-256 of the weights file.
        settings: the settings that change results, JSON values.
    """

    weights_hash: str
    settings: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "weights_hash": self.weights_hash,
            "settings": dict(self.settings),
        }

    @property
    def digest(self) -> str:
        """16 hex digits that differ whenever anything here differs."""
        canonical = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()[:16]


class Store:
    """An output folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # ---- one result, one writer -------------------------------------------------------------

    def claim(self, key: ResultKey) -> None:
        """Dedicate the folder to one result.

        Raises:
            MixedResults: it is dedicated to another; the message names what differs.
        """
        path = self.root / "result.json"
        if path.exists():
            found, wanted = json.loads(path.read_text("utf-8")), key.document()
            if found != wanted:
                raise MixedResults(
                    f"{self.root} holds rows made differently ({_differences(found, wanted)}); "
                    "choose another --out, or --fresh to delete them and start again"
                )
        else:
            parquet.write_json(key.document(), path)

    def clear(self) -> None:
        """Delete every table of the folder; nothing else that lies in it."""
        (self.root / "result.json").unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(self.root / name, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other writers; the kernel lets go when the process dies.

        Raises:
            Locked: another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Locked(
                    f"{self.root} is being written by process {file.read().strip() or '?'}; "
                    "wait for it, or choose another --out"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    # ---- videos -----------------------------------------------------------------------------

    def video_path(self, video_id: str) -> Path:
        return self.root / "videos" / f"{video_id}.parquet"

    def write_video(self, row: Mapping[str, Any]) -> None:
        """Write the row of a probed video."""
        parquet.write(pa.Table.from_pylist([dict(row)], VIDEOS), self.video_path(row["video_id"]))

    def read_video(self, video_id: str) -> dict[str, Any]:
        """The row of a probed video."""
        return parquet.read(self.video_path(video_id), VIDEOS).to_pylist()[0]

    def videos(self, columns: list[str]) -> pa.Table:
        """Some columns of all videos that were ever probed here."""
        files = sorted((self.root / "videos").glob("*.parquet"))
        tables = [parquet.read(path, VIDEOS, columns) for path in files]
        schema = pa.schema([VIDEOS.field(name) for name in columns])
        return pa.concat_tables([t.cast(schema) for t in tables]) if tables else _empty(schema)

    # ---- shards, waiting --------------------------------------------------------------------

    def _staged_path(self, video_id: str, owned: range) -> Path:
        return self.root / "staging" / video_id / f"{owned.start}-{owned.stop}.parquet"

    def stage(self, video_id: str, owned: range, rows: pa.Table, report: Mapping[str, Any]) -> None:
        """Keep a shard's rows until its video is whole.

        Raises:
            ValueError: the rows are not exactly one per owned frame, in order.
        """
        if rows["frame"].to_pylist() != list(owned):
            raise ValueError(f"{video_id}: rows of shard {owned} are not one per frame")
        path = self._staged_path(video_id, owned)
        parquet.write(rows.cast(STAGED), path, {"report": dict(report)})

    def is_staged(self, video_id: str, owned: range) -> bool:
        return self._staged_path(video_id, owned).exists()

    def staged(self, video_id: str, shards: list[range]) -> tuple[pa.Table, list[dict[str, Any]]]:
        """The rows of all shards, in order, and each shard's report."""
        paths = [self._staged_path(video_id, owned) for owned in shards]
        rows = pa.concat_tables([parquet.read(path, STAGED).cast(STAGED) for path in paths])
        return rows, [json.loads(parquet.file_metadata(path)["report"]) for path in paths]

    # ---- publication ------------------------------------------------------------------------

    def publish(
        self,
        rows: pa.Table,
        manifest: Mapping[str, Any],
        metadata: Mapping[str, Any],
    ) -> None:
        """Make a video's rows visible: table, then manifest, then the staged shards go.

        Args:
            rows: a table of `TRAJECTORIES`, one row per frame, sorted.
            manifest: must hold `video_id`; row count and file size are added.
            metadata: for the Parquet file.

        Raises:
            ValueError: frames are not 0..n-1.
        """
        if rows["frame"].to_pylist() != list(range(len(rows))):
            raise ValueError(f"{manifest['video_id']}: frames are not 0..{len(rows) - 1}")
        video_id = manifest["video_id"]
        path = self.trajectory_path(video_id)
        parquet.write(rows.cast(TRAJECTORIES), path, metadata)
        document = {**manifest, "rows": len(rows), "bytes": path.stat().st_size}
        parquet.write_json(document, self._manifest_path(video_id))
        shutil.rmtree(self.root / "staging" / video_id, ignore_errors=True)

    def withdraw(self, video_id: str) -> None:
        """Take a published video back, manifest first, so that it is made again."""
        self._manifest_path(video_id).unlink(missing_ok=True)
        self.trajectory_path(video_id).unlink(missing_ok=True)
        shutil.rmtree(self.root / "staging" / video_id, ignore_errors=True)

    def trajectory_path(self, video_id: str) -> Path:
        return self.root / "trajectories" / f"{video_id}.parquet"

    def _manifest_path(self, video_id: str) -> Path:
        return self.root / "manifests" / f"{video_id}.json"

    def is_published(self, video_id: str) -> bool:
        """Whether the manifest is there and its file is as the manifest says."""
        path = self._manifest_path(video_id)
        if not path.exists():
            return False
        manifest = json.loads(path.read_text("utf-8"))
        table = self.trajectory_path(video_id)
        return table.exists() and table.stat().st_size == manifest["bytes"]

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of all published videos, by source."""
        files = (self.root / "manifests").glob("*.json")
        documents = [json.loads(path.read_text("utf-8")) for path in files]
        return sorted(documents, key=lambda m: m["source"])

    def trajectory_files(self) -> list[Path]:
        """The files that readers may trust."""
        ids = [manifest["video_id"] for manifest in self.manifests()]
        return [self.trajectory_path(video_id) for video_id in ids if self.is_published(video_id)]

    def read_trajectory(self, video_id: str) -> pa.Table:
        """The published rows of one video.

        Raises:
            TableError: the file does not have the schema.
            KeyError: the video is not published here.
        """
        if not self.is_published(video_id):
            raise KeyError(f"{self.root} holds no published trajectory of {video_id}")
        return parquet.read(self.trajectory_path(video_id), TRAJECTORIES)

    # ---- scores -----------------------------------------------------------------------------

    def clear_evaluation(self, protocol: str) -> None:
        """Delete the scores of a protocol, metrics first."""
        self._metrics_path(protocol).unlink(missing_ok=True)
        shutil.rmtree(self.root / "eval_frames" / protocol, ignore_errors=True)

    def write_eval_frames(self, protocol: str, video_id: str, rows: pa.Table) -> None:
        """Write the scored frames of one video."""
        path = self.root / "eval_frames" / protocol / f"{video_id}.parquet"
        parquet.write(rows.cast(EVAL_FRAMES), path)

    def write_eval_metrics(
        self, protocol: str, rows: pa.Table, metadata: Mapping[str, Any]
    ) -> Path:
        """Write the figures of a protocol, last: they say that the scored frames are complete."""
        parquet.write(rows.cast(EVAL_METRICS), self._metrics_path(protocol), metadata)
        return self._metrics_path(protocol)

    def _metrics_path(self, protocol: str) -> Path:
        return self.root / "eval_metrics" / f"{protocol}.parquet"

    # ---- quarantine and runs ----------------------------------------------------------------

    def _quarantine_path(self, source: str) -> Path:
        return self.root / "quarantine" / f"{sha256(source.encode()).hexdigest()[:16]}.parquet"

    def write_quarantine(self, source: str, rows: list[dict[str, Any]]) -> None:
        """Replace what is known to be wrong with a source; no rows means that it is sound."""
        path = self._quarantine_path(source)
        if rows:
            parquet.write(pa.Table.from_pylist(rows, QUARANTINE), path)
        else:
            path.unlink(missing_ok=True)

    def quarantine(self) -> list[dict[str, Any]]:
        """All quarantine rows, by source."""
        files = sorted((self.root / "quarantine").glob("*.parquet"))
        rows = [row for path in files for row in parquet.read(path, QUARANTINE).to_pylist()]
        return sorted(rows, key=lambda row: (row["source"], row["shard_first"] or 0))

    def write_run(self, row: Mapping[str, Any]) -> None:
        """Write or replace the row of a run."""
        path = self.root / "runs" / f"{row['run_id']}.parquet"
        parquet.write(pa.Table.from_pylist([dict(row)], RUNS), path)

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest first."""
        files = sorted((self.root / "runs").glob("*.parquet"))
        return [row for path in files for row in parquet.read(path, RUNS).to_pylist()]


def _empty(schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([], schema)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two documents, for a person: `peak: contour -> centroid`."""
    parts = []
    for name in sorted(found.keys() | wanted.keys()):
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if inner := _differences(old, new):
                parts.append(inner)
        elif old != new:
            parts.append(f"{name}: {str(old)[:16]} -> {str(new)[:16]}")
    return ", ".join(parts)
