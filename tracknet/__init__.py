"""Find the ball in every frame of every video with TrackNetV5.

    import tracknet

    balls = tracknet.find("rally.mp4")                 # one video: a DataFrame, one row per frame
    report = tracknet.track("matches/", out="tables/") # an archive: Parquet tables, on Ray
    rows = tracknet.read("tables/")                    # what is published there: a DataFrame

Importing this is cheap; what needs PyTorch or Ray is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracknet.api import evaluate, find, load_model, read, render, track
from tracknet.pipeline.errors import InputError, TrackNetError, VideoError, WeightsError
from tracknet.schemas.errors import StoreError

if TYPE_CHECKING:
    from tracknet.jobs.settings import TrackSettings

__all__ = [
    "InputError",
    "StoreError",
    "TrackNetError",
    "TrackSettings",
    "VideoError",
    "WeightsError",
    "evaluate",
    "find",
    "load_model",
    "read",
    "render",
    "track",
]


def __getattr__(name: str) -> Any:
    if name == "TrackSettings":  # it knows NumPy, which takes longer to import than all the rest
        from tracknet.jobs.settings import TrackSettings

        return TrackSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
