"""What happened in a video, as tables that follow from its trajectory: events, rallies, shots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracknet.jobs.courts import court_at
from tracknet.jobs.rows import places_of
from tracknet.pipeline.events.find import Event, find_events
from tracknet.pipeline.events.model import FPS
from tracknet.pipeline.events.places import places
from tracknet.pipeline.events.rallies import find_rallies
from tracknet.pipeline.tracking.shots import OTHER
from tracknet.schemas.courts import CourtRow
from tracknet.schemas.errors import TableError
from tracknet.schemas.store import Store
from tracknet.schemas.tables import EVENTS, RALLIES, SHOTS

log = logging.getLogger(__name__)


def game_tables(
    video: Mapping[str, Any], rows: pa.Table, courts: Sequence[CourtRow] = ()
) -> dict[str, pa.Table]:
    """The tables `schemas.tables.DERIVED` of a video.

    Args:
        video: its row of `VIDEOS`.
        rows: its rows of `TRAJECTORIES`.
        courts: that are seen in it; see `schemas.courts`.
    """
    fps, xy, size = frame_rate(video), places_of(rows), (video["width"], video["height"])
    shots = _shots(rows)
    cuts = [shot["first_frame"] for shot in shots[1:]]
    events = find_events(xy, size, fps, cuts=cuts)
    placed = places(events, xy, size[0], fps, court_at(courts, size))
    views = rows["view"].to_pylist()
    times = rows["time_s"].to_numpy()  # NaN where there is no clock
    same = {"video_id": video["video_id"], "source": video["source"]}
    found = [
        {
            **same,
            **event._asdict(),
            **place._asdict(),
            "time_s": _time(times, event, fps),
            "speed_before": _known(event.speed_before),
            "speed_behind": _known(event.speed_behind),
        }
        for event, place in zip(events, placed, strict=True)
    ]
    at = {row["frame"]: row["time_s"] for row in found}
    rallies = [
        {
            **same,
            **rally._asdict(),
            "rally": number,
            "start_s": at[rally.first_frame],
            "end_s": at[rally.last_frame],
        }
        for number, rally in enumerate(
            find_rallies([event for event in events if views[event.frame] != OTHER], fps, cuts)
        )
    ]
    return {
        "events": pa.Table.from_pylist(found, EVENTS),
        "rallies": pa.Table.from_pylist(rallies, RALLIES),
        "shots": pa.Table.from_pylist([{**same, **shot} for shot in shots], SHOTS),
    }


def _shots(rows: pa.Table) -> list[dict[str, Any]]:
    """The shots that a trajectory names; none where it was made before there were shots."""
    numbers = rows["shot"].to_numpy()
    if rows["shot"].null_count:
        return []
    visible = rows["visible"].cast(pa.float64()).to_numpy()  # NaN where undecodable
    times, views = rows["time_s"].to_numpy(), rows["view"]
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
    return [
        {
            "shot": number,
            "first_frame": first,
            "last_frame": stop - 1,
            "start_s": _known(times[first]),
            "end_s": _known(times[stop - 1]),
            "view": views[first].as_py(),
            "ball_share": _mean(visible[first:stop]),
        }
        for number, (first, stop) in enumerate(pairwise(edges))
    ]


def _mean(values: NDArray[np.float64]) -> float | None:
    """Of the known ones."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def fill(store: Store, on_progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Make these tables for every published video that lacks them; see `Store.lacks_derived`.

    Args:
        store: locked by the caller.
        on_progress: called with how many are done, and how many there are.

    Returns:
        How many videos were done.
    """
    videos = [m["video_id"] for m in store.manifests() if store.is_published(m["video_id"])]
    lacking = [video_id for video_id in videos if store.lacks_derived(video_id)]
    for done, video_id in enumerate(lacking, 1):
        try:
            video, rows = store.read_video(video_id), store.read_trajectory(video_id)
        except TableError as error:
            log.warning(
                "no events: %s", error
            )  # the next run over its source makes all of it again
            continue
        store.derive(video_id, game_tables(video, rows, store.courts_of(video["source"])))
        on_progress(done, len(lacking))
    return len(lacking)


def frame_rate(video: Mapping[str, Any]) -> float:
    """Mean frames per second of a video, 30 where it has no clock.

    >>> frame_rate({"frames": 51, "duration_s": 2.0})
    25.0
    """
    if not video["duration_s"] or video["frames"] < 2:
        return FPS
    return float((video["frames"] - 1) / video["duration_s"])


def _time(times: NDArray[np.float64], event: Event, fps: float) -> float | None:
    return _known(times[event.frame] + event.offset / fps)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
