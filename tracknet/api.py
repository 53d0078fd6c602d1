"""The Python API: what the command line does, one function each.

Options have the names of the command line's (`threshold=0.4` for `--threshold 0.4`, `link=False`
for `--no-link`); a `TrackSettings` made once can be given instead.  Errors are
`tracknet.TrackNetError` and its kinds, and `tracknet.StoreError` for results folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import nn

    from tracknet.jobs.evaluate import Evaluation
    from tracknet.jobs.settings import TrackSettings
    from tracknet.jobs.track import TrackProgress, TrackReport

AnyPath = str | PathLike[str]


def find(
    video: AnyPath,
    settings: TrackSettings | None = None,
    *,
    court: AnyPath | None = None,
    on_progress: Callable[[TrackProgress], None] = lambda _: None,
    **options: Any,
) -> pd.DataFrame:
    """Find the ball in every frame of one video, in this process, without Ray.

    Args:
        video: a video file, its URL, or a folder of pictures.
        settings: how; None takes the defaults.
        court: court file, as `tracknet court` writes it.
        on_progress: called as frames are done.
        options: instead of `settings`, by name: `weights`, `threshold`, `device`, ...

    Returns:
        One row per frame with the columns of the table `trajectories`, the same rows as `track`
        publishes, and of the frames that the table `events` would name its columns `event` (`hit`
        or `bounce`), `x_m`, `y_m`, `in_court` and `speed_kmh`.  Coordinates are pixels of the
        displayed picture, origin top left.

    Raises:
        InputError, WeightsError: settings or weights cannot be used.
        VideoError: the file cannot be read, or none of its frames can be decoded.
    """
    from tracknet.jobs.choice import choose_model
    from tracknet.jobs.courts import read_courts
    from tracknet.jobs.game import game_tables
    from tracknet.jobs.plan import video_row
    from tracknet.jobs.rows import trajectory_table
    from tracknet.jobs.track import TrackProgress
    from tracknet.pipeline.decoding.decoder import Decoder
    from tracknet.pipeline.find import find_balls
    from tracknet.schemas.courts import courts_of

    settings = _settings(settings, options)
    courts = read_courts(Path(court)) if court else []
    detector = choose_model(settings).detector(settings)
    with Decoder(settings.decoder) as decoder:
        found = decoder.probe(_place(video).absolute())

        def on_frames(done: int) -> None:
            on_progress(TrackProgress("track", done, found.frames, 0, 1))

        balls, shots = find_balls(found, decoder, detector, on_frames)
    rows = trajectory_table(found, balls, shots)
    row = video_row(found, [])
    events = game_tables(row, rows, courts_of(courts, row["source"]))["events"].to_pandas()
    events = events.rename(columns={"kind": "event"}).set_index("frame")
    table: pd.DataFrame = rows.to_pandas()
    return table.join(events[["event", "x_m", "y_m", "in_court", "speed_kmh"]], on="frame")


def track(
    inputs: AnyPath | Iterable[AnyPath],
    out: AnyPath,
    settings: TrackSettings | None = None,
    *,
    fresh: bool = False,
    take_lock: bool = False,
    court: AnyPath | None = None,
    on_progress: Callable[[TrackProgress], None] = lambda _: None,
    **options: Any,
) -> TrackReport:
    """Track an archive into Parquet tables, on an embedded Ray.

    Call it again to resume: only what is missing is done.

    Args:
        inputs: videos, folders, globs, manifests (`*.txt`); one, or several.
        out: the results folder, or its URL (`s3://`, `gs://`).
        settings: how; None takes the defaults.
        fresh: make all results again; the old ones stay until the new ones are complete.
        take_lock: write although a run on another machine seems to; it must be dead.
        court: court file, as `tracknet court` writes it, kept in `out`; None leaves what is there.
        on_progress: called often, from this thread.
        options: instead of `settings`, by name.

    Raises:
        InputError, WeightsError: inputs, court, settings or weights cannot be used.
        StoreError: the folder holds other results, or another run is writing to it.
        StoppedEarly: at `deadline`, or where `max_failures` was passed.
    """
    from tracknet.jobs.courts import read_courts
    from tracknet.jobs.sources import find_sources
    from tracknet.jobs.track import track as run

    given = [inputs] if isinstance(inputs, str | PathLike) else inputs
    sources = find_sources([fspath(one) for one in given])
    chosen = _settings(settings, options)
    courts = read_courts(Path(court)) if court else None
    return run(sources, _place(out), chosen, fresh, on_progress, take_lock, courts)


Table = Literal["trajectories", "events", "rallies", "shots"]


@overload
def read(
    out: AnyPath, table: Table = "trajectories", *, arrow: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def read(out: AnyPath, table: Table = "trajectories", *, arrow: Literal[True]) -> pa.Table: ...
def read(
    out: AnyPath, table: Table = "trajectories", *, arrow: bool = False
) -> pd.DataFrame | pa.Table:
    """The published rows of a results folder, by source and frame.

    Args:
        out: a results folder that `track` made.
        table: which of its tables; docs/tables.md has their columns.
        arrow: return an Arrow table, which takes less memory, instead of a DataFrame.

    Returns:
        One row per frame, event, rally or shot of every published video.

    Raises:
        TableError: a file there is no table of ours.
    """
    from tracknet.jobs.show import published_rows
    from tracknet.schemas.store import Store

    rows = published_rows(Store(_place(out)), table)
    return rows if arrow else rows.to_pandas()


def load_model(name_or_path: AnyPath, device: str = "cpu") -> nn.Module:
    """A model in eval mode with trained weights, float32.

    Args:
        name_or_path: shipped weights (`v5-nano`), or a `.safetensors` file.
        device: as PyTorch names devices.

    Returns:
        A module that takes `[B, P, 3, H, W]` in [0, 1] and gives heatmaps `[B, T, H, W]`.

    Raises:
        WeightsError: no such weights, or they cannot be read.
    """
    from tracknet.pipeline.models.checkpoint import load_model as load

    return load(fspath(name_or_path), device)


def evaluate(
    out: AnyPath,
    labels: AnyPath,
    *,
    split: str | None = None,
    space: Literal["model", "source"] = "model",
    tolerance: float = 4.0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score the tables of a results folder against labels; the scores are written there, too.

    Args:
        out: a results folder that `track` made.
        labels: folder of labelled clips, matched by content.
        split: only clips of this split of its `clips.csv`.
        space: measure distances at 512x288 ("model", as published) or in the video's pixels.
        tolerance: a hit is closer than this, px of `space`.
        on_progress: called with how many clips are scored, and how many there are.

    Raises:
        InputError: no clips, or none was tracked.
        LabelError: labels are broken.
    """
    from tracknet.jobs.evaluate import Protocol
    from tracknet.jobs.evaluate import evaluate as score
    from tracknet.pipeline.datasets import by_split, find_clips
    from tracknet.schemas.store import Store

    clips = find_clips(Path(labels))
    chosen = by_split(clips, split) if split else clips
    protocol = Protocol(tolerance, space)
    return score(Store(_place(out)), chosen, protocol, lambda done: on_progress(done, len(chosen)))


