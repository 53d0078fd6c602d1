"""From an archive to tables, and what to do with them: plan, track, inspect, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracknet.commands.cluster import absolute, run_on_cluster, weights_there
from tracknet.commands.options import (
    PARTIAL,
    Place,
    address_option,
    as_json,
    court_option,
    cutting_options,
    precision_option,
    results_argument,
    runtime_option,
)

if TYPE_CHECKING:
    from tracknet.jobs.settings import TrackSettings
    from tracknet.jobs.track import TrackProgress, TrackReport


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@cutting_options
@as_json
def plan(
    inputs: tuple[str, ...],
    weights: str,
    stride: int | None,
    shard_seconds: float,
    as_json: bool,
) -> None:
    """Say what `track` would do with the same inputs; nothing is decoded.

    INPUT is a video, a folder, a glob, or a manifest (*.txt, *.lst), or the URL of one (s3://,
    gs://).  Folders are searched below, following links, for names like those of videos (.mp4 .mkv
    .mov .avi .ts .webm .h264 .hevc .gif ...), except those that begin with a dot; a folder of
    pictures is one clip.  A manifest is UTF-8 text with one INPUT per line, relative to it; a line
    that begins with # is a comment.

    \b
    tracknet plan matches/ 'more/**/*.mp4'
    tracknet plan archive.txt --shard-seconds 60 --json
    """
    from tracknet.commands.console import print_plan, progress
    from tracknet.jobs.plan import make_plan
    from tracknet.jobs.sources import find_sources
    from tracknet.pipeline.decoding.decoder import DecoderLimits
    from tracknet.pipeline.runtimes.prepared import prepare
    from tracknet.pipeline.tracking.engine import DetectorSettings

    sources = find_sources(inputs)
    spec = prepare(weights).spec
    used_stride = DetectorSettings(stride=stride or 0).stride_for(spec)
    with progress("probing") as report:
        found = make_plan(
            sources,
            spec,
            used_stride,
            shard_seconds,
            DecoderLimits(),
            on_progress=lambda done: report(done, len(sources), "videos"),
        )
    print_plan(found, as_json)
    if found.unreadable:
        sys.exit(PARTIAL)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--out",
    required=True,
    type=Place(file_okay=False),
    help="Folder for the tables, or its URL; made if it is not there.",
)
@cutting_options
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the model runs; auto takes GPUs where there are any.",
)
@runtime_option
@precision_option
@click.option(
    "--batch",
    type=click.IntRange(min=0),
    default=0,
    help="Windows that the model computes at once; 0 chooses by the device.  [default: 0]",
)
@click.option(
    "--peak",
    type=click.Choice(["centroid", "contour"]),
    default="centroid",
    show_default=True,
    help="How a heatmap becomes a point: sub-pixel centroid, or the contour of published figures.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Probability that a ball must exceed.",
)
@click.option(
    "--skip-repeats/--keep-repeats",
    default=True,
    show_default=True,
    help="Skip frames that repeat the previous picture; they copy its result.",
)
@click.option(
    "--link/--no-link",
    default=True,
    show_default=True,
    help="Link candidates over time; without, the strongest peak of each frame is taken, as in "
    "published results.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    help="Decode workers; 0 takes all cores but one.  [default: 0]",
)
@click.option(
    "--deadline",
    default="",
    metavar="TIME",
    help="Stop then, with exit code 4; run again to go on. As 06:00 (the next, local time where "
    "the run is), or 2026-05-02T06:00.",
)
@click.option(
    "--max-failures",
    default="",
    metavar="N|N%",
    help="Stop, with exit code 4, when more sources than this have trouble.",
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Make all results in OUT again; the old ones stay until the new ones are complete.",
)
@click.option("--retry", is_flag=True, help="Try quarantined videos again.")
@click.option(
    "--take-lock",
    is_flag=True,
    help="Write to OUT although a run on another machine seems to; give it if that run is dead.",
)
@court_option
@address_option
@as_json
def track(
    inputs: tuple[str, ...],
    out: Path,
    stride: int | None,
    fresh: bool,
    retry: bool,
    take_lock: bool,
    court: Path | None,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the ball in every frame and write Parquet tables.

    Run the same command again to resume: only what is missing is done, whatever happened.
    INPUT is a video, a folder, a glob or a manifest, as in `plan`.

    \b
    tracknet track matches/ --out tables/
    tracknet track final.mp4 --out tables/ --peak contour --no-link --keep-repeats
    tracknet track matches/ --out tables/ --runtime openvino --precision bf16
    tracknet track matches/ --out tables/ --deadline 06:00 --max-failures 5%
    tracknet track matches/ --out tables/ --court court.json
    tracknet track /mnt/archive --out /mnt/tables --address http://head:8265
    tracknet track s3://archive/2026/ --out s3://tables/2026
    """
    from tracknet.commands.console import print_report
    from tracknet.jobs.settings import TrackSettings

    settings = TrackSettings.of(stride=stride or 0, retry_quarantined=retry, **options)
    if address:
        there = {
            "inputs": tuple(map(absolute, inputs)),
            "weights": weights_there(settings.weights),
        }
        sys.exit(run_on_cluster(address, click.get_current_context(), **there))
    report = track_here(inputs, out, settings, fresh, take_lock, court)
    print_report(report, out, as_json)
    if report.failed:
        sys.exit(1)
    if report.quarantined:
        sys.exit(PARTIAL)


