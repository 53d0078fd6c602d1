"""Weights of your own: train."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tracknet.commands.cluster import run_on_cluster, weights_there
from tracknet.commands.options import address_option, as_json, clip_cache, labels_argument


@click.command()
@labels_argument
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the run: weights, state, record, curves.")  # fmt: skip
@click.option("--arch", default="v5", show_default=True, help="See `tracknet models`.")
@click.option("--model", multiple=True, metavar="KEY=VALUE",
              help="Option of the model, such as width=0.25 or attention=joint.")  # fmt: skip
@click.option("--recipe", type=click.Choice(["fast", "paper"]), default="fast", show_default=True)
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file whose values replace the recipe's.")  # fmt: skip
@click.option("--set", "values", multiple=True, metavar="KEY=VALUE",
              help="Replace one value of the recipe: lr=4e-4, batches.batch=32.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Budget in steps.")
@click.option("--epochs", type=click.IntRange(min=1), help="Budget in epochs.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Budget in minutes.")
@click.option("--full-frames", is_flag=True, help="Train on whole pictures, not on crops.")
@click.option("--init-from", metavar="NAME_OR_FILE",
              help="Start from the matching parameters of these weights; narrower ones are "
              "widened.")  # fmt: skip
@click.option("--split", type=click.Choice(["auto", "index", "match", "clip", "paper"]),
              default="auto", show_default=True,
              help="What is held out: as clips.csv says, whole matches, whole clips, or the "
              "paper's split, in which training and validation frames overlap.")  # fmt: skip
@click.option("--extra", multiple=True, metavar="ROOT",
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="More labelled clips, all for training, such as synthetic ones.")  # fmt: skip
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
              help="Folder of decoded clips.  [default: in the user's cache]")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True,
              help="Processes of Ray Train that share each batch, one per GPU.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Start over instead of resuming.")
@address_option
@as_json
def train(
    root: Path,
    out: Path,
    arch: str,
    cache: Path | None,
    device: str,
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
        start = options["init_from"]
        there = {"init_from": weights_there(start) if start else None}
        sys.exit(run_on_cluster(address, click.get_current_context(), **there))

    from tracknet.commands.console import print_training, progress
    from tracknet.commands.scores import plot_curves
    from tracknet.jobs.train import (
        TrainSettings,
        key_values,
        resolve_device,
        train_model,
        training_config,
    )
    from tracknet.pipeline.training import Report

    settings = TrainSettings(
        root=root,
        out=out,
        arch=arch,
        model=key_values(options["model"]),
        config=training_config(
            options["recipe"],
            options["config"],
            key_values(options["values"]),
            {name: options[name] for name in ("steps", "epochs", "minutes")},
            options["full_frames"],
            options["init_from"],
        ),
        split=options["split"],
        extra=options["extra"],
        cache=clip_cache(cache),
        device=resolve_device(device),
        processes=processes,
    )
    with progress("decoding") as report:

        def on_progress(row: Report, share: float) -> None:
            total = round(row.step / share) if share else row.step
            score = "" if row.f1 is None else f", F1 {row.f1:.4f}"
            skipped = f", {row.skipped} steps skipped (not finite)" if row.skipped else ""
            note = f"loss {row.loss:.6f}{score}, {row.images_per_second:.0f} images/s{skipped}"
            report(row.step, total, "steps", "training", note)

        result = train_model(
            settings,
            fresh=fresh,
            on_clip=lambda done, total: report(done, total, "clips"),
            on_progress=on_progress,
        )
    plot_curves(result.record, out / "curves.png")
    print_training(result, as_json)
