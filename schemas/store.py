"""The output folder: what is in it, what of it counts, and how a video is published.

    OUT/result.json                    the marker: what all rows here were made with
    OUT/courts.json                    the courts that are seen in videos, as the user gave them
    OUT/videos/VIDEO.parquet           what was probed, and which sources have this content now
    OUT/staging/VIDEO/A-B.parquet      rows of frames A..B-1, waiting for the rest of the video
    OUT/trajectories/VIDEO.parquet     the rows of a video
    OUT/manifests/VIDEO.json           written last: only now the video is published
    OUT/quarantine/VIDEO.parquet       problems of a published video, as its manifest says them
    OUT/quarantine/unreadable.parquet  sources that are no videos
    OUT/superseded/VIDEO.parquet       rows of content that no source has any more
    OUT/runs/RUN.parquet               one row per run
    OUT/eval_frames/PROTOCOL/VIDEO.parquet, OUT/eval_(metrics|errors)/PROTOCOL.parquet   scores
    OUT/.fresh/                        what `--fresh` makes: all of the above, until it is complete

VIDEO is the content's fingerprint.  That is the one key: what a source is called may change.

*Published* is what a manifest says and whose trajectory file has the size and checksum that the
manifest says; the manifest itself has a checksum, and so has every page of a Parquet file.  All
else that may be wrong with a video (partly unreadable, and where) stands in its manifest; the files
in `quarantine/` are copies of that for readers.  A file that cannot be read is treated as if it
were not there: named in the log, and made again by the next run over its source.

Files are told by their names: only what is called as above is ever replaced, moved or deleted, and
only where the marker is.  Whatever else a person puts into the folder stays.

One writer at a time: `lock`.  This module knows files and tables, nothing of videos, models or Ray.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tracknet.schemas import parquet
from tracknet.schemas.courts import Courts
from tracknet.schemas.errors import TableError
from tracknet.schemas.files import checksum, errors_of, move, remove_empty
from tracknet.schemas.folder import ID, named, read_json
from tracknet.schemas.tables import (
    DERIVED,
    DETECTED,
    QUARANTINE,
    RUNS,
    STAGED,
    TRAJECTORIES,
    VIDEOS,
)

log = logging.getLogger(__name__)


class Binding(NamedTuple):
    """The sources with a video's content, the first of them its `source`; its size and time."""

    sources: list[str]
    size_bytes: int | None
    mtime_ns: int | None


