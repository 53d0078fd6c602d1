"""Reading tables back: the trajectory of a video, the inventory of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.pictures.render import BallRow
from tracknet.schemas import parquet
from tracknet.schemas.errors import TableError
from tracknet.schemas.store import Store
from tracknet.schemas.tables import DERIVED, DETECTED, TRAJECTORIES, UNDECODABLE


def trajectory_of(store: Store, video: Path) -> pa.Table:
    """The published rows of a video file, wherever it lies now: its content decides.

    Raises:
        InputError: the folder holds no rows of a video with this content.
        VideoError: the file is no video.
    """
    with Decoder() as decoder:
        video_id = decoder.probe(video.absolute()).video_id
    try:
        return store.read_trajectory(video_id)
    except KeyError as error:
        raise InputError(
            f"{store.root} holds no rows of {video}; run: tracknet track {video} --out {store.root}"
        ) from error


def published_rows(store: Store, table: str = "trajectories") -> pa.Table:
    """The rows of a table of all published videos, by source and frame.

    Raises:
        InputError: it is no results folder.
        TableError: a file of rows is damaged.
    """
    check_results(store)
    files = store.trajectory_files()
    if table in DERIVED:
        tables = [store.read_derived(table, path.stem) for path in files]
        return pa.concat_tables([*tables, DERIVED[table].empty_table()])
    tables = [parquet.read(path, TRAJECTORIES).cast(TRAJECTORIES) for path in files]
    return pa.concat_tables([*tables, TRAJECTORIES.empty_table()])


def ball_rows(table: pa.Table) -> Iterator[BallRow]:
    """The rows of a trajectory as the renderer takes them."""
    for batch in table.select(["frame", "x_px", "y_px", "score"]).to_batches(4096):
        yield from (BallRow(**row) for row in batch.to_pylist())


def inventory(store: Store, deep: bool = False) -> dict[str, Any]:
    """What is in an output folder, from its manifests: videos, totals, problems, damage, runs.

    Args:
        store: the folder.
        deep: read every file of rows and compare its checksum; else only sizes and footers.

    Raises:
        InputError: it is no results folder.
    """
    check_results(store)
    faults = {i: store.fault(i, deep) or store.row_fault(i, deep) for i in store.known()}
    derived = {i: store.derived_fault(i) for i, fault in faults.items() if fault is None}
    manifests = [m for m in store.manifests() if faults[m["video_id"]] is None]
    videos = [
        {
            "source": manifest["source"],
            "copies": manifest["copies"],
            "video_id": manifest["video_id"],
            "frames": manifest["rows"],
            "coverage": _share(manifest["rows"] - manifest[UNDECODABLE], manifest["rows"]),
            "detected": manifest[DETECTED],
            "detection_rate": _share(manifest[DETECTED], manifest["rows"] - manifest[UNDECODABLE]),
            "whole": not manifest["problems"],
        }
        for manifest in manifests
    ]
    runs = store.runs()
    return {
        "videos": videos,
        "totals": {
            "videos": len(videos),
            "frames": sum(video["frames"] for video in videos),
            "detected": sum(video["detected"] for video in videos),
            "runs": len(runs),
        },
        "damaged": [
            {"video_id": video_id, "source": _name(store, video_id), "error": error}
            for video_id, error in (*faults.items(), *derived.items())
            if error is not None
        ],
        "quarantine": store.quarantine(),
        "runs": [{**run, "started": str(run["started"]), "finished": str(run["finished"])}
                 for run in runs],
    }  # fmt: skip


def check_results(store: Store) -> None:
    """Refuse a folder that is no results folder.

    Raises:
        InputError: its marker is missing or damaged.
    """
    if store.marker is None:
        raise InputError(f"{store.root} is not a results folder: result.json is missing or damaged")


def _name(store: Store, video_id: str) -> str | None:
    """The source of a video whose files are damaged, if one of them still says it."""
    manifest = store.manifest(video_id)
    if manifest is not None:
        return str(manifest["source"])
    try:
        return str(store.read_video(video_id)["source"])
    except TableError:
        return None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
