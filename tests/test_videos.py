"""The files that other tests rely on are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import (
    audio_only,
    corrupt,
    draw_frame,
    make_video,
    read_number,
    truncate,
)


def numbers(path: Path) -> list[int]:
    """Numbers of the frames that decode, up to the first packet that does not."""
    found: list[int] = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                found.append(read_number(frame.to_ndarray(format="rgb24")))
        except av.FFmpegError:
            pass
    return found


@pytest.mark.parametrize("i", [0, 1, 777, 4095])
def test_number_is_read_back(i: int) -> None:
    assert read_number(draw_frame(i, 96, 54)) == i


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"open_gop": True, "bframes": 3},
        {"codec": "mpeg4", "bframes": 0},
        {"width": 131, "height": 75},
        {"codec": "mpeg4", "width": 131, "height": 75},
        {"audio": True},
        {"faststart": True},
    ],
    ids=str,
)
def test_every_frame_decodes_in_order(tmp_path: Path, options: dict) -> None:
    path = make_video(tmp_path / "clip.mp4", 30, **options)
    assert numbers(path) == list(range(30))


def test_matroska(tmp_path: Path) -> None:
    assert numbers(make_video(tmp_path / "clip.mkv", 30)) == list(range(30))


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_is_what_the_decoder_reports(tmp_path: Path, degrees: int) -> None:
    path = make_video(tmp_path / "clip.mp4", 3, rotation=degrees, audio=True)
    with av.open(str(path)) as container:
        turns = {frame.rotation for frame in container.decode(video=0)}
    assert {turn % 360 for turn in turns} == {degrees % 360}


def test_truncated_file_opens_only_with_the_index_in_front(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "a.mp4", 60, faststart=True)
    kept = numbers(truncate(whole, 0.6))
    assert kept == list(range(len(kept)))
    assert 5 < len(kept) < 60
    with pytest.raises(av.InvalidDataError):
        numbers(truncate(make_video(tmp_path / "b.mp4", 60), 0.6))


def test_corruption_keeps_the_size_and_is_repeatable(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 60)
    before = np.frombuffer(path.read_bytes(), np.uint8)
    after = np.frombuffer(corrupt(path, 0.5, 200, seed=1).read_bytes(), np.uint8)
    changed = np.flatnonzero(before != after)
    assert before.size == after.size
    assert 150 < changed.size <= 200
    assert changed.min() >= before.size // 2
    again = make_video(tmp_path / "b.mp4", 60)
    assert corrupt(again, 0.5, 200, seed=1).read_bytes() == path.read_bytes()


def test_audio_only_has_no_picture(tmp_path: Path) -> None:
    with av.open(str(audio_only(tmp_path / "a.mp4"))) as container:
        assert not container.streams.video
        assert container.streams.audio
