"""`pictures.encode`: every frame at its time, odd sizes, nothing left behind by a failure."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import draw_frame, read_number
from tracknet.pipeline.errors import InputError, VideoError
from tracknet.pipeline.pictures.encode import EncodeConfig, VideoWriter


def decode(path: Path) -> tuple[Fraction, list[int], list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        return container.streams.video[0].time_base, [frame.pts for frame in frames], pictures


@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        (None, list(range(30))),
        (Fraction(1, 15_360), [512 * i for i in range(30)]),
        (Fraction(1, 90_000), [1000 + 3003 * i + 400 * (i % 5) for i in range(30)]),
    ],
    ids=["frames", "constant", "variable, not from 0"],
)
def test_timestamps_come_back_as_given(
    tmp_path: Path, time_base: Fraction | None, pts: list[int], bframes: int
) -> None:
    config = EncodeConfig(gop=10, bframes=bframes)
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 128, 72, time_base=time_base, config=config) as video:
        for i, time in enumerate(pts):
            video.write(draw_frame(i, 128, 72), pts=time)
    stored_base, stored, pictures = decode(path)
    assert stored_base == (time_base or Fraction(1, 30))
    assert stored == pts
    assert [read_number(picture) for picture in pictures] == list(range(30))


def test_without_pts_frames_follow_at_the_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 64, 48, fps=25, time_base=Fraction(1, 1000)) as video:
        for i in range(4):
            video.write(draw_frame(i, 64, 48))
    assert decode(path)[1] == [0, 40, 80, 120]


def test_odd_size_gains_a_column_and_a_row_and_moves_nothing(tmp_path: Path) -> None:
    picture = draw_frame(5, 131, 75)
    path = tmp_path / "odd.mp4"
    with VideoWriter(path, 131, 75, config=EncodeConfig(crf=1)) as video:
        video.write(picture)
    (stored,) = decode(path)[2]
    assert stored.shape == (76, 132, 3)
    assert np.abs(stored[:75, :131].astype(int) - picture).mean() < 5


def test_gop_is_the_distance_of_keyframes(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 64, 48, config=EncodeConfig(gop=5)) as video:
        for i in range(20):
            video.write(draw_frame(i, 64, 48))
    with av.open(str(path)) as container:
        keys = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys == [0, 5, 10, 15]


def test_wrong_picture_and_wrong_time_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
        video.write(draw_frame(0, 64, 48), pts=7)
        with pytest.raises(InputError, match=r"uint8 \[48, 64, 3\], got uint8 \[64, 48, 3\]"):
            video.write(draw_frame(0, 48, 64))
        with pytest.raises(InputError, match="pts 7 follows 7"):
            video.write(draw_frame(1, 64, 48), pts=7)
    with pytest.raises(InputError, match="0x48"):
        VideoWriter(tmp_path / "out.mp4", 0, 48)
    with pytest.raises(InputError, match="crf"):
        EncodeConfig(crf=99)


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
            video.write(draw_frame(0, 64, 48))
            raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_no_pictures_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no picture"), VideoWriter(tmp_path / "o.mp4", 64, 48):
        pass
    assert list(tmp_path.iterdir()) == []


def test_unknown_container_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"\.mp4"),
        VideoWriter(tmp_path / "out.nonsense", 64, 48),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
