"""What a run tells Prometheus, through the exporter that Ray has on every node of a cluster.

Counters come from the workers, so they say which node they are of; gauges of the whole run come
from the driver.  Ray puts `ray_` before the names and `_total` behind those of counters.  A private
Ray exports nothing (`jobs.NO_METRICS`), and recording costs some microseconds for each message.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Gauge

if TYPE_CHECKING:
    from tracknet.jobs.commit import CommitTotals

COUNTERS = {
    "tracknet_{stage}_frames": "Frames that the stage has finished, retries counted again.",
    "tracknet_{stage}_seconds": "Seconds that the stage's workers have worked.",
    "tracknet_{stage}_wait_seconds": "Seconds that they have waited for work or room.",
}
STAGES = ("decode", "model")
GAUGES = {
    "tracknet_frames_done": "Frames that this run has finished.",
    "tracknet_frames_left": "Frames that this run has still to do.",
    "tracknet_videos_done": "Videos that this run has published.",
    "tracknet_videos_left": "Videos that this run has still to do.",
    "tracknet_quarantined": "Sources of this run that are unreadable as a whole or in part.",
}


def exported() -> set[str]:
    """The names of all metrics as Prometheus reads them.

    >>> sorted(exported())[:2]
    ['ray_tracknet_decode_frames_total', 'ray_tracknet_decode_seconds_total']
    """
    counters = {name.format(stage=stage) for name in COUNTERS for stage in STAGES}
    return {f"ray_{name}_total" for name in counters} | {f"ray_{name}" for name in GAUGES}


class StageMeter:
    """Counts what a worker does; `worked` and `waited` say what the time since the last call was.

    Args:
        stage: one of `STAGES`.
    """

    def __init__(self, stage: str) -> None:
        self._frames, self._seconds, self._wait = (
            Counter(name.format(stage=stage), about) for name, about in COUNTERS.items()
        )
        self._since = time.perf_counter()

    def worked(self, frames: int = 0) -> None:
        """The time since the last call went into work, which finished so many frames."""
        self._seconds.inc(self._lap())
        if frames:
            self._frames.inc(frames)

    def waited(self) -> None:
        """The time since the last call went into waiting for the stages before or after."""
        self._wait.inc(self._lap())

    def _lap(self) -> float:
        """Seconds since the last call; never 0, which Ray's counters refuse."""
        now = time.perf_counter()
        seconds, self._since = max(now - self._since, 1e-9), now
        return seconds


class RunMeter:
    """Shows how far a run is.

    Args:
        frames, videos: that are to be done.
        unreadable: sources that are no videos.
    """

    def __init__(self, frames: int, videos: int, unreadable: int) -> None:
        self._plan = frames, videos, unreadable
        self._gauges = [Gauge(name, about) for name, about in GAUGES.items()]

    def show(self, totals: CommitTotals) -> None:
        """Take the sums of now."""
        frames, videos, unreadable = self._plan
        values = (
            *(totals.frames, frames - totals.frames),
            *(totals.videos, videos - totals.videos, unreadable + totals.troubled),
        )
        for gauge, value in zip(self._gauges, values, strict=True):
            gauge.set(value)