@click.command()
@results_argument
@click.option("--all", "show_all", is_flag=True, help="List every video, not the first 40.")
@click.option("--deep", is_flag=True, help="Read all rows and compare checksums, not only sizes.")
@as_json
def inspect(out: Path, show_all: bool, deep: bool, as_json: bool) -> None:
    """Show what is in a folder of tables: videos, coverage, detection rate, problems, damage.

    \b
    tracknet inspect tables/
    tracknet inspect tables/ --deep
    tracknet inspect tables/ --json | jq .totals
    """
    from tracknet.commands.console import print_inventory
    from tracknet.schemas.store import Store

    if not print_inventory(Store(out), show_all, as_json, deep):
        sys.exit(PARTIAL)


@click.command()
@results_argument
@click.option("--watch", is_flag=True, help="Print it again every few seconds while it runs.")
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(min=0.1),
              help="Seconds between two looks, with --watch.")  # fmt: skip
@as_json
def status(out: Path, watch: bool, every: float, as_json: bool) -> None:
    """Show how far a run is, from any machine that can read the folder OUT.

    The exit code is 1 where the last run failed, was interrupted, or died.

    \b
    tracknet status tables/
    tracknet status tables/ --watch
    """
    import time

    from tracknet.commands.console import print_status
    from tracknet.jobs.status import read_status
    from tracknet.schemas.store import Store

    found = read_status(Store(out))
    print_status(found, as_json)
    while watch and found.state == "running":
        time.sleep(every)
        found = read_status(Store(out))
        print_status(found, as_json)
    if found.state in ("failed", "interrupted", "dead"):
        sys.exit(1)


@click.command()
@click.argument("video", type=Place(exists=True, dir_okay=False))
@click.option("--tracks", required=True, type=Place(exists=True, file_okay=False),
              help="Folder of tables that `track` made.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Video to write (.mp4), or a picture of the whole path (.png).")  # fmt: skip
@click.option("--tail", default=12, show_default=True, type=click.IntRange(min=0),
              help="Frames that the ball's tail reaches back.")  # fmt: skip
@click.option("--max-height", type=click.IntRange(min=2), help="Shrink to this height.")
def render(video: Path, tracks: Path, out: Path, tail: int, max_height: int | None) -> None:
    """Draw the ball and its tail on a video, or its whole path on one picture.

    \b
    tracknet render final.mp4 --tracks tables/ --out ball.mp4
    tracknet render final.mp4 --tracks tables/ --out path.png
    """
    import tracknet
    from tracknet.commands.console import progress

    with progress("rendering") as report:
        tracknet.render(
            video, tracks, out, tail=tail, max_height=max_height,
            on_progress=lambda done, total: report(done, total, "frames"),
        )  # fmt: skip
    click.echo(str(out))


def track_here(
    inputs: tuple[str, ...],
    out: Path,
    settings: TrackSettings,
    fresh: bool,
    take_lock: bool = False,
    court: Path | None = None,
) -> TrackReport:
    import tracknet
    from tracknet.commands.console import progress

    name_what_is_faster(settings)
    with progress("tracking") as report:

        def on_progress(step: TrackProgress) -> None:
            unit = "videos" if step.stage == "probe" else "frames"
            videos = f"{step.videos}/{step.videos_total} videos"
            report(step.done, step.total, unit, step.stage, videos)

        return tracknet.track(
            inputs,
            out,
            settings,
            fresh=fresh,
            take_lock=take_lock,
            court=court,
            on_progress=on_progress,
        )


def name_what_is_faster(settings: TrackSettings) -> None:
    """Say that OpenVINO is missing before a night is spent in PyTorch."""
    from tracknet.jobs.cluster import count_gpus
    from tracknet.pipeline.runtimes.choice import openvino_available

    if settings.runtime != "auto" or settings.device == "cuda" or openvino_available():
        return
    if settings.device == "cpu" or not count_gpus():
        click.echo(
            "PyTorch computes the model; on a CPU OpenVINO is faster, often several times: "
            "pip install 'tracknet[openvino]'",
            err=True,
        )
