"""The machine's trouble is not the video's, and an answer belongs to its question."""

import os
import signal
import sys

import cv2
import psutil
import pytest

from tests.videos import corrupt, draw_frame, make_video, read_number
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.decoding.probe import probe
from tracknet.pipeline.errors import DecodeTimeout, MachineError


def read_all(decoder, video):
    reader = decoder.read(video, range(video.frames), 128, 72)
    return [read_number(picture) for batch in reader for picture in batch.pictures], reader.report


def test_complaints_are_counted_afresh_for_each_request(tmp_path):
    first = corrupt(make_video(tmp_path / "a.mp4", 60), 0.5, 300)
    second = corrupt(make_video(tmp_path / "b.mp4", 50), 0.6, 100)
    with Decoder(DecoderLimits(backend="pyav")) as decoder:
        alone = read_all(decoder, decoder.probe(second))[1]
    with Decoder(DecoderLimits(backend="pyav")) as decoder:
        assert read_all(decoder, decoder.probe(first))[1].damage
        pid = decoder.pid
        behind = read_all(decoder, decoder.probe(second))[1]
        assert decoder.pid == pid
    assert alone.damage is not None
    assert behind == alone


def test_an_abandoned_reader_leaves_nothing_behind(tmp_path):
    one, two = make_video(tmp_path / "a.mp4", 150), make_video(tmp_path / "b.mp4", 20)
    with Decoder() as decoder:
        video = decoder.probe(one)
        for _ in decoder.read(video, range(150), 128, 72):
            break
        pid = decoder.pid
        assert decoder.probe(two).frames == 20
        for _ in decoder.read(video, range(150), 128, 72):
            break
        assert read_all(decoder, decoder.probe(two))[0] == list(range(20))
        assert decoder.pid == pid


HALF_A_MESSAGE = (
    sys.executable,
    "-c",
    "import json, os, sys, time; fd = json.loads(sys.argv[1])['pipe_fd'];"
    "os.write(fd, (1000).to_bytes(4, 'big') + b'{'); time.sleep(600)",
)


def test_half_a_message_is_not_waited_for(tmp_path):
    limits = DecoderLimits(deadline_s=0.5, start_s=0.5, command=HALF_A_MESSAGE)
    with Decoder(limits) as decoder, pytest.raises(MachineError, match="start: no progress"):
        decoder.probe(tmp_path)


def test_the_search_path_of_modules_is_extended(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Decoder() as decoder:
        decoder.probe(make_video(tmp_path / "v.mp4", 3))
        environment = psutil.Process(decoder.pid).environ()
    assert environment["PYTHONPATH"].split(os.pathsep)[1:] == [str(tmp_path)]


def test_a_probe_that_hangs_is_the_videos_fault(tmp_path):
    path = make_video(tmp_path / "v.mp4", 3)
    with Decoder(DecoderLimits(deadline_s=1)) as decoder:
        decoder.probe(path)
        os.kill(decoder.pid, signal.SIGSTOP)
        with pytest.raises(DecodeTimeout, match=r"v\.mp4: no progress"):
            decoder.probe(path)


@pytest.mark.parametrize("command", [("false",), ("/nowhere/python",)])
def test_a_decoder_that_does_not_start_is_the_machines_fault(tmp_path, command):
    path = make_video(tmp_path / "v.mp4", 3)
    with Decoder(DecoderLimits(command=command)) as decoder, pytest.raises(MachineError):
        decoder.probe(path)


def test_a_file_that_is_not_there_is_the_machines_fault(tmp_path):
    with Decoder() as decoder, pytest.raises(MachineError, match=r"gone\.mp4: no such file"):
        decoder.probe(tmp_path / "gone.mp4")


def test_a_file_that_grows_while_it_is_probed(tmp_path):
    path = make_video(tmp_path / "v.ts", 30)
    whole = path.read_bytes()

    def grow():
        path.write_bytes(whole + b"more")

    with pytest.raises(MachineError, match="still being written"):
        probe(path, heartbeat=grow)


def vanish(path):
    path.unlink()


def become_another(path):
    corrupt(path, 0.1, 5000)


@pytest.mark.parametrize("trouble", [vanish, become_another])
@pytest.mark.parametrize("seekable", [True, False])
def test_a_file_that_is_not_what_was_probed(tmp_path, trouble, seekable):
    path = make_video(tmp_path / ("v.mp4" if seekable else "v.h264"), 60)
    with Decoder() as decoder:
        video = decoder.probe(path)
        trouble(path)
        reader = decoder.read(video, range(60), 128, 72)
        with pytest.raises(MachineError, match=path.name):
            list(reader)
    assert reader.report.damage is None


def test_a_picture_that_vanished(tmp_path):
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.png"), draw_frame(i, 128, 72)[..., ::-1])
    with Decoder() as decoder:
        video = decoder.probe(tmp_path)
        (tmp_path / "7.png").unlink()
        reader = decoder.read(video, range(12), 128, 72)
        with pytest.raises(MachineError, match="changed"):
            list(reader)


def test_a_decoder_that_is_killed_each_time_is_the_machines_fault(tmp_path):
    path = make_video(tmp_path / "v.mp4", 150)
    with Decoder() as decoder:
        reader = decoder.read(decoder.probe(path), range(150), 128, 72)

        def kill_at_each_batch():
            for _ in reader:
                os.kill(decoder.pid, signal.SIGKILL)

        with pytest.raises(MachineError, match="signal 9"):
            kill_at_each_batch()
    assert reader.report.damage is None
    assert reader.report.attempts == 3


def test_damage_is_the_videos_fault(tmp_path):
    path = corrupt(make_video(tmp_path / "v.mp4", 60), 0.4, 3000)
    with Decoder() as decoder:
        assert read_all(decoder, decoder.probe(path))[1].damage