class Store(Courts):
    """An output folder and the tables in it."""

    # ---- videos -----------------------------------------------------------------------------

    def video_path(self, video_id: str) -> Path:
        return self.root / "videos" / f"{video_id}.parquet"

    def write_video(self, row: Mapping[str, Any]) -> None:
        """Write the row of a probed video."""
        parquet.write(pa.Table.from_pylist([dict(row)], VIDEOS), self.video_path(row["video_id"]))

    def read_video(self, video_id: str) -> dict[str, Any]:
        """The row of a probed video.

        Raises:
            TableError: it is not there, or cannot be read.
        """
        rows = parquet.read(self.video_path(video_id), VIDEOS).to_pylist()
        if len(rows) != 1 or rows[0]["video_id"] != video_id:
            raise TableError(f"{self.video_path(video_id)}: is not the row of this video")
        return rows[0]

    def videos(self, columns: list[str]) -> list[dict[str, Any]]:
        """Some columns of all videos that were ever probed here and can be read."""
        return parquet.readable(named(self.root / "videos", rf"{ID}\.parquet"), VIDEOS, columns)

    def bindings(self) -> dict[str, Binding]:
        """What each video was last known by.

        Where the video's row is lost, its manifest and its trajectory are asked.
        """
        columns = ["video_id", "source", "copies", "size_bytes", "mtime_ns"]
        found = {
            row["video_id"]: Binding(
                [row["source"], *row["copies"]], row["size_bytes"], row["mtime_ns"]
            )
            for row in self.videos(columns)
        }
        for video_id in self.known():
            if video_id not in found:
                manifest = self.manifest(video_id)
                if manifest is not None:
                    names = [manifest["source"], *manifest["copies"]]
                else:
                    names = parquet.first_value(
                        self.trajectory_path(video_id), TRAJECTORIES, "source"
                    )
                found[video_id] = Binding(names, None, None)
        return found

    # ---- shards, waiting --------------------------------------------------------------------

    def _staged_path(self, video_id: str, owned: range) -> Path:
        return self.root / "staging" / video_id / f"{owned.start}-{owned.stop}.parquet"

    def stage(self, video_id: str, owned: range, rows: pa.Table, report: Mapping[str, Any]) -> None:
        """Keep a shard's rows until its video is whole.

        Raises:
            ValueError: the rows are not exactly one per owned frame, in order.
            Locked: another run has taken the folder over.
        """
        self._lock.check()
        if rows["frame"].to_pylist() != list(owned):
            raise ValueError(f"{video_id}: rows of shard {owned} are not one per frame")
        path = self._staged_path(video_id, owned)
        parquet.write(rows.cast(STAGED), path, {"report": dict(report)})

    def is_staged(self, video_id: str, owned: range) -> bool:
        """Whether a shard's rows are there and can be read."""
        path = self._staged_path(video_id, owned)
        if not path.exists():
            return False
        try:
            rows, _ = self.staged(video_id, [owned])
        except (TableError, KeyError, ValueError) as error:
            log.warning("damaged; will be redone: %s (%s)", path, error)
            return False
        return rows["frame"].to_pylist() == list(owned)

    def staged(self, video_id: str, shards: list[range]) -> tuple[pa.Table, list[dict[str, Any]]]:
        """The rows of all shards, in order, and each shard's report."""
        paths = [self._staged_path(video_id, owned) for owned in shards]
        rows = pa.concat_tables([parquet.read(path, STAGED).cast(STAGED) for path in paths])
        return rows, [json.loads(parquet.file_metadata(path)["report"]) for path in paths]

    def unstage(self, video_id: str) -> None:
        """Drop the staged shards of a video."""
        folder = self.root / "staging" / video_id
        for path in named(folder, r"\d+-\d+\.parquet"):
            path.unlink(missing_ok=True)
        remove_empty(folder)  # a person's files may be in it

    # ---- publication ------------------------------------------------------------------------

    def publish(
        self,
        rows: pa.Table,
        manifest: Mapping[str, Any],
        metadata: Mapping[str, Any],
        derived: Mapping[str, pa.Table] | None = None,
    ) -> None:
        """Make a video's rows visible: tables, manifest, quarantine; then staged shards go.

        Args:
            rows: a table of `TRAJECTORIES`, one row per frame, sorted.
            manifest: see `jobs.commit`; `problems` are rows of `QUARANTINE` without a source.
                Row count, size and checksum are added.
            metadata: for the Parquet files.
        derived: tables that follow from the rows, by name; see `schemas.tables.DERIVED`.

        Raises:
            ValueError: frames are not 0..n-1.
            Locked: another run has taken the folder over.
        """
        if rows["frame"].to_pylist() != list(range(len(rows))):
            raise ValueError(f"{manifest['video_id']}: frames are not 0..{len(rows) - 1}")
        self._lock.check()
        video_id = manifest["video_id"]
        path = self.trajectory_path(video_id)
        for name, table in (derived or {}).items():
            parquet.write(table.cast(DERIVED[name]), self.derived_path(name, video_id), metadata)
        parquet.write(rows.cast(TRAJECTORIES), path, metadata)
        key = self.derived_from(manifest["source"])
        made = {"rows": len(rows), "derived": sorted(derived or ()), "derived_from": key}
        self._write_manifest({**manifest, **made})
        (self.root / "superseded" / path.name).unlink(missing_ok=True)
        self.unstage(video_id)

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest of the trajectory file as it is, and what follows from it."""
        video_id = manifest["video_id"]
        path = self.trajectory_path(video_id)
        file = {"bytes": path.stat().st_size, "sha256": checksum(path)}
        derived = {
            name: checksum(self.derived_path(name, video_id))
            for name in manifest.get("derived", ())
        }
        document = {**manifest, **file, "derived": derived}
        parquet.write_json({**document, "check": _check(document)}, self._manifest_path(video_id))
        named = problems_of(manifest)
        copy = self.root / "quarantine" / f"{video_id}.parquet"
        if named:
            parquet.write(pa.Table.from_pylist(named, QUARANTINE), copy)
        else:
            copy.unlink(missing_ok=True)

    def derive(self, video_id: str, derived: Mapping[str, pa.Table]) -> None:
        """Add the tables that follow from a published video's rows, or replace them.

        Raises:
            Locked: another run has taken the folder over.
        """
        self._lock.check()
        manifest = self.manifest(video_id)
        assert manifest is not None
        metadata = parquet.file_metadata(self.trajectory_path(video_id))
        for name, table in derived.items():
            parquet.write(table.cast(DERIVED[name]), self.derived_path(name, video_id), metadata)
        key = self.derived_from(manifest["source"])
        self._write_manifest({**manifest, "derived": sorted(derived), "derived_from": key})

    def derived_fault(self, video_id: str) -> str | None:
        """What is wrong with the tables that follow from a published video's rows, in words."""
        for name, digest in (self.manifest(video_id) or {}).get("derived", {}).items():
            path = self.derived_path(name, video_id)
            try:
                if checksum(path) != digest:
                    return f"{path} has not the checksum that the manifest says"
            except errors_of(path) as error:
                return str(error)
        return None

    def lacks_derived(self, video_id: str) -> bool:
        """Whether a published video has not all tables that follow from its rows and its courts."""
        made = self.manifest(video_id) or {"source": ""}
        if made.get("derived_from") != self.derived_from(made["source"]):
            return True
        return made["derived"].keys() != DERIVED.keys() or self.derived_fault(video_id) is not None

    def read_derived(self, name: str, video_id: str) -> pa.Table:
        """A table that follows from a published video's rows; empty where it is not there whole."""
        made = self.manifest(video_id) or {"source": ""}
        current = self.derived_from(made["source"])
        whole = name in made.get("derived", {}) and self.derived_fault(video_id) is None
        if not whole or made.get("derived_from", current) != current:
            return DERIVED[name].empty_table()
        return parquet.read(self.derived_path(name, video_id), DERIVED[name]).cast(DERIVED[name])

    def rename(
        self, video_id: str, source: str, copies: list[str], mtime_ns: int | None = None
    ) -> None:
        """Give a video other sources: in its trajectory, its manifest and its own row.

        Its own row goes last, so that an interrupted renaming is done again.

        Args:
            video_id: which.
            source, copies: what it is called now.
            mtime_ns: modification time of `source`; None where it is not known.

        Raises:
            Locked: another run has taken the folder over.
        """
        self._lock.check()
        manifest = self.manifest(video_id)
        if manifest is not None and self.is_sound(video_id):
            derived = [] if self.lacks_derived(video_id) else list(DERIVED)
            if manifest["source"] != source:
                parquet.fill_column(self.trajectory_path(video_id), TRAJECTORIES, source=source)
                for name in derived:
                    parquet.fill_column(
                        self.derived_path(name, video_id), DERIVED[name], source=source
                    )
            self._write_manifest(
                manifest | {"source": source, "copies": copies, "derived": derived}
            )
        try:
            row = self.read_video(video_id)
        except TableError:
            return
        time = {} if mtime_ns is None else {"mtime_ns": mtime_ns}
        self.write_video({**row, **time, "source": source, "copies": copies})

    def retract(self, video_id: str) -> None:
        """Take away a video that no source has any more; its rows go to `superseded/`.

        Its own row goes last, so that an interrupted retraction is done again.

        Raises:
            Locked: another run has taken the folder over.
        """
        self._lock.check()
        path = self.trajectory_path(video_id)
        self._manifest_path(video_id).unlink(missing_ok=True)
        if path.exists():
            aside = self.root / "superseded" / path.name
            with parquet.writing(aside):
                move(path, aside)
        (self.root / "quarantine" / f"{video_id}.parquet").unlink(missing_ok=True)
        for name in DERIVED:
            self.derived_path(name, video_id).unlink(missing_ok=True)
        self.unstage(video_id)
        self.video_path(video_id).unlink(missing_ok=True)

    def trajectory_path(self, video_id: str) -> Path:
        return self.root / "trajectories" / f"{video_id}.parquet"

    def derived_path(self, name: str, video_id: str) -> Path:
        return self.root / name / f"{video_id}.parquet"

    def _manifest_path(self, video_id: str) -> Path:
        return self.root / "manifests" / f"{video_id}.json"

    def manifest(self, video_id: str) -> dict[str, Any] | None:
        """The manifest of a video; None where there is none that can be read."""
        found = read_json(self._manifest_path(video_id))
        if found is None or found.pop("check", None) != _check(found):
            return None
        return found if found["video_id"] == video_id else None

    def is_published(self, video_id: str) -> bool:
        """Whether there is a manifest, and a file of the size and rows that it says."""
        return self.fault(video_id) is None

    def is_sound(self, video_id: str) -> bool:
        """Whether it is published and the file has the manifest's checksum: reads all of it."""
        return self.fault(video_id, deep=True) is None

    def fault(self, video_id: str, deep: bool = False) -> str | None:
        """What is wrong with a published video, in words; None where nothing is.

        Only with `deep` the whole file is read and its checksum compared.
        """
        path, manifest = self.trajectory_path(video_id), self.manifest(video_id)
        if manifest is None:
            there = self._manifest_path(video_id).exists()
            return "its manifest is damaged" if there else "it has no manifest"
        try:
            if path.stat().st_size != manifest["bytes"]:
                return f"{path.name} has not the size that its manifest says"
            if parquet.row_count(path) != manifest["rows"]:
                return f"{path.name} has not the rows that its manifest says"
            if deep and checksum(path) != manifest["sha256"]:
                return f"{path.name} has not the checksum that its manifest says"
        except (errors_of(path), TableError) as error:
            return str(error)
        return None

    def row_fault(self, video_id: str, deep: bool = False) -> str | None:
        """What is wrong with a video's own row, in words; None where nothing is."""
        path = self.video_path(video_id)
        try:
            if deep:
                self.read_video(video_id)
            elif parquet.row_count(path) != 1:
                return f"{path} is not the row of this video"
        except TableError as error:
            return str(error)
        return None

    def known(self) -> list[str]:
        """Ids of all videos that have a manifest or a trajectory, sound or not."""
        manifests = named(self.root / "manifests", rf"{ID}\.json")
        trajectories = named(self.root / "trajectories", rf"{ID}\.parquet")
        return sorted({path.stem for path in (*manifests, *trajectories)})

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests that can be read, by source."""
        found = [self.manifest(video_id) for video_id in self.known()]
        return sorted((m for m in found if m is not None), key=lambda m: m["source"])

    def trajectory_files(self) -> list[Path]:
        """The files that readers may trust, by source."""
        ids = [manifest["video_id"] for manifest in self.manifests()]
        return [self.trajectory_path(video_id) for video_id in ids if self.is_published(video_id)]

    def read_trajectory(self, video_id: str) -> pa.Table:
        """The published rows of one video.

        Raises:
            TableError: the file does not have the schema, or is damaged.
            KeyError: the video is not published here.
        """
        if not self.is_published(video_id):
            raise KeyError(f"{self.root} holds no published trajectory of {video_id}")
        return parquet.read(self.trajectory_path(video_id), TRAJECTORIES)

    # ---- quarantine and runs ----------------------------------------------------------------

    def unreadable(self) -> list[dict[str, Any]]:
        """The sources that are no videos, rows of `QUARANTINE`."""
        return parquet.readable(named(self.root / "quarantine", r"unreadable\.parquet"), QUARANTINE)

    def write_unreadable(self, rows: list[dict[str, Any]]) -> None:
        """Replace the list of sources that are no videos."""
        path = self.root / "quarantine" / "unreadable.parquet"
        if rows:
            parquet.write(pa.Table.from_pylist(rows, QUARANTINE), path)
        else:
            path.unlink(missing_ok=True)

    def quarantine(self) -> list[dict[str, Any]]:
        """All that is wrong with videos here, by source: what manifests say, and no videos."""
        rows = [row for manifest in self.manifests() for row in problems_of(manifest)]
        return sorted(
            rows + self.unreadable(), key=lambda row: (row["source"], row.get("shard_first") or 0)
        )

    def write_run(self, row: Mapping[str, Any]) -> None:
        """Write or replace the row of a run."""
        path = self.root / "runs" / f"{row['run_id']}.parquet"
        parquet.write(pa.Table.from_pylist([dict(row)], RUNS), path)

    def settle_runs(self) -> None:
        """Mark runs that were killed, with the sums of what they published; the caller writes."""
        manifests = self.manifests()
        for run in self.runs():
            if run["status"] == "running":
                made = [m for m in manifests if m["run_id"] == run["run_id"]]
                sums = {
                    "videos": len(made),
                    "frames": sum(m["rows"] for m in made),
                    "frames_detected": sum(m[DETECTED] for m in made),
                }
                self.write_run({**run, **sums, "status": "interrupted"})

    def runs(self) -> list[dict[str, Any]]:
        """All runs whose rows can be read, oldest first."""
        return parquet.readable(named(self.root / "runs", r".+\.parquet"), RUNS)


def problems_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with a published video, as rows of `QUARANTINE` for each of its sources."""
    sources = (manifest["source"], *manifest["copies"])
    base = {"video_id": manifest["video_id"]}
    return [{**base, **row, "source": source} for source in sources for row in manifest["problems"]]


def _check(document: Mapping[str, Any]) -> str:
    """Checksum of a manifest over all that it says, as hex digits."""
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
