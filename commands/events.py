"""Hits, bounces and cuts: found in results and scored; and a network for events trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracknet.commands.options import Place, as_json, court_option, options, results_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracknet.jobs.events import EventScore
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
    click.option("--simulated", type=click.IntRange(min=0), default=0, show_default=True,
                 help="Simulated badminton rallies to train on besides the labelled paths."),
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
    simulated: int,
    seed: int,
    out: Path,
) -> None:
    """Train a network on all of DATA.

    \b
    tracknet events train tennis.csv labelled/ --split train --out events.safetensors
    tracknet events train tennis.csv labelled/ --simulated 300 --out badminton.safetensors
    """
    import torch

    from tracknet.commands.console import progress
    from tracknet.pipeline.events.model import save_net
    from tracknet.pipeline.events.training import EventTraining
    from tracknet.pipeline.events.training import train as train_net

    torch.set_num_threads(1)  # fastest for layers so small
    paths, rallies = _paths(data, splits, hits), _rallies(simulated, seed)
    with progress("training") as report:
        settings = EventTraining(steps=steps, seed=seed)
        net = train_net(paths, settings, lambda done: report(done, steps, "steps"), rallies)
    record = {
        "data": [one.name for one in data],
        "splits": splits,
        "clips": len(paths),
        "steps": steps,
        "simulated": simulated,
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
    type=Place(exists=True, file_okay=False),
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
    "tolerances",
    type=click.IntRange(min=0),
    multiple=True,
    default=(1, 3, 5),
    show_default=True,
    help="Frames that an event may be away from its label; may be given several times.",
)
@as_json
def score(
    data: tuple[Path, ...],
    splits: tuple[str, ...],
    hits: Path | None,
    steps: int,
    simulated: int,
    seed: int,
    weights: Path | None,
    tables: Path | None,
    folds: int | None,
    tolerances: tuple[int, ...],
    as_json: bool,
) -> None:
    """Score a network on DATA, or cross-validate over its games.

    One event counts for one label.  The interval, 95 % of F1, is over clips.  "F1 once" takes
    labels of one kind in frames that follow each other as one event.

    \b
    tracknet events score tennis.csv --folds 5
    tracknet events score labelled/ --split test
    tracknet events score labelled/ --split test --tables tables/
    """
    import torch

    from tracknet.commands.console import progress
    from tracknet.jobs.events import cross_validate, found_by, found_in, score_events
    from tracknet.pipeline.events.model import load_net
    from tracknet.pipeline.events.training import EventTraining
    from tracknet.schemas.store import Store

    if sum(map(bool, (weights, folds, tables))) > 1:
        raise click.UsageError("give one of --weights, --folds and --tables")
    torch.set_num_threads(1)  # fastest for layers so small
    paths = _paths(data, splits, hits)
    if folds:
        settings, rallies = EventTraining(steps=steps, seed=seed), _rallies(simulated, seed)
        with progress("training") as report:
            done = partial(report, unit="steps")
            scores = cross_validate(paths, settings, folds, tolerances, done, rallies)
    else:
        net = load_net(weights) if weights else None
        found = found_in(Store(tables)) if tables else found_by(net)
        scores = score_events(paths, found, tolerances)
    _print_scores(scores, as_json)


@events.command()
@results_argument
@click.option(
    "--labels",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV `clip,frame`: a video, and the first frame behind a cut; without a frame "
    "for a video that has no cut.",
)
@click.option(
    "--tolerance",
    "tolerances",
    type=click.IntRange(min=0),
    multiple=True,
    default=(2,),
    show_default=True,
    help="Frames that a cut may be away from its label; may be given several times.",
)
@as_json
def cuts(out: Path, labels: Path, tolerances: tuple[int, ...], as_json: bool) -> None:
    """Score the camera cuts of a results folder.

    \b
    tracknet events cuts tables/ --labels cuts.csv
    """
    from tracknet.jobs.events import score_cuts
    from tracknet.jobs.show import check_results
    from tracknet.schemas.store import Store

    store = Store(out)
    check_results(store)
    _print_scores(score_cuts(store, labels, tolerances), as_json)


def _print_scores(scores: Sequence[EventScore], as_json: bool) -> None:
    """Print scores and their sums."""
    import json

    from tracknet.commands.console import print_table
    from tracknet.jobs.events import totals

    rows = [
        {
            "game": one.game,
            "kind": one.kind,
            "within": one.within,
            "labels": one.counts.tp + one.counts.fn,
            "found": one.counts.tp + one.counts.fp,
            "right": one.counts.tp,
            "precision": one.counts.precision,
            "recall": one.counts.recall,
            "f1": one.counts.f1,
            "f1_low": interval[0],
            "f1_high": interval[1],
            "f1_once": one.counts_once.f1,
        }
        for one in [*scores, *totals(scores)]
        for interval in [one.interval or (None, None)]
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    figures = ("labels", "found", "right", "precision", "recall", "F1", "low", "high", "F1 once")
    cells = [tuple(_cell(value) for value in row.values()) for row in rows]
    print_table(("game", "kind", "within", *figures), cells, right=tuple(range(2, 12)))


@events.command()
@results_argument
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


def _rallies(number: int, seed: int) -> list[LabelledPath]:
    from tracknet.commands.console import progress
    from tracknet.jobs.events import simulated_rallies

    if not number:
        return []
    with progress("simulating") as report:
        return simulated_rallies(number, seed, lambda done, total: report(done, total, "rallies"))
