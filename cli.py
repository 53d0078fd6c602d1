"""The command line: parse, build a config, call one function, print.

Heavy imports stand inside the commands, so that `--help` answers at once.  Results go to standard
output, progress and messages to standard error.

    exit code 0   all done
    exit code 1   failed
    exit code 2   wrong usage
    exit code 3   done, but some videos could not be read whole; they are named last
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jobs.settings import TrackSettings
    from jobs.track import TrackProgress, TrackReport
    from jobs.train import TrainSettings
    from pipeline.training import Progress

PARTIAL = 3
DEFAULT_WEIGHTS = "preview"

Command = Callable[..., Any]


def _options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
cutting_options = _options(
    click.option(
        "--weights",
        default=DEFAULT_WEIGHTS,
        show_default=True,
        help="Name of shipped weights, or a .safetensors file.",
    ),
    click.option(
        "--stride",
        type=click.IntRange(min=1),
        help="Frames between windows: 3 sees each frame once (V5's default), 1 up to three times "
        "and averages.",
    ),
    click.option(
        "--shard-seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=20.0,
        show_default=True,
        help="Least length of the pieces that a video is decoded in. Changes no result.",
    ),
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "torch-bf16", "torch-fp16", "openvino", "openvino-int8"]),
    default="auto",
    show_default=True,
    help="What computes the model; auto: OpenVINO on a CPU that has it, half precision on a GPU. "
    "openvino-int8 wants `tracknet weights quantize` first.",
)
address_option = click.option(
    "--address", help="Job server of a Ray cluster, such as http://head:8265.", metavar="URL"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tracknet")
def cli() -> None:
    """Find the ball in every frame of every video of an archive.

    \b
    tracknet demo                                  # see it work, on a rally it makes itself
    tracknet track matches/ --out tables/          # the overnight run; run it again to resume
    tracknet inspect tables/                       # what came out
    tracknet render final.mp4 --tracks tables/ --out ball.mp4
    """


@cli.command()
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

    INPUT is a video, a folder (searched recursively; a folder of pictures is one clip), a glob, or
    a manifest (*.txt, one path per line).

    \b
    tracknet plan matches/ 'more/**/*.mp4'
    tracknet plan archive.txt --shard-seconds 60 --json
    """
    from jobs.console import print_plan, progress
    from jobs.plan import make_plan
    from jobs.sources import find_sources
    from pipeline.checkpoint import load_model
    from pipeline.decoder import DecoderLimits
    from pipeline.engine import DetectorSettings
    from pipeline.runtime import window_spec

    sources = find_sources(inputs)
    spec = window_spec(load_model(weights))
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


