"""Real files, good and bad, through the decoder process: every frame once, in its place."""

import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.videos import (
    audio_only,
    corrupt,
    draw_frame,
    make_video,
    read_number,
    set_mp4_rotation,
    truncate,
)
from tracknet.jobs.sources import find_sources
from tracknet.pipeline.decoding import decoder as decoder_module
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.decoding.probe import decode_all, list_pictures
from tracknet.pipeline.errors import MachineError, VideoError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.windows import cut_shards

SPEC = WindowSpec(frames=3, targets=(0, 1, 2), height=72, width=128)
VFR = [i * 40 + (i % 3) * 7 for i in range(100)]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecoderLimits(deadline_s=20)) as decoder:
        yield decoder


def read_all(decoder, video, seconds=1e9, width=128, height=72):
    """Frame indices, pictures and reports of a whole video, shard by shard."""
    frames, pictures, missing, reports = [], [], [], []
    for shard in cut_shards(video.keyframe_times(), video.frames, seconds, SPEC, 3):
        reader = decoder.read(video, shard.needed, width, height)
        for batch in reader:
            present = [batch.first + i for i in range(batch.count) if i not in batch.missing]
            for frame, picture in zip(present, batch.pictures.copy(), strict=True):
                if frame in shard.owned:  # what else is needed is the windows' halo
                    frames.append(frame)
                    pictures.append(picture)
            missing += [batch.first + i for i in batch.missing]
        reports.append(reader.report)
    return frames, np.array(pictures), missing, reports


GOOD_FILES = {
    "h264 with B-frames": {"name": "a.mp4", "n": 100},
    "open GOPs": {"name": "a.mp4", "n": 100, "gop": 10, "bframes": 3, "open_gop": True},
    "every frame a keyframe": {"name": "a.mp4", "n": 40, "gop": 1, "bframes": 0},
    "one keyframe": {"name": "a.mp4", "n": 60, "gop": 500},
    "variable frame rate": {"name": "a.mp4", "n": 100, "pts": VFR, "time_base": Fraction(1, 1000)},
    "odd size": {"name": "a.mp4", "n": 20, "width": 130, "height": 74},
    "non-ASCII name": {"name": "Finale – Çelik vs 李.mp4", "n": 20},
    "with sound": {"name": "a.mp4", "n": 30, "audio": True},
    "matroska": {"name": "a.mkv", "n": 50},
    "transport stream": {"name": "a.ts", "n": 50},
    "mpeg-4 part 2": {"name": "a.mp4", "n": 50, "codec": "mpeg4"},
    "avi with B-frames": {"name": "a.avi", "n": 50},
    "a single frame": {"name": "a.mp4", "n": 1},
}


@pytest.mark.parametrize("kind", GOOD_FILES)
@pytest.mark.parametrize("seconds", [1e9, 0.5])
def test_every_frame_comes_once_and_in_its_place(decoder, tmp_path, kind, seconds):
    options = dict(GOOD_FILES[kind])
    path = make_video(tmp_path / options.pop("name"), **options)
    video = decoder.probe(path)
    frames, pictures, missing, reports = read_all(decoder, video, seconds)
    n = options["n"]
    assert video.frames == n == sum(1 for _ in decode_all(path))
    assert frames == list(range(n))
    assert missing == []
    assert [read_number(picture) for picture in pictures] == [i % 256 for i in range(n)]
    assert all(report.damage is None for report in reports)


def test_variable_frame_rate_keeps_the_containers_clock(decoder, tmp_path):
    path = make_video(tmp_path / "v.mp4", 100, pts=VFR, time_base=Fraction(1, 1000))
    video = decoder.probe(path)
    with av.open(str(path)) as container:
        expected = [frame.pts for frame in container.decode(video=0)]
    assert video.pts.tolist() == expected
    np.testing.assert_allclose(np.diff(video.time_s()), np.diff(VFR) / 1000, atol=1e-9)


def test_shards_give_the_very_pixels_of_a_whole_read(decoder, tmp_path):
    path = make_video(tmp_path / "v.mp4", 150, gop=12, bframes=3, open_gop=True)
    video = decoder.probe(path)
    whole = read_all(decoder, video)[1]
    for seconds in (0.3, 1.0):
        np.testing.assert_array_equal(read_all(decoder, video, seconds)[1], whole)


