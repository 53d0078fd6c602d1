"""Synthetic rallies with exact labels, and balls pasted into real ones.

A clip is a court in perspective, players, and a ball that obeys gravity and drag, filmed by a
camera with a shutter, noise and an unsteady hand.  The label of a frame is the ball's place at the
middle of the exposure, known before the first pixel is drawn.  The same seed gives the same labels
and the same pixels.

    paths = write_dataset(Path("rallies"), clips=20, seed=0)        # the TrackNetV2 layout
    for picture, label in synthesize_clip(SynthConfig(sport="badminton"), seed=7):
        ...

This module reads no video and knows nothing of models; physics is in `rally`, drawing in `film`,
`scene` and `player`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracknet.pipeline.pictures.draw import blend, streak
from tracknet.pipeline.pictures.encode import EncodeConfig, VideoWriter
from tracknet.pipeline.synth.film import CLEAR, HARD, BallLabel, Film
from tracknet.pipeline.synth.player import ball_colour
from tracknet.pipeline.synth.rally import SPORTS

CLIPS_PER_MATCH = 10
_PASTED_RADIUS_PX = (0.9, 2.4)  # smallest and largest
_PASTED_SHUTTER = (0.15, 0.7)  # shortest and longest exposure, as a share of the time of a frame


@dataclass(frozen=True)
class SynthConfig:
    """What kind of clips to make.

    Attributes:
        width, height: picture size in pixels; fps: frames per second.
        frames: fewest and most frames of a clip, drawn anew for each.
        sport: `tennis`, `badminton`, `padel`, or `mixed` (drawn anew for each clip).
        moving_camera: share of clips whose camera pans, zooms and shakes.
        crf: x264's quality, see `EncodeConfig`.
    """

    width: int = 1280
    height: int = 720
    fps: float = 30.0
    frames: tuple[int, int] = (90, 240)
    sport: str = "mixed"
    moving_camera: float = 0.5
    crf: int = 20


def synthesize_clip(
    config: SynthConfig, seed: int | Sequence[int]
) -> Iterator[tuple[np.ndarray, BallLabel]]:
    """Frames and labels of one clip, one by one.

    Yields:
        `(picture, label)`: uint8 `[height, width, 3]` RGB, and where the ball is, in pixels of
        that picture.  A ball outside the picture is absent; one that is covered for more than
        four fifths is HIDDEN; one that is covered in part or hardly differs from what is behind
        it is HARD.
    """
    rng = np.random.default_rng(seed)
    sport = (
        SPORTS[str(rng.choice(list(SPORTS)))] if config.sport == "mixed" else SPORTS[config.sport]
    )
    n_frames = int(rng.integers(config.frames[0], config.frames[1] + 1))
    moving = bool(rng.random() < config.moving_camera)
    film = Film(rng, sport, config.width, config.height, n_frames, config.fps, moving)
    yield from map(film.frame, range(n_frames))


def write_dataset(
    out: Path,
    clips: int,
    seed: int,
    config: SynthConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write clips in the TrackNetV2 layout and return the paths of the videos.

    `OUT/match1/video/rally001.mp4` goes with `OUT/match1/csv/rally001_ball.csv` (columns
    `Frame,Visibility,X,Y`, pixels, frames from 0); ten rallies make a match.  As in that data set,
    a ball that cannot be seen, whether it is away or hidden, is `0,0,0`; 1 and 2 are as in
    `synthesize_clip`.  Clip i depends on the seed and on i alone, not on how many there are.

    Args:
        on_progress: called with (clips written, clips in all).
    """
    paths = []
    for i in range(clips):
        match = out / f"match{1 + i // CLIPS_PER_MATCH}"
        path = match / "video" / f"rally{i + 1:03d}.mp4"
        _write_clip(path, match / "csv" / f"rally{i + 1:03d}_ball.csv", config, (seed, i))
        paths.append(path)
        on_progress(i + 1, clips)
    return paths


def _write_clip(video: Path, labels: Path, config: SynthConfig, seed: Sequence[int]) -> None:
    encoding = EncodeConfig(crf=config.crf)
    rows: list[tuple[int, int, str, str]] = []
    with VideoWriter(video, config.width, config.height, fps=config.fps, config=encoding) as out:
        for i, (picture, label) in enumerate(synthesize_clip(config, seed)):
            out.write(picture)
            seen = label.visible in (CLEAR, HARD)
            place = (f"{label.x_px:.2f}", f"{label.y_px:.2f}") if seen else ("0", "0")
            rows.append((i, label.visible if seen else 0, *place))
    labels.parent.mkdir(parents=True, exist_ok=True)
    with labels.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("Frame", "Visibility", "X", "Y"))
        writer.writerows(rows)


def paste_ball(
    frames: np.ndarray, trajectory: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a ball along a trajectory onto real frames, blurred along its velocity.

    What is on the frames already stays there, a real ball too: give frames without one, or none
    that is labelled.  Half of the balls have the colours of a shuttlecock, half of a tennis ball.

    Args:
        frames: uint8 `[T, H, W, 3]`, RGB.
        trajectory: `[T, 2]` x and y in pixels of `frames`.

    Returns:
        New frames, and float32 `[T, 2]`: the trajectory, NaN where it is outside the picture.
    """
    pasted = frames.copy()
    size = np.array([frames.shape[2], frames.shape[1]])
    inside = np.all((trajectory >= 0) & (trajectory <= size - 1), axis=1)
    radius, open_for = rng.uniform(*_PASTED_RADIUS_PX), rng.uniform(*_PASTED_SHUTTER)
    colour = np.array(ball_colour(shuttle=bool(rng.random() < 0.5)))
    colour = np.clip(colour * rng.uniform(0.7, 1.04) + rng.normal(0, 6, 3), 0, 255)
    way = open_for * (np.gradient(trajectory, axis=0) if len(frames) > 1 else np.zeros((1, 2)))
    for t in np.flatnonzero(inside):
        instants = np.linspace(-0.5, 0.5, int(np.clip(np.abs(way[t]).max() * 1.5, 1, 24)) * 2 + 1)
        places = trajectory[t] + instants[:, None] * way[t]
        blend(pasted[t], streak(places[:, None], np.array([radius]), 0.5), colour)
    return pasted, np.where(inside[:, None], trajectory, np.nan).astype(np.float32)