@cli.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the tables; made if it is not there.",
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
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    help="Decode workers; 0 takes all cores but one.  [default: 0]",
)
@click.option("--fresh", is_flag=True, help="Delete what is in OUT and start again.")
@click.option("--retry", is_flag=True, help="Try quarantined videos again.")
@address_option
@as_json
def track(
    inputs: tuple[str, ...],
    out: Path,
    weights: str,
    device: str,
    runtime: str,
    batch: int,
    stride: int | None,
    peak: str,
    threshold: float,
    shard_seconds: float,
    workers: int,
    fresh: bool,
    retry: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Find the ball in every frame and write Parquet tables.

    Run the same command again to resume: only what is missing is done, whatever happened.
    INPUT is a video, a folder, a glob or a manifest, as in `plan`.

    \b
    tracknet track matches/ --out tables/
    tracknet track final.mp4 --out tables/ --stride 1 --peak contour
    tracknet track matches/ --out tables/ --runtime openvino-int8
    tracknet track /mnt/archive --out /mnt/tables --address http://head:8265
    """
    from jobs.console import print_report
    from jobs.settings import TrackSettings
    from pipeline.engine import DetectorSettings

    settings = TrackSettings(
        weights=weights,
        detector=DetectorSettings(stride=stride or 0, peak=peak, threshold=threshold),  # type: ignore[arg-type]
        device=device,
        runtime=runtime,
        batch=batch,
        shard_seconds=shard_seconds,
        workers=workers,
        retry_quarantined=retry,
    )
    if address:
        from pipeline.checkpoint import find_weights

        there = {
            "inputs": tuple(os.path.abspath(text) for text in inputs),  # noqa: PTH100 - or a glob
            "weights": find_weights(weights),
        }
        sys.exit(_run_on_cluster(address, click.get_current_context(), **there))
    report = _track_here(inputs, out, settings, fresh)
    print_report(report, out, as_json)
    if report.quarantined:
        sys.exit(PARTIAL)


@cli.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--all", "show_all", is_flag=True, help="List every video, not the first 40.")
@as_json
def inspect(out: Path, show_all: bool, as_json: bool) -> None:
    """Show what is in a folder of tables: videos, coverage, detection rate, problems.

    \b
    tracknet inspect tables/
    tracknet inspect tables/ --json | jq .totals
    """
    from jobs.console import print_inventory
    from schemas.store import Store

    print_inventory(Store(out), show_all, as_json)


@cli.command()
@click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tracks", required=True, type=click.Path(exists=True, file_okay=False,
              path_type=Path), help="Folder of tables that `track` made.")  # fmt: skip
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
    from jobs.console import progress
    from jobs.show import ball_rows, trajectory_of
    from pipeline import render as drawing
    from schemas.store import Store

    table = trajectory_of(Store(tracks), video)
    if out.suffix.lower() == ".png":
        drawing.snapshot(video, ball_rows(table), out, background="median", max_height=max_height)
    else:
        with progress("rendering") as report:
            drawing.render(
                video,
                ball_rows(table),
                out,
                tail_frames=tail,
                max_height=max_height,
                on_progress=lambda done: report(done, len(table), "frames"),
            )
    click.echo(str(out))


@cli.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder to write the clips and labels to.")  # fmt: skip
@click.option("--clips", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--sport", default="mixed", show_default=True,
              type=click.Choice(["mixed", "tennis", "badminton", "padel"]))  # fmt: skip
def synth(out: Path, clips: int, seed: int, sport: str) -> None:
    """Make rallies with exact labels, in the TrackNetV2 layout (video/, csv/).

    \b
    tracknet synth --out rallies/ --clips 20 --seed 7
    """
    from jobs.console import progress
    from pipeline.synth import SynthConfig, write_dataset

    with progress("drawing rallies") as report:
        paths = write_dataset(
            out, clips, seed, SynthConfig(sport=sport), lambda d, n: report(d, n, "clips")
        )
    click.echo("\n".join(str(path) for path in paths))


@cli.command()
@click.option("--out", default=Path("demo"), show_default=True,
              type=click.Path(file_okay=False, path_type=Path))  # fmt: skip
@click.option("--weights", default=DEFAULT_WEIGHTS, show_default=True)
@click.option("--seed", default=2026, show_default=True, type=click.IntRange(min=0))
@runtime_option
def demo(out: Path, weights: str, seed: int, runtime: str) -> None:
    """Make a rally, track it on an embedded Ray, and show the result: tables, picture, video.

    \b
    tracknet demo --out demo/
    """
    from jobs.console import print_inventory, print_report, progress
    from jobs.settings import TrackSettings
    from jobs.show import ball_rows, trajectory_of
    from pipeline import render as drawing
    from pipeline.synth import SynthConfig, write_dataset
    from schemas.store import Store

    with progress("drawing a rally") as report:
        (rally,) = write_dataset(
            out / "rallies", 1, seed, SynthConfig(sport="tennis", frames=(150, 150)),
            lambda d, n: report(d, n, "clips"),
        )  # fmt: skip
    tables = out / "tables"
    settings = TrackSettings(weights=weights, runtime=runtime)
    result = _track_here((str(rally),), tables, settings, fresh=True)
    print_report(result, tables, as_json=False)
    print_inventory(Store(tables), show_all=True, as_json=False)
    table = trajectory_of(Store(tables), rally)
    drawing.render(rally, ball_rows(table), out / "rally.mp4")
    drawing.snapshot(rally, ball_rows(table), out / "rally.png", background="median")
    click.echo(f"tables    {tables}/trajectories/*.parquet")
    click.echo(f"video     {out / 'rally.mp4'}")
    click.echo(f"picture   {out / 'rally.png'}")


labels_argument = click.argument(
    "root", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
split_option = click.option(
    "--split", help="Only clips of this split of ROOT's clips.csv: train, val or test."
)


@cli.command()
@labels_argument
@split_option
@click.option("--paths", is_flag=True, help="Print paths only: a manifest for `track`.")
@as_json
def clips(root: Path, split: str | None, paths: bool, as_json: bool) -> None:
    """List the labelled clips under ROOT and check their labels.

    \b
    tracknet clips labelled/
    tracknet clips labelled/ --split test --paths > test.txt
    """
    from jobs.scores import clip_rows, print_clips
    from pipeline.datasets import by_split, find_clips

    found = find_clips(root)
    chosen = by_split(found, split) if split else found
    if paths:
        click.echo("\n".join(str(clip.source) for clip in chosen))
    else:
        print_clips(clip_rows(chosen), as_json)


@cli.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--labels", "root", required=True,
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of labelled clips, as in `clips`.")  # fmt: skip
@split_option
@click.option("--space", type=click.Choice(["model", "source"]), default="model",
              show_default=True, help="Pixels at 512x288, or of the video.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(min=0, min_open=True), default=4.0,
              show_default=True, help="A hit is closer than this, in px of --space.")  # fmt: skip
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path),
              help="Draw the figures, too (.png, .svg, .pdf).")  # fmt: skip
@as_json
def evaluate(
    out: Path,
    root: Path,
    split: str | None,
    space: str,
    tolerance: float,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Score the tables in OUT against labels; write eval_frames and eval_metrics there.

    Clips are matched by content.  Labelled clips that were not tracked are named, exit code 3.

    \b
    tracknet evaluate tables/ --labels labelled/ --split test
    tracknet evaluate tables/ --labels labelled/ --space source --tolerance 10 --picture scores.png
    """
    from jobs.console import progress
    from jobs.evaluate import Protocol
    from jobs.evaluate import evaluate as run
    from jobs.scores import plot_evaluation, print_evaluation
    from pipeline.datasets import by_split, find_clips
    from schemas.store import Store

    found = find_clips(root)
    chosen = by_split(found, split) if split else found
    with progress("scoring") as report:
        scores = run(
            Store(out),
            chosen,
            Protocol(tolerance, space),  # type: ignore[arg-type]
            lambda done: report(done, len(chosen), "clips"),
        )
    print_evaluation(scores, as_json)
    if picture:
        plot_evaluation(scores, picture)
    for clip in scores.missing:
        click.echo(f"not tracked: {clip} ({clip.source})", err=True)
    if scores.missing:
        sys.exit(PARTIAL)


training_options = _options(
    click.option("--model", multiple=True, metavar="KEY=VALUE",
                 help="Option of the model, such as width=0.25 or attention=joint."),
    click.option("--recipe", type=click.Choice(["fast", "paper"]), default="fast",
                 show_default=True),
    click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="TOML file whose values replace the recipe's."),
    click.option("--set", "values", multiple=True, metavar="KEY=VALUE",
                 help="Replace one value of the recipe: lr=4e-4, batches.batch=32."),
    click.option("--steps", type=click.IntRange(min=1), help="Budget in steps."),
    click.option("--epochs", type=click.IntRange(min=1), help="Budget in epochs."),
    click.option("--minutes", type=click.FloatRange(min=0, min_open=True),
                 help="Budget in minutes."),
    click.option("--full-frames", is_flag=True, help="Train on whole pictures, not on crops."),
    click.option("--init-from", help="Weights whose matching parameters are the start."),
    click.option("--split", type=click.Choice(["auto", "index", "match", "clip", "paper"]),
                 default="auto", show_default=True,
                 help="What is held out: as clips.csv says, whole matches, whole clips, or the "
                 "paper's cut, which leaks."),
    click.option("--extra", multiple=True, metavar="ROOT",
                 type=click.Path(exists=True, file_okay=False, path_type=Path),
                 help="More labelled clips, all for training; synthetic ones, say."),
    click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
                 help="Folder of decoded clips.  [default: in the user's cache]"),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
                 show_default=True),
)  # fmt: skip