def test_decord_and_pyav_give_the_same_pictures(decoder, tmp_path, monkeypatch):
    path = make_video(tmp_path / "v.mp4", 60, width=256, height=144)
    video = decoder.probe(path)
    _, by_decord, _, (report,) = read_all(decoder, video)
    monkeypatch.setattr(decoder_module, "decord_available", lambda: False)
    _, by_pyav, _, (report_pyav,) = read_all(decoder, video)
    assert (report.decoders, report_pyav.decoders) == (["decord"], ["pyav"])
    difference = np.abs(by_decord.astype(int) - by_pyav)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 4


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("use_decord", [True, False])
def test_rotated_video_is_seen_as_it_is_displayed(
    decoder, tmp_path, monkeypatch, degrees, use_decord
):
    path = make_video(tmp_path / "v.mp4", 12, width=128, height=72)
    set_mp4_rotation(path, degrees)
    monkeypatch.setattr(decoder_module, "decord_available", lambda: use_decord)
    video = decoder.probe(path)
    size = (72, 128) if degrees in (90, 270) else (128, 72)
    assert (video.rotation, video.width, video.height) == (degrees, *size)
    _, pictures, _, _ = read_all(decoder, video, width=size[0], height=size[1])
    expected = np.rot90(draw_frame(5, 128, 72), degrees // 90)
    assert np.abs(pictures[5].astype(int) - expected).mean() < 8


def test_truncated_with_the_index_in_front_gives_what_is_there(decoder, tmp_path):
    path = truncate(make_video(tmp_path / "v.mp4", 100, faststart=True), 0.7)
    video = decoder.probe(path)
    frames, pictures, missing, reports = read_all(decoder, video)
    assert "cut off" in video.damage
    assert 30 < len(frames) < 100
    assert sorted(frames + missing) == list(range(video.frames))
    assert [read_number(p) for p in pictures] == [f % 256 for f in frames]
    assert reports[0].decoders[-1] == "pyav"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: truncate(make_video(p, 100), 0.7), "not a video"),  # its index is gone
        (lambda p: (p.write_text("I am text"), p)[1], "not a video"),
        (lambda p: (p.write_bytes(b""), p)[1], "is empty"),
        (audio_only, "no video stream"),
    ],
    ids=["truncated", "text", "empty", "audio"],
)
def test_what_is_no_video_is_said_to_be_none(decoder, tmp_path, make, message):
    path = make(tmp_path / "bad.mp4")
    with pytest.raises(VideoError, match=message) as error:
        decoder.probe(path)
    assert str(path) in str(error.value)


def test_damage_in_the_middle_is_reported_and_loses_no_sound_frame(decoder, tmp_path):
    path = make_video(tmp_path / "v.mp4", 240, width=320, height=180, gop=24)
    corrupt(path, 0.5, 3000, seed=1)
    video = decoder.probe(path)
    frames, pictures, missing, reports = read_all(decoder, video, seconds=2.0)
    assert sorted(frames + missing) == list(range(240))
    assert any(report.damage for report in reports)
    assert sum(report.damage is None for report in reports) >= 2  # shards without damage
    right = sum(read_number(p) == f % 256 for f, p in zip(frames, pictures, strict=True))
    assert right >= 200  # FFmpeg patches the broken GOP, the others are untouched


def test_a_lying_header_does_not_matter(decoder, tmp_path):
    path = make_video(tmp_path / "v.mp4", 50)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdhd") + 4 + 4 + 8 + 4  # version, times, time scale; then the duration
    data[at : at + 4] = (10**8).to_bytes(4, "big")
    path.write_bytes(data)
    video = decoder.probe(path)
    assert video.frames == 50
    assert video.damage is None
    assert read_all(decoder, video)[0] == list(range(50))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_pictures_in_a_folder_are_a_clip(decoder, tmp_path, suffix):
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}{suffix}"), draw_frame(i, 128, 72)[..., ::-1])
    (tmp_path / f"0{suffix}").write_bytes(b"")
    (tmp_path / f"7{suffix}").write_bytes(b"broken")
    (tmp_path / f"._8{suffix}").write_bytes(b"what macOS leaves")
    assert find_sources([str(tmp_path)]) == [tmp_path]
    video = decoder.probe(tmp_path)
    frames, pictures, missing, reports = read_all(decoder, video)
    assert [path.stem for path in list_pictures(tmp_path)] == [str(i) for i in range(12)]
    assert (video.width, video.height, video.time_s()) == (128, 72, None)
    assert missing == [0, 7]
    assert [read_number(p) for p in pictures] == frames
    assert "2 of its frames" in reports[0].damage


