"""Which picture a row is of, and when it was: every way in which files make that hard."""

from fractions import Fraction

import numpy as np
import pytest

from tests.videos import cut, join, make_video, read_number, side_by_side, truncate
from tracknet.pipeline.decoding import decoder as decoder_module
from tracknet.pipeline.decoding.decoder import Decoder


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


def numbers(decoder, video, frames=None):
    """The numbers on the pictures of some frames (all by default), which all decode."""
    reader = decoder.read(video, frames or range(video.frames), 128, 72)
    found = [read_number(picture) for batch in reader for picture in batch.pictures]
    assert (reader.report.missing, reader.report.damage) == ([], None)
    return found


@pytest.fixture(scope="module")
def open_gops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    options = {"gop": 20, "bframes": 3, "open_gop": True}
    return {
        codec: make_video(folder / f"{codec}.mp4", 60, codec=codec, **options)
        for codec in ("libx264", "libx265")
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_an_edit_list_that_begins_within_an_open_gop(decoder, tmp_path, open_gops, codec, suffix):
    path = cut(open_gops[codec], tmp_path / f"cut{suffix}", first=20, shown_from=27)
    video = decoder.probe(path)
    assert video.frames == 33
    assert not video.paired
    assert numbers(decoder, video) == list(range(27, 60))
    assert numbers(decoder, video, range(20, 33)) == list(range(47, 60))
    assert video.time_s()[0] == 0


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mkv"), ("libx265", ".mkv"), ("libx265", ".ts")]
)
def test_a_recording_that_begins_within_an_open_gop(decoder, tmp_path, open_gops, codec, suffix):
    path = cut(open_gops[codec], tmp_path / f"cut{suffix}", first=20, shown_from=20)
    video = decoder.probe(path)
    found = numbers(decoder, video)
    assert found == list(range(60 - len(found), 60))
    assert len(found) == video.frames >= 40


def test_two_recordings_with_one_clock(decoder, tmp_path):
    part = make_video(tmp_path / "a.ts", 20)
    video = decoder.probe(join(tmp_path / "v.ts", part, part))
    assert numbers(decoder, video) == [*range(20), *range(20)]
    times = video.time_s()
    np.testing.assert_array_equal(times[20:], times[:20])
    np.testing.assert_allclose(np.diff(times[:20]), 1 / 30, atol=1e-4)
    assert video.damage is None
    assert "clock goes back" in video.note


@pytest.mark.parametrize("start_s", [0.4, 5.0, 80_000.0])
def test_two_recordings_whose_clocks_overlap(decoder, tmp_path, start_s):
    base = Fraction(1, 90_000)
    times = [[round((first + i / 30) / base) for i in range(24)] for first in (start_s, 0.1)]
    parts = [make_video(tmp_path / f"{k}.ts", 24, pts=times[k], time_base=base) for k in range(2)]
    video = decoder.probe(join(tmp_path / "v.ts", *parts))
    assert numbers(decoder, video) == [*range(24), *range(24)]
    found = video.time_s()
    expected = np.concatenate([decoder.probe(part).time_s() for part in parts])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_size_changes_in_the_middle(decoder, tmp_path):
    small = make_video(tmp_path / "b.ts", 20, 64, 36)
    video = decoder.probe(join(tmp_path / "v.ts", make_video(tmp_path / "a.ts", 20), small))
    assert (video.width, video.height, video.damage) == (128, 72, None)
    assert numbers(decoder, video) == [*range(20), *range(20)]


@pytest.mark.parametrize(("codec", "container"), [("libx264", "h264"), ("libx265", "hevc")])
def test_a_raw_stream_has_no_clock(decoder, tmp_path, codec, container):
    path = make_video(tmp_path / f"v.{container}", 30, codec=codec, container=container)
    video = decoder.probe(path)
    assert numbers(decoder, video) == list(range(30))
    assert (video.time_s(), video.duration_s, video.damage) == (None, None, None)
    assert "no clock" in video.note


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize("use_decord", [True, False])
def test_the_clock_of_an_avi_is_its_frame_rate(
    decoder, tmp_path, monkeypatch, codec, bframes, use_decord
):
    monkeypatch.setattr(decoder_module, "decord_available", lambda: use_decord)
    video = decoder.probe(make_video(tmp_path / "v.avi", 50, codec=codec, bframes=bframes))
    assert numbers(decoder, video) == list(range(50))
    np.testing.assert_allclose(np.diff(video.time_s()), 1 / 30, atol=1e-6)
    assert 0 <= video.time_s()[0] < 2 / 30


def test_the_default_video_stream_is_taken(decoder, tmp_path):
    other = make_video(tmp_path / "other.mp4", 10, 64, 64)
    wanted = make_video(tmp_path / "wanted.mp4", 30)
    path = side_by_side(tmp_path / "v.mp4", other, wanted, default=1)
    video = decoder.probe(path)
    assert (video.width, video.height) == (128, 72)
    assert numbers(decoder, video) == list(range(30))


@pytest.mark.parametrize("name", ["v.mkv", "v.webm", "v.ts"])
@pytest.mark.parametrize("kept", [1.0, 0.9, 0.5])
def test_a_file_cut_short_is_named(decoder, tmp_path, name, kept):
    codec = "libvpx" if name == "v.webm" else "libx264"
    video = decoder.probe(truncate(make_video(tmp_path / name, 60, codec=codec), kept))
    if kept == 1:
        assert (video.damage, video.frames) == (None, 60)
    else:
        assert "cut off" in video.damage
        assert video.frames < 60
