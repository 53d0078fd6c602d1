"""One synthetic clip in the making: camera work, players' movements, and the ball in an exposure.

`Film` brings a rally (`rally.py`) and a scene (`scene.py`) together and paints frame after
frame from far to near, so that what stands in front hides what is behind; from what is hidden it
says how well the ball can be seen.

It does not know of files, seeds or data sets: `synth` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from tracknet.pipeline.pictures.draw import Cover, blend, overlap, streak
from tracknet.pipeline.synth.camera import place_camera
from tracknet.pipeline.synth.player import Outfit, Pose, ball_colour, draw_player, random_outfit
from tracknet.pipeline.synth.rally import SUBSTEPS, Rally, Sport, play
from tracknet.pipeline.synth.scene import Scene

ABSENT, CLEAR, HARD, HIDDEN = 0, 1, 2, 3
"""Visibility as in the TrackNet tennis labels; HIDDEN is behind something, and has a place."""

HIDDEN_BELOW, HARD_BELOW = 0.2, 0.6
"""Shares of the ball that can be seen."""

FAINT = 30.0
"""Grey levels: a ball that differs less from what is behind it, at its clearest, is HARD."""


class BallLabel(NamedTuple):
    """The truth about one frame: visibility (0..3), and pixels, None where there is no ball."""

    visible: int
    x_px: float | None
    y_px: float | None


NO_BALL = BallLabel(ABSENT, None, None)

Layer = tuple[float, Callable[[np.ndarray, int], Cover]]
"""World y of something that stands on the court, and how to paint it on a frame."""


class Film:
    """Paints the frames of one clip.

    Args:
        rng: decides everything that is not given; frames draw from it in turn (sensor noise).
        width, height: picture size in pixels.
        n_frames, fps: length and frame rate.
        moving_camera: the camera pans, zooms and shakes.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        sport: Sport,
        width: int,
        height: int,
        n_frames: int,
        fps: float,
        moving_camera: bool,
    ) -> None:
        self.rng, self.sport, self.fps = rng, sport, fps
        self.camera = place_camera(rng, sport, width, height)
        self.rally: Rally = play(rng, sport, n_frames, fps)
        self.scene = Scene(rng, sport, self.camera, width, height)
        self.outfits: list[Outfit] = [random_outfit(rng) for _ in self.rally.players]
        steps = np.diff(self.rally.players, axis=1, prepend=self.rally.players[:, :1])
        self.strides = 4.0 * np.linalg.norm(steps, axis=2).cumsum(axis=1)
        self.shutter = float(rng.uniform(0.1, 0.6))
        self.colour = np.array(ball_colour(sport.shuttle)) * rng.uniform(0.9, 1.05)
        # Bright spots that sway among the spectators and are no ball: where, how far, size, colour.
        upper, unit = np.array([width, 0.22 * height]), self.scene.pixel
        self.fireflies = [
            (
                rng.uniform(0.02, 0.98, 2) * upper,
                rng.uniform(0, 22, 2) * unit,
                rng.uniform(1.2, 3.2, 1) * unit,
                rng.integers(150, 255, 3).astype(float),
            )
            for _ in range(int(rng.integers(0, 5)))
        ]
        still = np.tile(np.eye(2, 3), (n_frames, 1, 1))
        self.views = self._camera_work(n_frames) if moving_camera else still

    def frame(self, i: int) -> tuple[np.ndarray, BallLabel]:
        """Frame `i`, uint8 `[height, width, 3]`, and the truth about it; ask for them in order."""
        picture = self.scene.still(self.views[i])
        self._paint_fireflies(picture, i)
        self._paint_shadows(picture, i)
        ball = self._expose(i)
        players = enumerate(self.rally.players[:, i, 1])
        layers: list[Layer] = [(y, partial(self._paint_player, p)) for p, y in players]
        layers.append((0.0, self._paint_net))
        layers.sort(key=lambda layer: -layer[0])
        behind = 0 if ball is None else sum(y >= ball.y for y, _ in layers)
        for _, paint in layers[:behind]:
            paint(picture, i)
        contrast = 0.0 if ball is None else self._paint_ball(picture, ball)
        in_front = [paint(picture, i) for _, paint in layers[behind:]]
        blend(picture, *self.scene.panel)
        in_front.append(self.scene.panel[0])
        label = NO_BALL if ball is None else self._judge(ball, contrast, in_front)
        return self.scene.finish(picture, self.rng), label

    # -- camera ---------------------------------------------------------------------------------

    def _camera_work(self, n_frames: int) -> np.ndarray:
        """Affine maps of the picture, `[n, 2, 3]`: the camera follows the ball, zooms, shakes."""
        rng, scene = self.rng, self.scene
        middle = np.array([scene.width / 2, scene.height / 2])
        ball = self.camera.project(self.rally.ball[SUBSTEPS // 2 :: SUBSTEPS])[:, :2]
        away = np.clip(np.nan_to_num(ball - middle), -middle, middle)
        pan, zoom = rng.uniform(0, 0.12), rng.uniform(0, 0.02)
        jitter = rng.uniform(0, 0.3) * scene.pixel
        follow, shake = np.zeros(2), np.zeros(2)
        views = np.empty((n_frames, 2, 3))
        for i in range(n_frames):
            follow = 0.96 * follow - 0.04 * pan * away[i] * (1, 0.4)
            shake = 0.8 * shake + rng.normal(0, jitter, 2)
            scale = 1.01 + zoom * (1 + np.sin(0.03 * i))
            shift = np.clip(follow + shake, -0.7 * scene.margin, 0.7 * scene.margin)
            views[i] = np.column_stack([scale * np.eye(2), (1 - scale) * middle + shift])
        return views

    def _see(self, points: np.ndarray, i: int) -> np.ndarray:
        """World `[..., 3]` to pixels of frame `i` and pixels per metre: `[..., 3]`."""
        seen = self.camera.project(points)
        view = self.views[i]
        scale = view[0, 0] * self.camera.focal / seen[..., 2:]
        return np.concatenate([seen[..., :2] @ view[:, :2].T + view[:, 2], scale], axis=-1)

    # -- the ball -------------------------------------------------------------------------------

    # Cork, middle and skirt of a shuttlecock: metres ahead of the centre of what is seen of it.
    SHUTTLE_AHEAD, SHUTTLE_RADII = (0.050, 0.017, -0.016), (0.017, 0.025, 0.034)
    # On a picture a bright ball is larger than it is, and never smaller than so many pixels.
    BLOOM, LEAST_RADIUS = 1.3, 1.3

    def _expose(self, i: int) -> Exposure | None:
        """The ball while the shutter of frame `i` is open; None if it is away at mid exposure."""
        path = self.rally.ball
        middle = i * SUBSTEPS + SUBSTEPS // 2
        if np.isnan(path[middle, 0]):
            return None
        reach = max(1, round(self.shutter * SUBSTEPS / 2))
        index = np.arange(max(0, middle - reach), min(len(path), middle + reach + 1))
        index = index[~np.isnan(path[index, 0])]
        length = float(np.ptp(self._see(path[index], i)[:, :2], axis=0).max())
        instants = np.linspace(index[0], index[-1], int(np.clip(length / 1.2, 3, 48)))
        points = np.stack([np.interp(instants, index, path[index, axis]) for axis in range(3)], 1)
        ahead, radii = np.zeros(1), np.array([self.sport.ball_radius])
        if self.sport.shuttle:
            ahead, radii = np.array(self.SHUTTLE_AHEAD), np.array(self.SHUTTLE_RADII)
        heading = points[-1] - points[0]
        heading = heading / (np.linalg.norm(heading) + 1e-9)
        disks = self._see(points[:, None] + ahead[:, None] * heading, i)
        unit = self.scene.pixel
        size = np.maximum(self.BLOOM * radii * disks[..., 2], self.LEAST_RADIUS * unit)
        cover = streak(disks[..., :2], size, softness=0.6 * unit + 0.1)
        x, y, _ = self._see(path[middle], i)
        return Exposure(float(path[middle, 1]), (float(x), float(y)), cover)

    def _paint_ball(self, picture: np.ndarray, ball: Exposure) -> float:
        """Paint it and return its contrast: the largest change of a pixel, in grey levels."""
        area = overlap(picture, ball.cover)
        if area is None:
            return 0.0
        before = picture[area[0]].astype(np.int16)
        blend(picture, ball.cover, self.colour)
        return float(np.abs(picture[area[0]] - before).mean(axis=2).max())

    def _judge(self, ball: Exposure, contrast: float, in_front: list[Cover]) -> BallLabel:
        """The ball's label, after everything that stands before it has been painted."""
        x, y = ball.centre
        if not (0 <= x <= self.scene.width - 1 and 0 <= y <= self.scene.height - 1):
            return NO_BALL
        share = _share_seen(ball.cover, in_front)
        if share < HIDDEN_BELOW:
            return BallLabel(HIDDEN, x, y)
        hard = share < HARD_BELOW or contrast < FAINT
        return BallLabel(HARD if hard else CLEAR, x, y)

    # -- everything else ------------------------------------------------------------------------

    def _paint_player(self, player: int, picture: np.ndarray, i: int) -> Cover:
        return draw_player(picture, self.outfits[player], self._pose(player, i))

    def _pose(self, player: int, i: int) -> Pose:
        x, y = self.rally.players[player, i]
        feet = self._see(np.array([x, y, 0.0]), i)
        facing = -1 if y < 0 else 1
        hand = self.outfits[player].hand(facing)
        reach = np.array([0.32 * hand, -0.2 + 0.06 * np.sin(0.2 * i + player)])
        for hit in self.rally.hits:
            late = i / self.fps - hit.time
            if hit.player == player and abs(late) < 0.4:
                near = np.exp(-((late / 0.13) ** 2))
                goal = np.array([hit.point[0] - x, hit.point[2] - 1.42])
                reach = (1 - near) * reach + near * goal
        return Pose(feet[:2], feet[2], self.strides[player, i], reach, facing)

    def _paint_net(self, picture: np.ndarray, i: int) -> Cover:
        cover, paint = self.scene.net(self.views[i])
        blend(picture, cover, paint)
        return cover

    def _paint_shadows(self, picture: np.ndarray, i: int) -> None:
        dark = np.zeros(3)
        for x, y in self.rally.players[:, i]:
            spots = np.array([[[x + dx, y, 0.0] for dx in (-0.25, 0.0, 0.25)]])
            place = self._see(spots, i)
            cover = streak(place[..., :2], 0.2 * place[..., 2] * (1, 1.2, 1), softness=4.0)
            blend(picture, cover.faded(0.35), dark)
        at = self.rally.ball[i * SUBSTEPS + SUBSTEPS // 2]
        if not self.sport.shuttle and at[2] < 4:
            place = self._see(np.array([[[at[0] + 0.15 * at[2], at[1], 0.0]]]), i)
            cover = streak(place[..., :2], 0.035 * place[..., 2], softness=1.0)
            blend(picture, cover.faded(0.4), dark)

    def _paint_fireflies(self, picture: np.ndarray, i: int) -> None:
        for place, drift, radius, colour in self.fireflies:
            centre = place + drift * np.sin(np.array([0.05, 0.07]) * i)
            blend(picture, streak(centre[None, None], radius), colour)


@dataclass(frozen=True)
class Exposure:
    """The ball on one frame: world y (its depth), its centre at mid exposure, and its streak."""

    y: float
    centre: tuple[float, float]
    cover: Cover


def _share_seen(ball: Cover, in_front: list[Cover]) -> float:
    """How much of the ball's coverage is left after what stands in front, 0..1."""
    seen = ball.alpha.copy()
    for cover in in_front:
        moved = Cover(cover.alpha, cover.left - ball.left, cover.top - ball.top)
        area = overlap(seen, moved)
        if area is not None:
            seen[area[0]] *= 1 - cover.alpha[area[1]]
    return float(seen.sum() / ball.alpha.sum())
