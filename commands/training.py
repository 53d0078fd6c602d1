"""Weights of your own: train, compare."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracknet.commands.cluster import run_on_cluster
from tracknet.commands.options import address_option, as_json, clip_cache, labels_argument, options

if TYPE_CHECKING:
    from tracknet.jobs.train import TrainSettings
    from tracknet.pipeline.training import Progress

training_options = options(
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
    click.option("--init-from", metavar="NAME_OR_FILE",
                 help="Weights whose matching parameters are the start; narrower ones are "
                 "widened."),
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


@click.command()
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
    tracknet train labelled/ --out runs/wide --init-from v5-nano --minutes 90
    """
    if address:
        from tracknet.pipeline.models.checkpoint import find_weights

        start = options["init_from"]
        there = {"init_from": find_weights(start) if start else None}
        sys.exit(run_on_cluster(address, click.get_current_context(), **there))
    from dataclasses import replace
    from importlib.util import find_spec

    from tracknet.commands.console import print_training, progress
    from tracknet.jobs.train import train_model
    from tracknet.pipeline.training.state import plot_curves

    settings = replace(_train_settings(root, out, arch, options), processes=processes)
    with progress("decoding") as report:
        result = train_model(
            settings,
            fresh=fresh,
            on_clip=lambda done, total: report(done, total, "clips"),
            on_progress=lambda step: _report_training(report, step, "training"),
        )
    if find_spec("matplotlib"):
        plot_curves(result.record, out / "curves.png")
    else:
        click.echo("no curves.png: pip install 'tracknet[train]'", err=True)
    print_training(result, as_json)


@click.command()
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
    from tracknet.commands.console import progress
    from tracknet.commands.scores import print_comparison
    from tracknet.jobs.compare import COMPARISONS, Variant
    from tracknet.jobs.compare import compare as run

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
    from tracknet.jobs.train import (
        TrainSettings,
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
        cache=clip_cache(options["cache"]),
        device=resolve_device(options["device"]),
    )


def _report_training(report: Callable[..., None], step: Progress, stage: str) -> None:
    row = step.report
    total = round(row.step / step.share_done) if step.share_done else row.step
    score = "" if row.f1 is None else f", F1 {row.f1:.4f}"
    note = f"loss {row.loss:.6f}{score}, {row.images_per_second:.0f} images/s"
    report(row.step, total, "steps", stage, note)
