"""Synthetic rallies: physics, exact labels, layout on disk, and balls pasted on real frames."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tracknet.pipeline.pictures.draw import streak
from tracknet.pipeline.synth import SynthConfig, paste_ball, synthesize_clip, write_dataset
from tracknet.pipeline.synth.camera import place_camera
from tracknet.pipeline.synth.film import ABSENT, CLEAR, HIDDEN, BallLabel, Film
from tracknet.pipeline.synth.rally import GRAVITY, SPORTS, SUBSTEPS, fly, play

SMALL = SynthConfig(width=320, height=180, frames=(12, 16))


# -- physics --------------------------------------------------------------------------------------


def test_without_drag_a_ball_flies_a_parabola() -> None:
    sport = replace(SPORTS["tennis"], drag=0.0)
    path, stopped = fly((0.0, 1.0, 1.0), (2.0, 5.0, 6.0), sport, 500, 1e-3)
    t = np.arange(500) * 1e-3
    assert not stopped
    assert path[:, 0] == pytest.approx(2 * t, abs=1e-9)
    assert path[:, 2] == pytest.approx(1 + 6 * t - 0.5 * GRAVITY * t**2, abs=5e-3)


def test_a_shuttlecock_falls_at_its_terminal_velocity() -> None:
    path, _ = fly((0.0, 2.0, 100.0), (0.0, 0.0, 0.0), SPORTS["badminton"], 3000, 1e-3)
    assert (path[-1, 2] - path[-2, 2]) / 1e-3 == pytest.approx(-6.8, abs=0.02)


def test_a_bounce_keeps_its_share_and_the_net_stops_a_ball() -> None:
    sport = SPORTS["tennis"]
    path, _ = fly((0.0, 5.0, 2.0), (0.0, 1.0, 0.0), sport, 1500, 1e-3)
    low = int(np.argmin(path[:, 2]))
    assert path[low:, 2].max() == pytest.approx(2.0 * sport.bounce**2, rel=0.1)
    path, stopped = fly((0.0, -2.0, 0.7), (0.0, 20.0, 0.0), sport, 500, 1e-3)
    assert stopped
    assert path[:, 1].max() < 0


@pytest.mark.parametrize("name", SPORTS)
@pytest.mark.parametrize("seed", range(4))
def test_rallies_cross_the_net_and_stay_above_the_floor(name: str, seed: int) -> None:
    sport = SPORTS[name]
    rally = play(np.random.default_rng(seed), sport, n_frames=150, fps=30.0)
    assert rally.ball.shape == (150 * SUBSTEPS, 3)
    ball = rally.ball[~np.isnan(rally.ball[:, 0])]
    assert ball[:, 2].min() >= sport.ball_radius - 1e-9
    assert np.sign(ball[:, 1]).min() == -1
    assert np.sign(ball[:, 1]).max() == 1
    assert np.isfinite(rally.players).all()
    assert len(rally.hits) >= 2
    for hit in rally.hits:
        step = round(hit.time * 30 * SUBSTEPS)
        if step < len(rally.ball):
            assert rally.ball[step] == pytest.approx(hit.point, abs=0.3)


@pytest.mark.parametrize("name", SPORTS)
def test_the_whole_court_is_in_the_picture(name: str) -> None:
    sport = SPORTS[name]
    w, h = sport.half_width, sport.half_length
    corners = np.array([[-w, -h, 0], [w, -h, 0], [w, h, 0], [-w, h, 0]])
    for seed in range(20):
        camera = place_camera(np.random.default_rng(seed), sport, 1280, 720)
        x, y, depth = camera.project(corners).T
        assert x.min() > 0
        assert x.max() < 1280
        assert y.min() > 0
        assert y.max() < 720
        assert depth[2] > depth[1] > 0  # the far side is farther, and higher in the picture
        assert y[2] < y[1]


# -- clips ----------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_pixels_and_labels() -> None:
    first, second = (list(synthesize_clip(SMALL, 5)) for _ in range(2))
    assert [label for _, label in first] == [label for _, label in second]
    for (a, _), (b, _) in zip(first, second, strict=True):
        assert np.array_equal(a, b)
    other = next(iter(synthesize_clip(SMALL, 6)))[0]
    assert not np.array_equal(other, first[0][0])


def test_frames_are_rgb_of_the_size_asked_for_and_labels_lie_inside() -> None:
    for sport in SPORTS:
        clip = list(synthesize_clip(replace(SMALL, sport=sport, frames=(60, 60)), 3))
        assert len(clip) == 60
        for picture, label in clip:
            assert picture.shape == (180, 320, 3)
            assert picture.dtype == np.uint8
            if label.visible == ABSENT:
                assert label == BallLabel(0, None, None)
            else:
                assert label.x_px is not None
                assert label.y_px is not None
                assert 0 <= label.x_px <= 319
                assert 0 <= label.y_px <= 179
        assert sum(label.visible == CLEAR for _, label in clip) > 10


@pytest.mark.parametrize("moving", [False, True])
def test_labels_are_the_centre_of_what_the_ball_changes(moving: bool) -> None:
    """Paint a clip twice, the second time without its ball; the difference is the ball."""

    def film() -> Film:
        rng = np.random.default_rng(6)
        return Film(rng, SPORTS["badminton"], 1280, 720, 30, 30.0, moving_camera=moving)

    with_ball, without = film(), film()
    without.rally.ball[:] = np.nan
    errors = []
    for i in range(30):
        (picture, label), (empty, _) = with_ball.frame(i), without.frame(i)
        change = cv2.absdiff(picture, empty).sum(axis=2)
        if label.visible == ABSENT:
            continue
        if label.visible == HIDDEN:
            assert change.sum() < 5000
            continue
        centre = [change.sum(axis=axis) @ np.arange(size) / change.sum()
                  for axis, size in ((0, 1280), (1, 720))]  # fmt: skip
        errors.append(np.hypot(centre[0] - label.x_px, centre[1] - label.y_px))
    assert len(errors) > 10
    assert np.median(errors) < 1.0
    assert np.max(errors) < 4.0  # a fast shuttlecock is turned in mid exposure by a hit


# -- files ----------------------------------------------------------------------------------------


def test_data_set_on_disk_has_the_tracknetv2_layout(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    paths = write_dataset(tmp_path, 11, 7, SMALL, lambda done, n: told.append((done, n)))
    assert told == [(i, 11) for i in range(1, 12)]
    assert paths[0] == tmp_path / "match1" / "video" / "rally001.mp4"
    assert paths[10] == tmp_path / "match2" / "video" / "rally011.mp4"
    for i in (0, 10):
        with av.open(str(paths[i])) as container:
            decoded = sum(1 for _ in container.decode(video=0))
        labels = paths[i].parents[1] / "csv" / f"{paths[i].stem}_ball.csv"
        with labels.open(newline="") as file:
            rows = list(csv.DictReader(file))
        truth = [label for _, label in synthesize_clip(SMALL, (7, i))]
        assert decoded == len(rows) == len(truth)
        assert list(rows[0]) == ["Frame", "Visibility", "X", "Y"]
        for n, (row, label) in enumerate(zip(rows, truth, strict=True)):
            assert int(row["Frame"]) == n
            if label.visible in (ABSENT, HIDDEN):
                assert (row["Visibility"], row["X"], row["Y"]) == ("0", "0", "0")
            else:
                assert int(row["Visibility"]) == label.visible
                assert float(row["X"]) == pytest.approx(label.x_px, abs=0.006)
                assert float(row["Y"]) == pytest.approx(label.y_px, abs=0.006)


# -- pasting --------------------------------------------------------------------------------------


def test_pasted_ball_lies_on_its_label() -> None:
    frames = np.full((3, 288, 512, 3), 60, np.uint8)
    trajectory = np.array([[100.25, 80.5], [112.0, 84.0], [123.75, 88.5]])
    pasted, labels = paste_ball(frames, trajectory, np.random.default_rng(0))
    assert frames.max() == 60  # the caller's frames stay
    assert labels.dtype == np.float32
    assert labels == pytest.approx(trajectory)
    for picture, (x, y) in zip(pasted, trajectory, strict=True):
        change = picture.astype(float).sum(axis=2) - 180
        rows, columns = np.mgrid[0:288, 0:512]
        assert (change * columns).sum() / change.sum() == pytest.approx(x, abs=0.25)
        assert (change * rows).sum() / change.sum() == pytest.approx(y, abs=0.25)


def test_no_ball_is_pasted_outside_the_picture() -> None:
    frames = np.zeros((3, 40, 60, 3), np.uint8)
    trajectory = np.array([[-3.0, 5.0], [30.0, 20.0], [59.5, 39.0]])
    pasted, labels = paste_ball(frames, trajectory, np.random.default_rng(1))
    assert np.isnan(labels).tolist() == [[True, True], [False, False], [True, True]]
    assert [picture.any() for picture in pasted] == [False, True, False]
    alone, _ = paste_ball(frames[:1], trajectory[1:2], np.random.default_rng(1))
    assert alone.any()


def test_streak_conserves_the_ball() -> None:
    """However long the exposure, the light of a disk is spread and not lost."""
    still = streak(np.full((5, 1, 2), 20.0), np.array([3.0]))
    path = np.stack([np.linspace(20, 60, 81), np.full(81, 20.0)], axis=1)[:, None]
    moving = streak(path, np.array([3.0]))
    assert still.alpha.sum() == pytest.approx(np.pi * 9, rel=0.05)
    assert moving.alpha.sum() == pytest.approx(still.alpha.sum(), rel=0.02)
    assert moving.alpha.max() < 0.3 < still.alpha.max()
