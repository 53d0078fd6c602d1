"""Event networks on labelled paths: read clips, score a network, cross-validate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from tracknet.pipeline.datasets import by_split, clip_id, clip_labels, find_clips
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.find import find_events
from tracknet.pipeline.events.labels import (
    BADMINTON_HITS,
    LabelledPath,
    once,
    read_hits,
    read_paths,
)
from tracknet.pipeline.events.model import FPS, KINDS
from tracknet.pipeline.events.scoring import TOLERANCE, EventCounts, count
from tracknet.pipeline.events.training import EventTraining, train
from tracknet.schemas.store import Store


class EventScore(NamedTuple):
    """Counts of one kind in one game.

    Attributes:
        game, kind: of what.
        counts: every label counts.
        counts_once: labels of one kind in frames that follow each other are one event.
    """

    game: str
    kind: str
    counts: EventCounts
    counts_once: EventCounts


Found = Callable[[LabelledPath], Sequence[tuple[int, str]]]


def found_by(net: nn.Module | None) -> Found:
    """Frame and kind of the events that a network finds in a labelled path; see `find_events`."""
    return lambda path: [
        (event.frame, event.kind) for event in find_events(path.xy, path.size, path.fps, net)
    ]


def found_in(store: Store) -> Found:
    """Frame and kind of the events in the tables of a results folder.

    They come from pictures: the ball was tracked, and its events found in that path.  What is
    returned raises InputError for a path whose video has no events there.
    """

    def found(path: LabelledPath) -> list[tuple[int, str]]:
        if not store.is_published(path.video_id) or store.lacks_derived(path.video_id):
            raise InputError(f"{store.root} has no events of {path.game}/{path.clip}; track it")
        table = store.read_derived("events", path.video_id)
        return list(zip(table["frame"].to_pylist(), table["kind"].to_pylist(), strict=True))

    return found


def score_events(
    paths: Sequence[LabelledPath], found: Found, tolerance: float = TOLERANCE
) -> list[EventScore]:
    """Score what was found against labels.

    Args:
        paths: with their labels.
        found: `found_by` or `found_in`.
        tolerance: frames that an event may be away from its label.

    Returns:
        One entry per game and kind, games in the order of `paths`.
    """
    scores: dict[tuple[str, str], EventScore] = {}
    for path in paths:
        events = found(path)
        for kind in KINDS:
            frames = [frame for frame, k in events if k == kind]
            every, single = (
                count(frames, [frame for frame, k in labels if k == kind], tolerance)
                for labels in (path.events, once(path.events))
            )
            before = scores.get((path.game, kind))
            if before:
                every, single = every + before.counts, single + before.counts_once
            scores[path.game, kind] = EventScore(path.game, kind, every, single)
    return list(scores.values())


def cross_validate(
    paths: Sequence[LabelledPath],
    settings: EventTraining,
    number: int,
    tolerance: float = TOLERANCE,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> list[EventScore]:
    """Score each game with a network that was trained without it.

    Args:
        paths: labelled clips of several games.
        settings: how each network is trained.
        number: of folds; each holds out whole games.
        tolerance: as in `score_events`.
        on_step: called with how many training steps are done, and how many there are.

    Raises:
        InputError: there are fewer games than folds.
    """
    games = list(dict.fromkeys(path.game for path in paths))
    if not 2 <= number <= len(games):
        raise InputError(f"{number} folds: must be 2 to {len(games)}, the number of games")
    scores = []
    for fold in range(number):
        held = games[fold::number]
        done = partial(_further, on_step, fold * settings.steps, number * settings.steps)
        net = train([path for path in paths if path.game not in held], settings, done)
        held_out = [path for path in paths if path.game in held]
        scores += score_events(held_out, found_by(net), tolerance)
    return sorted(scores, key=lambda score: games.index(score.game))


def _further(on_step: Callable[[int, int], None], before: int, total: int, step: int) -> None:
    on_step(before + step, total)


def totals(scores: Sequence[EventScore]) -> list[EventScore]:
    """The sums over all games, one entry per kind."""
    return [
        EventScore(
            "all",
            kind,
            sum((score.counts for score in scores if score.kind == kind), EventCounts()),
            sum((score.counts_once for score in scores if score.kind == kind), EventCounts()),
        )
        for kind in KINDS
    ]


def labelled_paths(data: Path, splits: Sequence[str], hits: Path | None) -> list[LabelledPath]:
    """The labelled paths of a CSV, or of a folder of labelled clips with a CSV of hits.

    Both are taken to have 30 frames per second, the CSV pictures of 1280x720.

    Args:
        data: as `read_paths` or `find_clips` know it.
        splits: only clips of these splits of a folder, in this order; none takes all clips.
        hits: as `read_hits` knows it; None takes those that come with the package.  Clips without
            a hit in it are left out.

    Raises:
        InputError: the folder holds no labelled clip.
        LabelError: labels are broken.
    """
    if data.is_file():
        return read_paths(data, (1280, 720), FPS)
    frames = read_hits(hits or BADMINTON_HITS)
    clips = find_clips(data)
    return [
        LabelledPath(
            clip.match,
            clip.name,
            clip_labels(clip)[1],
            frames[clip.name],
            size=clip.size,
            video_id=clip_id(clip),
        )
        for chosen in ([by_split(clips, split) for split in splits] or [clips])
        for clip in chosen
        if clip.name in frames
    ]