@cli.command()
@labels_argument
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the run: weights, state, record, curves.")  # fmt: skip
@click.option("--arch", default="v5", show_default=True, help="See `tracknet models`.")
@training_options
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True,
              help="Processes of Ray Train that share each batch, one per GPU.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Start over instead of resuming.")
@address_option
@as_json
def train(
    root: Path,
    out: Path,
    arch: str,
    processes: int,
    fresh: bool,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model on the labelled clips under ROOT; run again to resume.

    The recipe `paper` is the paper's (30 epochs of full frames), `fast` is ours.  What is held out
    is never trained on; the best weights on it are RUN/best.safetensors.

    \b
    tracknet train labelled/ --out runs/v5 --set batches.batch=32 --steps 20000
    tracknet train labelled/ --out runs/paper --recipe paper --split paper
    tracknet train labelled/ --out runs/nano --arch v2_mdd --model width=0.25 --minutes 60
    """
    if address:
        sys.exit(_run_on_cluster(address, click.get_current_context()))
    from dataclasses import replace

    from jobs.console import print_training, progress
    from jobs.train import train_model
    from pipeline.training.state import plot_curves

    settings = replace(_train_settings(root, out, arch, options), processes=processes)
    with progress("decoding") as report:
        result = train_model(
            settings,
            fresh=fresh,
            on_clip=lambda done, total: report(done, total, "clips"),
            on_progress=lambda step: _report_training(report, step, "training"),
        )
    plot_curves(result.record, out / "curves.png")
    print_training(result, as_json)


@cli.command()
@labels_argument
@click.argument("what", type=click.Choice(["models", "paste"]))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the runs.")  # fmt: skip
@training_options
@as_json
def compare(root: Path, what: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train variants with the same data and budget, and score them on the test clips.

    `models` are the systems of the paper's tables 1 and 4, `paste` shows what pasted balls are
    worth.  Run again to go on where it was.

    \b
    tracknet compare labelled/ models --out runs/compare --model width=0.125 --steps 2000
    """
    from jobs.compare import COMPARISONS, Variant
    from jobs.compare import compare as run
    from jobs.console import progress
    from jobs.scores import print_comparison

    variants = COMPARISONS[what]
    stage = what

    def on_variant(number: int, variant: Variant) -> None:
        nonlocal stage
        stage = f"{number}/{len(variants)} {variant.name}"

    with progress("decoding") as report:
        lines = run(
            variants,
            _train_settings(root, out, "", options),
            on_variant,
            lambda step: _report_training(report, step, stage),
        )
    print_comparison(lines, as_json)


def _train_settings(root: Path, out: Path, arch: str, options: dict[str, Any]) -> TrainSettings:
    from jobs.train import (
        TrainSettings,
        clip_cache,
        key_values,
        resolve_device,
        training_config,
    )

    budget = {name: options[name] for name in ("steps", "epochs", "minutes")}
    return TrainSettings(
        root=root,
        out=out,
        arch=arch,
        model=key_values(options["model"]),
        config=training_config(
            options["recipe"],
            options["config"],
            key_values(options["values"]),
            budget,
            options["full_frames"],
            options["init_from"],
        ),
        split=options["split"],
        extra=options["extra"],
        cache=options["cache"] or clip_cache(),
        device=resolve_device(options["device"]),
    )


def _report_training(report: Callable[..., None], step: Progress, stage: str) -> None:
    row = step.report
    total = round(row.step / step.share_done) if step.share_done else row.step
    score = "" if row.f1 is None else f", F1 {row.f1:.4f}"
    note = f"loss {row.loss:.6f}{score}, {row.images_per_second:.0f} images/s"
    report(row.step, total, "steps", stage, note)


@cli.command()
@click.option("--weights", default="", help="Name of shipped weights, or a .safetensors file; "
              "without, random weights of --arch, which run as fast.")  # fmt: skip
@click.option("--arch", default="v5", show_default=True, help="See `tracknet models`.")
@click.option("--width", default=1.0, show_default=True, help="Of --arch: its share of channels.")
@click.option("--runtime", "runtimes", multiple=True, default=("auto",), show_default=True,
              type=click.Choice(["auto", "torch", "torch-bf16", "torch-fp16", "openvino",
                                 "openvino-int8"]),
              help="Again for more: models are timed in each, the whole in the first.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=0), default=0, help="Windows at once; 0: auto.")
@click.option("--decoder", type=click.Choice(["decord", "pyav"]), default="decord",
              show_default=True)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=0), default=0, help="As in `track`.")
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Measure on this instead of a drawn 720p rally.")  # fmt: skip
@click.option("--frames", default=300, show_default=True, type=click.IntRange(min=9),
              help="Length of the drawn rally.")  # fmt: skip
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--scaling", is_flag=True,
              help="Also archives of many clips and long videos; takes hours.")  # fmt: skip
