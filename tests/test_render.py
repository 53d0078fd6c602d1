"""`pipeline.pictures.render`: the right mark on the right frame, at the right time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.videos import (
    audio_only,
    ball_position,
    corrupt,
    draw_frame,
    make_video,
    read_number,
    truncate,
)
from tracknet.pipeline.errors import InputError, MachineError, VideoError
from tracknet.pipeline.pictures.encode import EncodeConfig
from tracknet.pipeline.pictures.render import BallRow, decode_upright, draw_tail, render, snapshot

SIZE = (128, 72)
SHARP = EncodeConfig(crf=2)
"""So that what has changed is what was drawn, and no trace of compression."""


def times(path: Path) -> tuple[Fraction, list[int]]:
    with av.open(str(path)) as container:
        return container.streams.video[0].time_base, [f.pts for f in container.decode(video=0)]


def pictures(path: Path) -> list[np.ndarray]:
    return [shown.picture for shown in decode_upright(path)]


def rows_without_ball(n: int) -> list[BallRow]:
    return [BallRow(i, None, None) for i in range(n)]


def test_timing_of_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    pts = [1000 + 3003 * i + 500 * (i % 4) for i in range(20)]
    video = make_video(tmp_path / "in.mp4", 20, pts=pts, time_base=Fraction(1, 90_000), audio=True)
    assert render(video, rows_without_ball(20), tmp_path / "out.mp4") == 20
    assert times(tmp_path / "out.mp4") == times(video)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_frames_stay_in_order_and_progress_is_told(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4", 15)
    told: list[int] = []
    render(video, [], tmp_path / "out.mp4", on_progress=told.append)
    assert told == list(range(1, 16))
    assert [read_number(picture) for picture in pictures(tmp_path / "out.mp4")] == list(range(15))


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_marks_follow_the_picture_as_shown(tmp_path: Path, rotation: int) -> None:
    video = make_video(tmp_path / "in.mp4", 8, 160, 96, rotation=rotation)
    upright = pictures(video)
    assert upright[0].shape[:2] == ((160, 96) if rotation % 180 else (96, 160))
    turned = [np.rot90(draw_frame(i, 160, 96), rotation // 90 % 4) for i in range(8)]
    assert np.abs(upright[5].astype(int) - turned[5]).mean() < 8
    # The brightest yellow of the turned frame is the disk: mark it, and see the mark there.
    rows = [BallRow(i, *centre_of_disk(turned[i]), score=1.0) for i in range(8)]
    render(video, rows, tmp_path / "out.mp4", tail_frames=0, info=False, config=SHARP)
    for before, after, row in zip(upright, pictures(tmp_path / "out.mp4"), rows, strict=True):
        changed = np.argwhere(np.abs(before.astype(int) - after).sum(axis=2) > 120)
        assert row.place is not None
        assert changed.mean(axis=0) == pytest.approx(row.place[::-1], abs=2.0)


def centre_of_disk(picture: np.ndarray) -> tuple[float, float]:
    yellow = (picture[..., 0].astype(int) - picture[..., 2]) > 180
    y, x = np.argwhere(yellow).mean(axis=0)
    return float(x), float(y)


def test_rows_are_matched_by_frame(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4", 12, bframes=0)
    # Frame 6 has no row, and rows go on past the end.
    rows = [BallRow(i, 20.0 + 5 * i, 50.0) for i in range(14) if i != 6]
    before = pictures(video)
    assert render(video, rows, tmp_path / "out.mp4", tail_frames=0, info=False, config=SHARP) == 12
    for i, after in enumerate(pictures(tmp_path / "out.mp4")):
        changed = np.argwhere(np.abs(before[i].astype(int) - after).sum(axis=2) > 120)
        if i == 6:
            assert len(changed) == 0
        else:
            assert changed.mean(axis=0) == pytest.approx((50, 20 + 5 * i), abs=2.0)


def test_damaged_videos_give_what_decodes(tmp_path: Path) -> None:
    video = truncate(make_video(tmp_path / "in.mp4", 60, faststart=True), 0.6)
    n = render(video, rows_without_ball(60), tmp_path / "out.mp4")
    assert 5 < n < 60
    video = corrupt(make_video(tmp_path / "hit.mp4", 60), 0.4, 300)
    assert render(video, rows_without_ball(60), tmp_path / "out.mp4") > 20


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path in (text, audio_only(tmp_path / "sound.mp4")):
        with pytest.raises(VideoError, match=path.name):
            render(path, [], tmp_path / "out.mp4")
    with pytest.raises(MachineError, match=r"missing\.mp4"):
        render(tmp_path / "missing.mp4", [], tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_settings_are_checked(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4", 3)
    with pytest.raises(InputError, match="tail_frames"):
        render(video, [], tmp_path / "out.mp4", tail_frames=-1)
    with pytest.raises(InputError, match="max_height"):
        render(video, [], tmp_path / "out.mp4", max_height=1)
    with pytest.raises(InputError, match="the video itself"):
        render(video, [], video)


def test_max_height_shrinks_and_odd_sizes_work(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4", 3, 131, 75, codec="mpeg4")
    render(video, [BallRow(0, 65.0, 37.0, 0.5)], tmp_path / "full.mp4")
    assert pictures(tmp_path / "full.mp4")[0].shape == (76, 132, 3)
    render(video, [], tmp_path / "small.mp4", max_height=50)
    assert pictures(tmp_path / "small.mp4")[0].shape == (50, 88, 3)


def test_a_folder_of_pictures_is_a_video(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i:04d}.png"), draw_frame(i, *SIZE)[..., ::-1])
    assert render(folder, rows_without_ball(4), tmp_path / "out.mp4") == 4
    assert [read_number(picture) for picture in pictures(tmp_path / "out.mp4")] == [0, 1, 2, 3]


def test_tail_fades_and_breaks_at_gaps() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    draw_tail(picture, [(10, 50), (50, 50), None, (100, 50), (140, 50), (180, 50)])
    red = picture[50, :, 0].astype(int)
    assert red[30] < red[120] < red[160]
    assert red[75] == 0
    assert red[30] > 0
    draw_tail(picture, [])  # nothing to draw is no error


@pytest.mark.parametrize("background", ["last", "median"])
def test_snapshot_shows_every_place(tmp_path: Path, background: str) -> None:
    video = make_video(tmp_path / "in.mp4", 60, 320, 180)
    rows = [BallRow(i, *ball_position(i, 320, 180)) for i in range(60)]
    rows[10] = BallRow(10, None, None)
    snapshot(video, rows, tmp_path / "rally.png", background=background)  # type: ignore[arg-type]
    picture = cv2.imread(str(tmp_path / "rally.png"))[..., ::-1].astype(int)
    assert picture.shape == (180, 320, 3)
    early, late = rows[2].place, rows[50].place
    assert early is not None
    assert late is not None
    violet = picture[round(early[1]), round(early[0])]
    yellow = picture[round(late[1]), round(late[0])]
    assert violet[2] > violet[1]
    assert yellow[0] > 200 > yellow[2]
    with pytest.raises(VideoError, match="trajectory"):
        snapshot(video, [], tmp_path / "none.png")
    with pytest.raises(InputError, match=r"\.png"):
        snapshot(video, rows, tmp_path / "rally.tiff")
