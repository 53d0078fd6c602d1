"""A report that people look at: one HTML file with charts and pictures in it, and no script."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracknet.jobs.courts import court_at
from tracknet.jobs.game import frame_rate
from tracknet.jobs.rows import places_of
from tracknet.jobs.show import inventory
from tracknet.jobs.sources import source_path
from tracknet.pipeline.errors import TrackNetError
from tracknet.pipeline.events.standards import standard_of
from tracknet.pipeline.pictures.charts import Mark, bounce_map, rally_path, timeline
from tracknet.pipeline.pictures.errors import read_frame
from tracknet.pipeline.pictures.render import draw_trajectory
from tracknet.pipeline.tracking.shots import OTHER
from tracknet.schemas.files import whole_file
from tracknet.schemas.store import Store

RALLIES = 6  # drawn of each video, the longest ones
STILL_WIDTH_PX = 640

log = logging.getLogger(__name__)


def write_report(
    store: Store,
    out: Path,
    videos: int = 20,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the report of a results folder.

    All videos are in its first table; the first `videos` of them have charts and a picture, for
    which one frame of the source is decoded, if it is there.

    Args:
        store: the results.
        out: the HTML file.
        videos: how many are shown in detail.
        on_progress: called with how many of these are done, and how many there are.

    Raises:
        InputError: no results folder.
    """
    from jinja2 import Environment

    found = inventory(store)
    rows = [_summary(store, video) for video in found["videos"]]
    shown = rows[:videos]
    details = []
    for done, row in enumerate(shown, 1):
        details.append(row | _details(store, row))
        on_progress(done, len(shown))
    totals = {name: sum(row[name] for row in rows) for name in ("seconds", "rallies", "hits")}
    pages = Environment(autoescape=True)
    pages.filters["clock"] = lambda seconds: str(timedelta(seconds=round(seconds)))
    page = pages.from_string(files(__package__).joinpath("report.html").read_text("utf-8"))
    text = page.render(
        folder=str(store.root),
        totals=found["totals"] | totals,
        rows=rows,
        details=details,
        troubles=[*found["quarantine"], *found["damaged"]],
        run=max(found["runs"], key=lambda run: run["started"], default=None),
    )
    with whole_file(out) as aside:
        aside.write_text(text, "utf-8")
    return out


def _summary(store: Store, video: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of all videos says of one."""
    row = store.read_video(video["video_id"])
    fps = frame_rate(row)
    events = store.read_derived("events", video["video_id"]).to_pylist()
    rallies = store.read_derived("rallies", video["video_id"])
    hits = sum(event["kind"] == "hit" for event in events)
    seconds = video["frames"] / fps
    return {
        **video,
        "name": Path(video["source"]).name,
        "searched": not store.lacks_derived(video["video_id"]),
        "size": (row["width"], row["height"]),
        "fps": fps,
        "seconds": seconds,
        "rallies": len(rallies),
        "hits": hits,
        "bounces": len(events) - hits,
        "hits_per_minute": 60 * hits / seconds if seconds else 0.0,
    }


def _details(store: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    """The charts and the picture of one video."""
    video_id = row["video_id"]
    table = store.read_trajectory(video_id)
    seen = np.array([bool(value) for value in table["visible"].to_pylist()])
    xy = places_of(table)
    events = store.read_derived("events", video_id).to_pylist()
    marks = [Mark(e["frame"], e["kind"], e["x_px"], e["y_px"]) for e in events]
    rallies = store.read_derived("rallies", video_id).to_pylist()
    spans = [(rally["first_frame"], rally["last_frame"]) for rally in rallies]
    shots = [
        (shot["first_frame"], shot["last_frame"], shot["view"] == OTHER)
        for shot in store.read_derived("shots", video_id).to_pylist()
    ]
    longest = sorted(rallies, key=lambda rally: -rally["duration_s"])[:RALLIES]
    paths = [
        {
            **rally,
            "speeds": [
                event["speed_kmh"]
                for event in events
                if event["speed_kmh"] is not None
                and rally["first_frame"] <= event["frame"] <= rally["last_frame"]
            ],
            "svg": rally_path(
                xy[rally["first_frame"] : rally["last_frame"] + 1],
                [m for m in marks if rally["first_frame"] <= m.frame <= rally["last_frame"]],
                row["size"],
            ),
        }
        for rally in sorted(longest, key=lambda rally: rally["first_frame"])
    ]
    span = max(spans, key=lambda span: span[1] - span[0], default=(0, len(seen) - 1))
    return {
        "timeline": timeline(seen, row["fps"], spans, marks, shots),
        "cuts": max(0, len(shots) - 1),
        "paths": paths,
        "courts": _maps(store, row, events),
        "picture": _picture(row["source"], xy, span),
    }


def _maps(
    store: Store, row: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The bounces of a video from above, on each kind of court that it shows."""
    court_in = court_at(store.courts_of(row["source"]), row["size"])
    bounces: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        court = court_in(event["frame"])
        if court and event["x_m"] is not None:
            bounces.setdefault(court.sport, []).append(event)
    maps = []
    for sport, found in bounces.items():
        places = np.array([(event["x_m"], event["y_m"]) for event in found])
        inside = np.array([event["in_court"] for event in found])
        svg = bounce_map(standard_of(sport).lines, places, inside)
        maps.append({"sport": sport, "inside": int(inside.sum()), "all": len(found), "svg": svg})
    return maps


def _picture(source: str, xy: NDArray[np.float64], span: tuple[int, int]) -> str | None:
    """A frame of the source with the ball's way during a span on it, as base64 of a JPEG."""
    first, last = span
    try:
        still = read_frame(source_path(source), (first + last) // 2)
    except TrackNetError as error:
        log.warning("no picture of %s: %s", source, error)
        return None
    scale = STILL_WIDTH_PX / still.shape[1]
    size = (STILL_WIDTH_PX, round(still.shape[0] * scale))
    small = np.ascontiguousarray(cv2.resize(still, size, interpolation=cv2.INTER_AREA))
    places = [
        None if np.isnan(x) else (float(x) * scale, float(y) * scale)
        for x, y in xy[first : last + 1]
    ]
    draw_trajectory(small, places)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return base64.b64encode(data.tobytes()).decode()