def render(
    video: AnyPath,
    tracks: AnyPath,
    out: AnyPath,
    *,
    tail: int = 12,
    max_height: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Draw the ball and its tail on a video, or its whole path on one picture.

    Args:
        video: a video that was tracked, wherever it lies now.
        tracks: the results folder.
        out: `.mp4`, `.mov` or `.mkv` for a video, `.png` for a picture of the whole path.
        tail: frames that the tail reaches back.
        max_height: shrink to this height, px.
        on_progress: called with how many frames are drawn, and how many there are.

    Returns:
        `out`.

    Raises:
        InputError: the folder holds no rows of this video, or `out` has another suffix.
        VideoError: the video cannot be read.
    """
    from tracknet.jobs.show import ball_rows, trajectory_of
    from tracknet.pipeline.pictures import render as drawing
    from tracknet.schemas.store import Store

    video, out = _place(video), Path(out)
    table = trajectory_of(Store(_place(tracks)), video)
    if out.suffix.lower() == ".png":
        drawing.snapshot(video, ball_rows(table), out, background="median", max_height=max_height)
    else:
        drawing.render(
            video,
            ball_rows(table),
            out,
            tail_frames=tail,
            max_height=max_height,
            on_progress=lambda done: on_progress(done, len(table)),
        )
    return out


def _place(path: AnyPath) -> Path:
    from tracknet.jobs.sources import source_path

    return source_path(fspath(path) if isinstance(path, PathLike) else path)


def _settings(settings: TrackSettings | None, options: dict[str, Any]) -> TrackSettings:
    from tracknet.jobs.settings import TrackSettings
    from tracknet.pipeline.errors import InputError

    if settings is not None and options:
        raise InputError(f"give settings or options by name ({', '.join(options)}), not both")
    return settings or TrackSettings.of(**options)