def test_a_picture_cut_short_is_missing(decoder, tmp_path):
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), draw_frame(i, 128, 72)[..., ::-1])
    truncate(tmp_path / "3.jpg", 0.6)
    _, _, missing, reports = read_all(decoder, decoder.probe(tmp_path))
    assert missing == [3]
    assert "1 of its frames" in reports[0].damage


def test_pictures_of_another_size_are_scaled_and_named(decoder, tmp_path):
    for i in range(5):
        size = (64, 36) if i == 2 else (64, 64) if i == 3 else (128, 72)
        cv2.imwrite(str(tmp_path / f"{i}.png"), draw_frame(i, *size)[..., ::-1])
    _, pictures, _, (report,) = read_all(decoder, decoder.probe(tmp_path))
    assert read_number(pictures[2]) == 2
    square = cv2.resize(draw_frame(3, 64, 64), (72, 72))
    assert np.abs(pictures[3][:, 28:100].astype(int) - square).mean() < 8
    assert "2.png is 64x36 px" in report.damage


def test_same_content_has_the_same_fingerprint(decoder, tmp_path):
    path = make_video(tmp_path / "a.mp4", 10)
    copy = tmp_path / "b.mp4"
    copy.write_bytes(path.read_bytes())
    assert decoder.probe(path).video_id == decoder.probe(copy).video_id
    corrupt(copy, 0.5, 1)
    assert decoder.probe(path).video_id != decoder.probe(copy).video_id


def whole(video):
    return range(video.frames)


def test_killed_decoder_is_replaced_and_no_pixel_changes(tmp_path):
    path = make_video(tmp_path / "v.mp4", 150)
    with Decoder() as decoder:
        video = decoder.probe(path)
        expected = read_all(decoder, video)[1]
        reader, pictures = decoder.read(video, whole(video), 128, 72), []
        for batch in reader:
            pictures += list(batch.pictures.copy())
            if batch.first == 48:
                os.kill(decoder.pid, signal.SIGKILL)
    assert reader.report.attempts == 2
    assert reader.report.decoders == ["decord"]
    assert "signal 9" in reader.report.errors[0]
    assert reader.report.damage is None
    np.testing.assert_array_equal(np.array(pictures), expected)


def test_stopped_decoder_is_killed_at_its_deadline(tmp_path):
    path = make_video(tmp_path / "v.mp4", 150)
    with Decoder(DecoderLimits(deadline_s=1.0)) as decoder:
        video = decoder.probe(path)
        reader, n_frames = decoder.read(video, whole(video), 128, 72), 0
        for batch in reader:
            n_frames += batch.count
            if batch.first == 48:
                stopped = decoder.pid
                os.kill(stopped, signal.SIGSTOP)
    assert n_frames == 150
    assert "no progress for 1 s" in reader.report.errors[0]
    assert not Path(f"/proc/{stopped}").exists()


NEVER_ANSWERS = (sys.executable, "-c", "import time; time.sleep(600)")


def test_decoder_that_never_answers_is_given_up(tmp_path):
    path = make_video(tmp_path / "v.mp4", 10)
    with Decoder() as sound:
        video = sound.probe(path)
    with Decoder(DecoderLimits(deadline_s=0.5, start_s=0.5, command=NEVER_ANSWERS)) as decoder:
        with pytest.raises(MachineError, match="no progress"):
            decoder.probe(path)
        with pytest.raises(MachineError, match="no progress"):
            list(decoder.read(video, whole(video), 128, 72))


def test_child_ends_when_its_parent_is_gone(tmp_path):
    decoder = Decoder()
    decoder.probe(make_video(tmp_path / "v.mp4", 10))
    pid = decoder.pid
    decoder._pipe.close()  # what the kernel does when a parent is killed
    deadline = time.monotonic() + 10
    while decoder._process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert decoder._process.poll() is not None, f"process {pid} is still there"
    decoder.close()


def test_memory_limit_ends_the_child_not_the_run(tmp_path):
    path = make_video(tmp_path / "v.mp4", 30)
    with Decoder() as sound:
        video = sound.probe(path)
    with Decoder(DecoderLimits(memory_bytes=40 << 20)) as decoder:
        reader = decoder.read(video, whole(video), 512, 288)
        with pytest.raises(MachineError):  # so little that nothing could be decoded
            list(reader)
