"""The promise that nothing is lost, tested by killing: the driver, workers, decoders."""

import contextlib
import json
import os
import signal
import sys
import threading

import psutil
import pytest

from tests.runs import (
    ARCHIVE,
    check_one_row_per_frame,
    descendants,
    rows,
    run,
    share_ray,
    staged,
    start,
    wait_for,
)
from tests.videos import make_video
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.sources import find_sources
from tracknet.jobs.track import track
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits


def test_driver_killed_then_resumed(undisturbed, archive, tiny_weights, tmp_path):
    command = ("track", archive, "--out", tmp_path, "--weights", tiny_weights)
    command += ("--shard-seconds", 4)
    victim = start(*command)
    wait_for(lambda: staged(tmp_path) or list((tmp_path / "manifests").glob("*.json")))
    family = descendants(victim, "")
    needless = ("monitor.py", "dashboard/dashboard.py")  # not started, see `jobs.cluster`
    assert not [process for process in family if any(w in _words(process) for w in needless)]
    assert listening(family) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive  # Ray's agents too
    assert len(rows(tmp_path)) < len(ARCHIVE)
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] < sum(ARCHIVE.values())  # it did not start over
    check_one_row_per_frame(rows(tmp_path), ARCHIVE)
    assert rows(tmp_path) == rows(undisturbed[0])


def listening(processes):
    """Addresses that any of the processes listens on."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("tcp")
            found |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    return found


def _words(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("decoding.child", marks=pytest.mark.slow),
        "DetectStage",
        pytest.param("DecodeStage", marks=pytest.mark.slow),
    ],
)
def test_worker_killed_in_mid_run(undisturbed, archive, tiny_weights, tmp_path, victim):
    command = ("track", archive, "--out", tmp_path, "--weights", tiny_weights)
    command += ("--shard-seconds", 1)
    driver, killed = psutil.Process(), threading.Event()

    def of_a_worker():  # the driver's own decoder only probes
        found = descendants(driver, victim)
        return [process for process in found if process.ppid() != driver.pid]

    def kill():
        if victim == "DetectStage":
            wait_for(lambda: staged(tmp_path))
        wait_for(of_a_worker)[0].kill()
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    assert run(*command).returncode in (0, 1)
    assert killed.is_set()
    done = run(*command)
    assert done.returncode == 0, done.stderr
    check_one_row_per_frame(rows(tmp_path), ARCHIVE)
    assert rows(tmp_path) == rows(undisturbed[0])


@pytest.mark.slow
def test_model_that_dies_at_one_video_is_given_up(tmp_path):
    make_video(tmp_path / "in" / "good.mp4", 20)
    kills = make_video(tmp_path / "in" / "kills.mp4", 30)
    with Decoder() as decoder:
        notes = f".working/detect-{decoder.probe(kills).video_id}-*"
    out, log = tmp_path / "out", tmp_path / "log"
    command = ("track", tmp_path / "in", "--out", out, "--weights", "v5-nano", "--runtime", "torch")
    driver = start(*command, log=log)
    deaths = 0
    while driver.poll() is None:
        models = descendants(driver, "DetectStage")
        begun = max((note.stat().st_size for note in out.glob(notes)), default=0)
        if deaths < begun <= 3:
            deaths = begun
            for model in models:
                model.kill()
    assert (driver.returncode, deaths) == (1, 3)
    reason = "the model failed: its process died 3 times at it"
    assert f"failed (machine): {kills}: frames 0-29: {reason}" in log.read_text()
    assert set(rows(out)) == {"good.mp4"}
    assert run(*command).returncode == 0
    check_one_row_per_frame(rows(out), {"good.mp4": 20, "kills.mp4": 30})


@pytest.mark.slow
def test_decoder_that_hangs_is_killed_and_quarantined(tiny_weights, tmp_path):
    good = make_video(tmp_path / "in" / "good.mp4", 20)
    hangs = make_video(tmp_path / "in" / "hangs.mp4", 30)
    # A decoder that answers for one file and never for the other.
    double = tmp_path / "double.py"
    double.write_text(
        "import time\n"
        "from tracknet.pipeline.decoding import child\n"
        "decode = child._answer\n"
        "def answer(message, payload, channel):\n"
        "    if message['op'] == 'decode' and message['path'].endswith('hangs.mp4'):\n"
        "        channel.arm(0)\n"
        "        time.sleep(600)\n"
        "    decode(message, payload, channel)\n"
        "child._answer = answer\n"
        "child.main()\n"
    )
    limits = DecoderLimits(deadline_s=6.0, command=(sys.executable, str(double)))
    settings = TrackSettings(weights=str(tiny_weights), decoder=limits)
    share_ray()
    report = track(find_sources([str(good), str(hangs)]), tmp_path / "out", settings)
    (problem,) = report.quarantined
    assert problem["source"] == str(hangs)
    assert problem["attempts"] == 3
    assert "no progress for 6 s" in problem["error"]
    tables = rows(tmp_path / "out")
    check_one_row_per_frame(tables, {"good.mp4": 20, "hangs.mp4": 30})
    assert set(tables["hangs.mp4"]["status"].to_pylist()) == {"undecodable"}
    assert "undecodable" not in tables["good.mp4"]["status"].to_pylist()
