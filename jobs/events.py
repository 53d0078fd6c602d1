"""Event networks on labelled paths: read clips, simulate rallies, score, cross-validate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

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
from tracknet.pipeline.events.model import FPS, KINDS, EventNet, pieces
from tracknet.pipeline.events.scoring import TOLERANCE, EventCounts, count
from tracknet.pipeline.events.training import EventTraining, train
from tracknet.pipeline.scoring.metrics import Counts, bootstrap_interval
from tracknet.pipeline.synth.camera import place_camera
from tracknet.pipeline.synth.rally import SPORTS, SUBSTEPS, play
from tracknet.schemas.store import Store

_PICTURE = (512, 288)  # of simulated rallies, px
_REPEATING = 0.4  # share of simulated videos of 25 frames per second that were converted to 30
_JITTER = 0.05  # px; a place that is exactly that of the frame before is taken for a repeated frame


class EventScore(NamedTuple):
    """Counts of one kind in one game.

    Attributes:
        game, kind: of what.
        within: frames that an event may be away from its label.
        clips: of each clip; every label counts.
        clips_once: likewise; labels of one kind in frames that follow each other are one event.
    """

    game: str
    kind: str
    within: int
    clips: tuple[EventCounts, ...]
    clips_once: tuple[EventCounts, ...]

    @property
    def counts(self) -> EventCounts:
        return sum(self.clips, EventCounts())

    @property
    def counts_once(self) -> EventCounts:
        return sum(self.clips_once, EventCounts())

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of F1 over clips; None with fewer than two."""
        return f1_interval(self.clips)


def f1_interval(clips: Sequence[EventCounts]) -> tuple[float, float] | None:
    """The 95 % interval of F1 if whole clips are drawn again; None with fewer than two."""
    return bootstrap_interval([Counts(tp=one.tp, fp1=one.fp, fn=one.fn) for one in clips])


Found = Callable[[LabelledPath], Sequence[tuple[int, str]]]


def found_by(net: EventNet | None) -> Found:
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
    paths: Sequence[LabelledPath], found: Found, tolerances: Sequence[int] = (TOLERANCE,)
) -> list[EventScore]:
    """Score what was found against labels.

    Args:
        paths: with their labels.
        found: `found_by` or `found_in`.
        tolerances: frames that an event may be away from its label.

    Returns:
        One entry per game, kind and tolerance, games in the order of `paths`.
    """
    scores = []
    for path in paths:
        events = found(path)
        for kind, within in product(KINDS, tolerances):
            frames = [frame for frame, k in events if k == kind]
            every, single = (
                count(frames, [frame for frame, k in labels if k == kind], within)
                for labels in (path.events, once(path.events))
            )
            scores.append(EventScore(path.game, kind, within, (every,), (single,)))
    return _together(scores)


def _together(scores: Sequence[EventScore]) -> list[EventScore]:
    """One entry per game, kind and tolerance, with the clips of all."""
    found: dict[tuple[str, str, int], EventScore] = {}
    for one in scores:
        before = found.get(one[:3])
        if before:
            clips = (before.clips + one.clips, before.clips_once + one.clips_once)
            one = EventScore(*one[:3], *clips)
        found[one[:3]] = one
    return list(found.values())


def cross_validate(
    paths: Sequence[LabelledPath],
    settings: EventTraining,
    number: int,
    tolerances: Sequence[int] = (TOLERANCE,),
    on_step: Callable[[int, int], None] = lambda done, total: None,
    simulated: Sequence[LabelledPath] = (),
) -> list[EventScore]:
    """Score each game with a network that was trained without it.

    Args:
        paths: labelled clips of several games.
        settings: how each network is trained.
        number: of folds; each holds out whole games.
        tolerances: as in `score_events`.
        on_step: called with how many training steps are done, and how many there are.
        simulated: as in `train`.

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
        others = [path for path in paths if path.game not in held]
        net = train(others, settings, done, simulated)
        held_out = [path for path in paths if path.game in held]
        scores += score_events(held_out, found_by(net), tolerances)
    return sorted(scores, key=lambda score: games.index(score.game))


def score_cuts(store: Store, labels: Path, tolerances: Sequence[int]) -> list[EventScore]:
    """Score the camera cuts of a results folder against labels.

    Args:
        store: the results.
        labels: CSV with the columns `clip,frame`: the name of a video, with or without folder and
            suffix, and the first frame behind a cut.  A row without a frame names a video that may
            have none.
        tolerances: frames that a cut may be away from its label.

    Returns:
        One entry per clip and tolerance.

    Raises:
        InputError: the folder has no shots of a video that the labels name.
        LabelError: labels are broken.
    """
    videos: dict[str, str] = {}
    for manifest in store.manifests():
        source = Path(manifest["source"])
        videos |= dict.fromkeys((str(source), source.name, source.stem), manifest["video_id"])
    scores = []
    for clip, labelled in read_hits(labels).items():
        shots = store.read_derived("shots", videos.get(clip, ""))
        if not len(shots):
            raise InputError(f"{store.root} has no camera shots of {clip}; track it")
        cuts = shots["first_frame"].to_pylist()[1:]
        for within in tolerances:
            found = (count(cuts, [frame for frame, _ in labelled], within),)
            scores.append(EventScore(clip, "cut", within, found, found))
    return scores


def _further(on_step: Callable[[int, int], None], before: int, total: int, step: int) -> None:
    on_step(before + step, total)


def totals(scores: Sequence[EventScore]) -> list[EventScore]:
    """All games together, one entry per kind and tolerance."""
    return _together([score._replace(game="all") for score in scores])


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


def simulated_rallies(
    number: int, seed: int, on_done: Callable[[int, int], None] = lambda done, total: None
) -> list[LabelledPath]:
    """Paths of simulated badminton rallies, of ten seconds at most, with their hits.

    They are px of a picture of 512 x 288, at 30 frames per second; see `pipeline.synth.rally`.

    Args:
        number: of rallies.
        seed: of everything random.
        on_done: called with how many are done, and `number`.
    """
    rng, paths = np.random.default_rng(seed), list[LabelledPath]()
    while len(paths) < number:
        paths += _ten_seconds(rng)
        on_done(min(len(paths), number), number)
    return paths[:number]


def _ten_seconds(rng: np.random.Generator) -> list[LabelledPath]:
    """The rallies of ten seconds, seen by one camera."""
    sport, frames = SPORTS["badminton"], 10 * round(FPS)
    shown = np.arange(frames)
    if rng.random() < _REPEATING:  # every sixth frame is the one before
        shown = shown * 5 // 6
    played = int(shown[-1]) + 1
    rally = play(rng, sport, played, FPS * played / frames)
    ball = rally.ball[::SUBSTEPS]
    xy = place_camera(rng, sport, *_PICTURE).project(ball)[:, :2]
    xy += rng.normal(0, _JITTER, xy.shape)
    xy[~((xy >= 0) & (xy <= np.array(_PICTURE) - 1)).all(1)] = np.nan
    paths = []
    for part in pieces(ball[shown, :2], 1):  # there are pauses between rallies
        seen = xy[shown[part]]
        hits = (hit.time * FPS - part.start for hit in rally.hits)
        # A serve is in the first frame, or less than a frame before.
        events = tuple((at, "hit") for at in hits if -1 < at < len(seen))
        if np.isfinite(seen).any():
            paths.append(LabelledPath("simulated", "", seen, events, size=_PICTURE))
    return paths