@click.option("--clips", default="1,10,100", show_default=True, help="Sizes for --scaling.")
@click.option("--minutes", default="1,10,40", show_default=True, help="Lengths for --scaling.")
@as_json
def benchmark(
    scaling: bool,
    clips: str,
    minutes: str,
    decoder: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure every stage, the whole, the reference loop and the limits, side by side.

    Nothing else should run on the machine meanwhile.

    \b
    tracknet benchmark --runtime openvino-int8 --runtime openvino --runtime torch
    tracknet benchmark --width 0.25 --frames 900 --json
    tracknet benchmark --weights preview --scaling --clips 1,10 --minutes 1,10
    """
    from jobs.benchmark import BenchmarkSettings
    from jobs.benchmark import benchmark as run
    from jobs.console import print_benchmark

    if scaling:
        settings |= {"clips": _numbers(clips, int), "minutes": _numbers(minutes, float)}
    found = run(
        BenchmarkSettings(library=decoder, **settings),
        lambda step: click.echo(f"measuring: {step}", err=True),
    )
    print_benchmark(found, as_json)


def _numbers(text: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers") from error


@cli.command()
@as_json
def models(as_json: bool) -> None:
    """List every model: parameters, multiply-accumulates, input, output, source.

    \b
    tracknet models
    tracknet models --json
    """
    from jobs.console import print_models
    from pipeline.complexity import model_cards

    print_models(model_cards(), as_json)


@cli.group()
def weights() -> None:
    """Convert, quantize, check and describe weights files."""


@weights.command()
@click.argument("src", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--arch", required=True, help="v2, v4, v5, v2_rstr, v3 or inpaintnet.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="The .safetensors file to write.")  # fmt: skip
def convert(src: Path, arch: str, out: Path) -> None:
    """Turn a released checkpoint (.pt, .pth) into a weights file, without executing its code.

    \b
    tracknet weights convert TrackNetV5.pth --arch v5 --out v5.safetensors
    """
    from pipeline.convert import convert as convert_weights

    info = convert_weights(src, arch, out)
    click.echo(f"{out}: {info.arch}, {info.parameters / 1e6:.2f} M parameters, {info.hash[:16]}")


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
def show(file: str) -> None:
    """Show what a weights file says of itself: config, hash, training record, metrics.

    \b
    tracknet weights show preview
    """
    from dataclasses import asdict

    from pipeline.checkpoint import describe

    click.echo(json.dumps(asdict(describe(file)), indent=1))


clips_option = _options(
    click.option("--data", "root", required=True,
                 type=click.Path(exists=True, file_okay=False, path_type=Path),
                 help="Folder of labelled clips, as in `clips`."),
    click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
                 help="Folder of decoded clips.  [default: in the user's cache]"),
)  # fmt: skip


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
@clips_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="The .int8.xml file to write.  [default: in the user's cache; `track` "
              "looks there and beside the weights]")  # fmt: skip
@click.option("--windows", default=300, show_default=True, type=click.IntRange(min=1),
              help="Windows to calibrate with.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def quantize(
    file: str, root: Path, cache: Path | None, out: Path | None, windows: int, seed: int
) -> None:
    """Make the INT8 network for `--runtime openvino-int8`, calibrated on the training clips.

    Check it with `tracknet weights check` before it is used.

    \b
    tracknet weights quantize v5.safetensors --data labelled/
    """
    from jobs.console import progress
    from jobs.quality import ClipSource, make_quantized
    from jobs.train import clip_cache

    with progress("decoding") as report:
        source = ClipSource(
            root, "train", cache or clip_cache(), lambda done, n: report(done, n, "clips")
        )
        path = make_quantized(file, source, windows, seed, out)
    click.echo(str(path))


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
@clips_option
@click.option("--runtime", "runtimes", multiple=True,
              type=click.Choice(["torch-bf16", "torch-fp16", "openvino", "openvino-int8"]),
              help="What to check; again for more.  [default: OpenVINO's]")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Clips of this split, if any is.")
@click.option("--frames", default=0, type=click.IntRange(min=0),
              help="About so many, from the middles of the clips; 0: all.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@as_json
def check(
    file: str,
    root: Path,
    cache: Path | None,
    runtimes: tuple[str, ...],
    split: str,
    frames: int,
    device: str,
    as_json: bool,
) -> None:
    """Is a fast runtime as good as PyTorch in float32?  On labelled clips; exit code 1 if not.

    F1 may differ by 0.2 points, and 99.5 % of the frames must have the same outcome.

    \b
    tracknet weights check v5.safetensors --data labelled/ --runtime openvino-int8
    tracknet weights check preview --data labelled/ --frames 500
    """
    from jobs.console import print_verdicts, progress
    from jobs.quality import ClipSource
    from jobs.quality import check as run
    from jobs.train import clip_cache

    with progress("checking") as report:
        source = ClipSource(
            root, split, cache or clip_cache(), lambda done, n: report(done, n, "clips")
        )
        verdicts = run(file, source, runtimes, frames, device)
    print_verdicts(verdicts, as_json)
    if not all(verdict.passed for verdict in verdicts.values()):
        sys.exit(1)


@cli.group()
def jobs() -> None:
    """Look after runs on a Ray cluster."""


required_address = click.option(
    "--address", required=True, help="Job server, such as http://head:8265.", metavar="URL"
)


@jobs.command("list")
@required_address
@as_json
def list_jobs(address: str, as_json: bool) -> None:
    """List the cluster's tracknet jobs, newest first.

    \b
    tracknet jobs list --address http://head:8265
    """
    from dataclasses import asdict

    from jobs.console import print_table

    found = _cluster(address).jobs()
    if as_json:
        click.echo(json.dumps([asdict(job) for job in found], indent=1))
    else:
        print_table(
            ("job", "status", "command"),
            [(job.job_id, job.status, job.entrypoint) for job in found],
        )


@jobs.command()
@click.argument("job_id")
@required_address
def status(job_id: str, address: str) -> None:
    """Print a job's status and the cluster's message.

    \b
    tracknet jobs status raysubmit_x --address http://head:8265
    """
    state = _cluster(address).state(job_id)
    click.echo(f"{state.status}  {state.message}".strip())


@jobs.command()
@click.argument("job_id")
@required_address
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
def logs(job_id: str, address: str, follow: bool) -> None:
    """Print what a job has printed.

    \b
    tracknet jobs logs raysubmit_x --address http://head:8265 --follow
    """
    cluster = _cluster(address)
    for piece in cluster.follow(job_id) if follow else [cluster.logs(job_id)]:
        click.echo(piece, nl=False)


@jobs.command()
@click.argument("job_id")
@required_address
def stop(job_id: str, address: str) -> None:
    """Stop a job; the same `track` resumes it later.

    \b
    tracknet jobs stop raysubmit_x --address http://head:8265
    """
    click.echo(_cluster(address).stop(job_id).status)


def _cluster(address: str) -> Any:
    from jobs.submit import Cluster

    cluster = Cluster(address)
    click.echo(f"cluster {cluster.address}", err=True)
    return cluster


def _track_here(
    inputs: tuple[str, ...], out: Path, settings: TrackSettings, fresh: bool
) -> TrackReport:
    from jobs.console import progress
    from jobs.sources import find_sources
    from jobs.track import track as run

    sources = find_sources(inputs)
    with progress("tracking") as report:

        def on_progress(step: TrackProgress) -> None:
            unit = "videos" if step.stage == "probe" else "frames"
            videos = f"{step.videos}/{step.videos_total} videos"
            report(step.done, step.total, unit, step.stage, videos)

        return run(sources, out, settings, fresh, on_progress)


def _run_on_cluster(address: str, context: click.Context, **absolute: Any) -> int:
    """Run the command that was given here on a cluster, show its log, return its exit code.

    Args:
        address: of the job server.
        context: of the command.
        absolute: parameters that mean something else there, replaced.
    """
    from jobs.submit import exit_code

    cluster = _cluster(address)
    job_id = cluster.submit(_arguments(context, absolute))
    click.echo(f"job {job_id}", err=True)
    try:
        for piece in cluster.follow(job_id):
            click.echo(piece, nl=False)
    except KeyboardInterrupt:
        click.echo(
            f"\nThe job goes on. Stop it with: tracknet jobs stop {job_id} "
            f"--address {cluster.address}",
            err=True,
        )
        return 1
    state = cluster.state(job_id)
    click.echo(f"job {job_id} {state.status}", err=True)
    return exit_code(state)


def _arguments(context: click.Context, replaced: dict[str, Any]) -> list[str]:
    """The command line of a command, without its address; paths are absolute."""
    arguments, options = [], []
    for parameter in context.command.params:
        given = {**context.params, **replaced}.get(str(parameter.name))
        if parameter.name == "address" or given is None:
            continue
        values = given if isinstance(given, tuple) else (given,)
        texts = [str(v.absolute()) if isinstance(v, Path) else str(v) for v in values]
        if isinstance(parameter, click.Argument):
            arguments += texts
        elif given is True:
            options.append(parameter.opts[0])
        elif given is not False:
            options += [word for text in texts for word in (parameter.opts[0], text)]
    return [str(context.info_name), *options, "--", *arguments]


def main() -> None:
    """Entry point: errors that were raised on purpose become one line and an exit code."""
    from pipeline.errors import InputError, TrackNetError
    from schemas.errors import StoreError

    try:
        cli()
    except (TrackNetError, StoreError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)


if __name__ == "__main__":
    main()
