"""Labelled clips and scores: clips, evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from tracknet.commands.options import (
    PARTIAL,
    as_json,
    labels_argument,
    results_argument,
    split_option,
)


@click.command()
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
    from tracknet.commands.scores import clip_rows, print_clips
    from tracknet.pipeline.datasets import by_split, find_clips

    found = find_clips(root)
    chosen = by_split(found, split) if split else found
    if paths:
        click.echo("\n".join(str(clip.source) for clip in chosen))
    else:
        print_clips(clip_rows(chosen), as_json)


@click.command()
@results_argument
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
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path),
              help="Write the worst frames there, up to 5 of each kind of error.")  # fmt: skip
@as_json
def evaluate(
    out: Path,
    root: Path,
    split: str | None,
    space: Literal["model", "source"],
    tolerance: float,
    picture: Path | None,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Score the tables in OUT against labels; write the tables eval_* there.

    Clips are matched by content.  Labelled clips that were not tracked are named, exit code 3.

    \b
    tracknet evaluate tables/ --labels labelled/ --split test
    tracknet evaluate tables/ --labels labelled/ --pictures worst/
    tracknet evaluate tables/ --labels labelled/ --space source --tolerance 10 --picture scores.png
    """
    import tracknet
    from tracknet.commands.console import progress
    from tracknet.commands.scores import plot_evaluation, print_evaluation

    with progress("scoring") as report:
        scores = tracknet.evaluate(
            out, root, split=split, space=space, tolerance=tolerance,
            on_progress=lambda done, total: report(done, total, "clips"),
        )  # fmt: skip
    print_evaluation(scores, as_json)
    if picture:
        plot_evaluation(scores, picture)
    if pictures:
        from tracknet.jobs.worst import write_pictures
        from tracknet.schemas.store import Store

        write_pictures(Store(out), scores, pictures)
    for clip in scores.missing:
        click.echo(f"not tracked: {clip} ({clip.source})", err=True)
    if scores.missing:
        sys.exit(PARTIAL)
