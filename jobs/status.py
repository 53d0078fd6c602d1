"""How far a run is, read from its results folder, by anyone who can read that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Any

from tracknet.jobs.show import inventory
from tracknet.schemas.folder import named
from tracknet.schemas.store import Store


@dataclass(frozen=True)
class RunStatus:
    """The last run of a results folder, and what is there.

    Attributes:
        run_id: None where no run began.
        state: running, done, partial, failed, interrupted, or dead: its row says running, but
            nobody holds the folder.
        started: ISO 8601, UTC.
        holder: host, process and start of who writes there now, if anyone.
        videos, videos_left: published, and probed but not published.
        frames, frames_left: published or finished in shards, and the rest of the probed videos.
        rate: frames per second of this run so far; None before its first sums.
        left_s: by that rate; None where it cannot be told.
        nodes: frames that each node decoded and modelled in the videos that this run published.
        trouble: rows of the table `quarantine`.
        totals: as `inspect` has them.
    """

    run_id: str | None
    state: str
    started: str | None
    holder: dict[str, Any]
    videos: int
    videos_left: int
    frames: int
    frames_left: int
    rate: float | None
    left_s: float | None
    nodes: dict[str, dict[str, int]]
    trouble: list[dict[str, Any]]
    totals: dict[str, int]


def read_status(store: Store) -> RunStatus:
    """Read how far the last run is; nothing is written, and a run is not disturbed.

    Raises:
        InputError: it is no results folder.
    """
    if store.next().marker is not None:
        store = store.next()  # a run with --fresh works beside the old results
    found = inventory(store)
    published = {video["video_id"]: video["frames"] for video in found["videos"]}
    probed = {row["video_id"]: row["frames"] for row in store.videos(["video_id", "frames"])}
    left = {i: frames for i, frames in probed.items() if i not in published}
    staged = {i: min(_staged(store, i), frames) for i, frames in left.items()}
    frames_left = sum(left.values()) - sum(staged.values())
    runs = sorted(store.runs(), key=lambda run: run["started"])
    run = runs[-1] if runs else None
    holder = store.holder()
    state, rate = "none", None
    if run:
        state = run["status"]
        if state == "running":
            state = "running" if holder else "dead"
        seconds = run["wall_s"] or _seconds_of_sums(store, run)
        rate = run["frames"] / seconds if run["frames"] and seconds > 0 else None
    return RunStatus(
        run_id=run["run_id"] if run else None,
        state=state,
        started=run["started"].astimezone(UTC).isoformat(timespec="seconds") if run else None,
        holder=holder,
        videos=len(published),
        videos_left=len(left),
        frames=sum(published.values()) + sum(staged.values()),
        frames_left=frames_left,
        rate=rate,
        left_s=frames_left / rate if rate and state == "running" else None,
        nodes=_by_node(store, run["run_id"]) if run else {},
        trouble=found["quarantine"],
        totals=found["totals"],
    )


def _by_node(store: Store, run_id: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for manifest in store.manifests():
        if manifest["run_id"] == run_id:
            for stage, frames in manifest.get("nodes", {}).items():
                for node, count in frames.items():
                    of_node = found.setdefault(node, {"decoded": 0, "modelled": 0})
                    of_node[stage] += count
    return found


def _seconds_of_sums(store: Store, run: dict[str, Any]) -> float:
    """How old a run was when it last wrote its sums."""
    try:
        written = (store.root / "runs" / f"{run['run_id']}.parquet").stat().st_mtime
    except FileNotFoundError:
        return 0.0
    return float(written - run["started"].timestamp())


def _staged(store: Store, video_id: str) -> int:
    """Frames of a video whose shards are finished, by their file names."""
    shards = named(store.root / "staging" / video_id, r"\d+-\d+\.parquet")
    spans = [path.stem.split("-") for path in shards]
    return sum(int(stop) - int(start) for start, stop in spans)
