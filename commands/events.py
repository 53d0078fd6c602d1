"""Hits and bounces: found in results, and a network for them trained and scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracknet.commands.options import as_json, court_option, options

if TYPE_CHECKING:
    from tracknet.pipeline.events.labels import LabelledPath

data_options = options(
    click.argument("data", nargs=-1, required=True,
                   type=click.Path(exists=True, path_type=Path)),
    click.option("--split", "splits", multiple=True,
                 help="Only clips of this split of a folder's clips.csv; may be given twice."),
    click.option("--hits", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="CSV `clip,frame` with the hits of the clips of a folder.  [default: those "
                 "of badminton clips that come with the package]"),
    click.option("--steps", type=click.IntRange(min=1), default=1500, show_default=True,
                 help="Training steps."),
    click.option("--seed", default=0, show_default=True),
)  # fmt: skip


@click.group()
def events() -> None:
    """Hits and bounces, found in the path of a ball by a small network.

    For `train` and `score`, DATA is a CSV with the columns game,clip,frame,visibility,x,y,status
    (status 0 in flight, 1 hit, 2 bounce; 1280x720, 30 frames per second), or a folder of labelled
    clips, as in `clips`.
    """


@events.command()
@data_options
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Weights file to write (.safetensors).")  # fmt: skip
def train(
    data: tuple[Path, ...],
    splits: tuple[str, ...],
    hits: Path | None,
    steps: int,
    seed: int,
    out: Path,
) -> None:
    """Train a network on all of DATA.

    \b
    tracknet events train tennis.csv labelled/ --split train --out events.safetensors
    """
    import torch

    from tracknet.commands.console import progress
    from tracknet.pipeline.events.model import save_net
    from tracknet.pipeline.events.training import EventTraining
    from tracknet.pipeline.events.training import train as train_net

    torch.set_num_threads(1)  # fastest for layers so small
    paths = _paths(data, splits, hits)
    with progress("training") as report:
        settings = EventTraining(steps=steps, seed=seed)
        net = train_net(paths, settings, lambda done: report(done, steps, "steps"))
    record = {
        "data": [one.name for one in data],
        "splits": splits,
        "clips": len(paths),
        "steps": steps,
        "seed": seed,
    }
    save_net(net, out, record)
    click.echo(f"{out}: trained on {len(paths)} clips")


@events.command()
@data_options
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Score this network.  [default: the one that comes with the package]",
)
@click.option(
    "--tables",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Score the events in this results folder, which come from pictures, instead of those that "
    "a network finds in the labelled paths.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Cross-validate instead: train so many networks, each without some games, and "
    "score it on those.",
)
@click.option(
    "--tolerance",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Frames that an event may be away from its label.",
)
@as_json
def score(
    data: tuple[Path, ...],
    splits: tuple[str, ...],
    hits: Path | None,
    steps: int,
    seed: int,
    weights: Path | None,
    tables: Path | None,
    folds: int | None,
    tolerance: int,
    as_json: bool,
) -> None:
    """Score a network on DATA, or cross-validate over its games.

    One event counts for one label.  "F1 once" takes labels of one kind in frames that follow each
    other as one event.

    \b
    tracknet events score tennis.csv --folds 5
    tracknet events score labelled/ --split test
    tracknet events score labelled/ --split test --tables tables/
    """
    import json

    import torch

    from tracknet.commands.console import print_table, progress
    from tracknet.jobs.events import cross_validate, found_by, found_in, score_events, totals
    from tracknet.pipeline.events.model import load_net
    from tracknet.pipeline.events.training import EventTraining
    from tracknet.schemas.store import Store

    if sum(map(bool, (weights, folds, tables))) > 1:
        raise click.UsageError("give one of --weights, --folds and --tables")
    torch.set_num_threads(1)  # fastest for layers so small
    paths = _paths(data, splits, hits)
    if folds:
        settings = EventTraining(steps=steps, seed=seed)
        with progress("training") as report:
            scores = cross_validate(
                paths, settings, folds, tolerance, lambda done, total: report(done, total, "steps")
            )
    else:
        net = load_net(weights) if weights else None
        found = found_in(Store(tables)) if tables else found_by(net)
        scores = score_events(paths, found, tolerance)
    rows = [
        {
            "game": one.game,
            "kind": one.kind,
            "labels": one.counts.tp + one.counts.fn,
            "found": one.counts.tp + one.counts.fp,
            "right": one.counts.tp,
            "f1": one.counts.f1,
            "f1_once": one.counts_once.f1,
        }
        for one in [*scores, *totals(scores)]
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        print_table(
            ("game", "kind", "labels", "found", "right", "F1", "F1 once"),
            [tuple(_cell(value) for value in row.values()) for row in rows],
            right=(2, 3, 4, 5, 6),
        )


@events.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@court_option
def find(out: Path, court: Path | None) -> None:
    """Find the events of a results folder that lacks them, or whose courts change.

    Nothing is decoded.  `track` finds events itself; it is needed for results of an older version,
    and for metres and km/h in those that were tracked without a court.

    \b
    tracknet events find tables/
    tracknet events find tables/ --court court.json
    """
    from tracknet.commands.console import progress
    from tracknet.jobs.courts import read_courts
    from tracknet.jobs.game import fill
    from tracknet.jobs.show import check_results
    from tracknet.schemas.store import Store

    store = Store(out)
    check_results(store)
    courts = read_courts(court) if court else None
    with store.lock(), progress("finding events") as report:
        if courts is not None:
            store.write_courts(courts)
        done = fill(store, lambda done, total: report(done, total, "videos"))
    click.echo(f"{out}: events of {done} videos found; the others had theirs")


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _paths(
    data: tuple[Path, ...], splits: tuple[str, ...], hits: Path | None
) -> list[LabelledPath]:
    from tracknet.jobs.events import labelled_paths

    return [path for one in data for path in labelled_paths(one, splits, hits)]
