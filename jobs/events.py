"""Event networks on labelled paths: read clips, score a network, cross-validate."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from tracknet.pipeline.datasets import Clip, clip_labels
from tracknet.pipeline.errors import InputError, LabelError
from tracknet.pipeline.events.find import find_events
from tracknet.pipeline.events.labels import LabelledPath, once
from tracknet.pipeline.events.model import KINDS
from tracknet.pipeline.events.scoring import TOLERANCE, EventCounts, count
from tracknet.pipeline.events.training import EventTraining, train


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


def score_events(
    paths: Sequence[LabelledPath], net: nn.Module, tolerance: float = TOLERANCE
) -> list[EventScore]:
    """Score a network on labelled paths.

    Args:
        paths: with their labels.
        net: from `load_net` or `train`.
        tolerance: frames that an event may be away from its label.

    Returns:
        One entry per game and kind, games in the order of `paths`.
    """
    scores: dict[tuple[str, str], EventScore] = {}
    for path in paths:
        events = find_events(path.xy, path.size, path.fps, net)
        for kind in KINDS:
            found = [event.frame for event in events if event.kind == kind]
            every, single = (
                count(found, [frame for frame, k in labels if k == kind], tolerance)
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
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> list[EventScore]:
    """Score each game with a network that was trained without it.

    Args:
        paths: labelled clips of several games.
        settings: how each network is trained.
        number: of folds; each holds out whole games.
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
        net = train(
            [path for path in paths if path.game not in held],
            settings,
            lambda step, done=fold * settings.steps: on_step(  # type: ignore[misc]
                done + step, number * settings.steps
            ),
        )
        scores += score_events([path for path in paths if path.game in held], net)
    return sorted(scores, key=lambda score: games.index(score.game))


def clip_paths(clips: Sequence[Clip], hits: Path, fps: float) -> list[LabelledPath]:
    """Labelled clips whose hits stand in a CSV `clip,frame`; clips without a row are left out.

    Args:
        clips: from `find_clips`; their match is the game.
        hits: the CSV.
        fps: frames per second.

    Raises:
        LabelError: the CSV has other columns, or a frame that is no number.
    """
    frames: dict[str, list[tuple[float, str]]] = {}
    with hits.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                frames.setdefault(row["clip"], []).append((int(row["frame"]), "hit"))
            except (KeyError, ValueError, TypeError):
                raise LabelError(hits, rows.line_num, "must be `clip,frame`") from None
    return [
        LabelledPath(
            clip.match, clip.name, clip_labels(clip)[1], tuple(frames[clip.name]), 0, clip.size, fps
        )
        for clip in clips
        if clip.name in frames
    ]
