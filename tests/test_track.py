"""The main job on a real Ray: the promise that nothing is lost, tested by killing."""

import contextlib
import json
import os
import signal
import sys

import psutil
import pytest

from jobs.settings import TrackSettings
from jobs.sources import find_sources
from jobs.track import track
from pipeline.decoder import DecoderLimits
from tests.runs import check_one_row_per_frame, descendants, rows, run, start, wait_for
from tests.videos import make_video, truncate

FRAMES = {"long.mp4": 230, "short.mp4": 50, "other.mkv": 61}


@pytest.fixture(scope="module")
def undisturbed(archive, tiny_weights, tmp_path_factory):
    """The rows of a run that nothing disturbs: shards of 20 s, one worker."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = run("track", archive, "--out", out, "--weights", tiny_weights, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_one_row_per_frame(undisturbed):
    out, report = undisturbed
    tables = rows(out)
    check_one_row_per_frame(tables, FRAMES)
    assert report["videos"] == 3
    assert report["frames"] == sum(FRAMES.values())
    assert report["quarantined"] == []
    assert all(table["x_px"].null_count < len(table) for table in tables.values())
    assert not list((out / "staging").glob("*/*"))


def test_running_again_does_nothing(undisturbed, archive, tiny_weights):
    out, _ = undisturbed
    done = run("track", archive, "--out", out, "--weights", tiny_weights, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["frames"], report["skipped"]) == (0, 0, 3)


@pytest.mark.parametrize(("seconds", "workers", "turned"), [(5, 2, True), (60, 1, False)])
def test_rows_do_not_depend_on_shards_workers_or_order(
    undisturbed, archive, tiny_weights, tmp_path, seconds, workers, turned
):
    sources = sorted(archive.rglob("*.m*"), reverse=turned)
    options = ["--shard-seconds", seconds, "--workers", workers, "--weights", tiny_weights]
    done = run("track", *sources, "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == rows(undisturbed[0])


def staged(out):
    return list((out / "staging").glob("*/*.parquet"))


def test_driver_killed_then_resumed(undisturbed, archive, tiny_weights, tmp_path):
    command = ("track", archive, "--out", tmp_path, "--weights", tiny_weights)
    command += ("--shard-seconds", 1)
    victim = start(*command)
    wait_for(lambda: staged(tmp_path) or list((tmp_path / "manifests").glob("*.json")))
    family = descendants(victim, "")
    assert listening(family) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    wait_for(lambda: not any(p.is_running() and "decoder_child" in _words(p) for p in family))
    assert len(rows(tmp_path)) < len(FRAMES)
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] < sum(FRAMES.values())  # it did not start over
    check_one_row_per_frame(rows(tmp_path), FRAMES)
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
    except Exception:
        return ""


@pytest.mark.parametrize(
    "victim",
    ["decoder_child", "DetectStage", pytest.param("DecodeStage", marks=pytest.mark.slow)],
)
def test_worker_killed_in_mid_run(undisturbed, archive, tiny_weights, tmp_path, victim):
    command = ("track", archive, "--out", tmp_path, "--weights", tiny_weights)
    command += ("--shard-seconds", 1)
    driver = start(*command)

    def of_a_worker():  # the driver's own decoder only probes
        found = descendants(driver, victim)
        return [process for process in found if process.ppid() != driver.pid]

    if victim == "DetectStage":
        wait_for(lambda: staged(tmp_path))
    wait_for(of_a_worker)[0].kill()
    assert driver.wait(timeout=240) in (0, 1)
    done = run(*command)
    assert done.returncode == 0, done.stderr
    check_one_row_per_frame(rows(tmp_path), FRAMES)
    assert rows(tmp_path) == rows(undisturbed[0])


def test_broken_files_are_named_and_stop_nothing(tiny_weights, tmp_path):
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_video(inputs / "good.mp4", 40)
    truncate(make_video(inputs / "cut.mp4", 80, faststart=True), 0.7)
    truncate(make_video(inputs / "headless.mp4", 80), 0.7)
    (inputs / "text.mp4").write_text("I am text")
    (inputs / "empty.mp4").write_bytes(b"")
    (inputs / "notes.csv").write_text("not a video, and not meant to be one")
    command = ("track", inputs, "--out", out, "--weights", tiny_weights)
    done = run(*command)
    assert done.returncode == 3, done.stderr
    last = done.stdout.splitlines()[-5:]
    named = {line.split(":")[1].split("/")[-1] for line in last if "not read whole" in line}
    assert named == {"cut.mp4", "headless.mp4", "text.mp4", "empty.mp4"}
    tables = rows(out)
    assert set(tables) == {"good.mp4", "cut.mp4"}
    status = tables["cut.mp4"]["status"].to_pylist()
    assert 20 < len(status) - status.count("undecodable") < 80
    assert tables["cut.mp4"]["visible"].null_count == status.count("undecodable")
    again = run(*command, "--json")
    assert again.returncode == 3
    assert {q["source"].split("/")[-1] for q in json.loads(again.stdout)["quarantined"]} == named


def test_decoder_that_hangs_is_killed_and_quarantined(tiny_weights, tmp_path):
    good = make_video(tmp_path / "in" / "good.mp4", 20)
    hangs = make_video(tmp_path / "in" / "hangs.mp4", 30)
    # A decoder that answers for one file and never for the other.
    double = tmp_path / "double.py"
    double.write_text(
        "import time\n"
        "from pipeline import decoder_child\n"
        "decode = decoder_child._answer\n"
        "def answer(message, channel):\n"
        "    if message['op'] == 'decode' and message['path'].endswith('hangs.mp4'):\n"
        "        channel.arm(0)\n"
        "        time.sleep(600)\n"
        "    decode(message, channel)\n"
        "decoder_child._answer = answer\n"
        "decoder_child.main()\n"
    )
    limits = DecoderLimits(deadline_s=6.0, command=(sys.executable, str(double)))
    settings = TrackSettings(weights=str(tiny_weights), decoder=limits)
    report = track(find_sources([str(good), str(hangs)]), tmp_path / "out", settings)
    (problem,) = report.quarantined
    assert problem["source"] == str(hangs)
    assert problem["attempts"] == 3
    assert "no progress for 6 s" in problem["error"]
    tables = rows(tmp_path / "out")
    check_one_row_per_frame(tables, {"good.mp4": 20, "hangs.mp4": 30})
    assert set(tables["hangs.mp4"]["status"].to_pylist()) == {"undecodable"}
    assert "undecodable" not in tables["good.mp4"]["status"].to_pylist()


def test_other_weights_or_settings_never_mix(undisturbed, archive, tiny_weights):
    out, _ = undisturbed
    before = rows(out)
    done = run("track", archive, "--out", out, "--weights", tiny_weights, "--peak", "contour")
    assert done.returncode == 1
    assert "peak: centroid -> contour" in done.stderr
    assert rows(out) == before


def test_two_runs_cannot_write_to_one_folder(undisturbed, archive, tiny_weights):
    from schemas.store import Store

    out, _ = undisturbed
    with Store(out).lock():
        done = run("track", archive, "--out", out, "--weights", tiny_weights)
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr


def test_real_archive(real_data, tiny_weights, tmp_path):
    import av

    videos = sorted((real_data / "unlabelled").glob("Penguin*.mp4"))  # with an edit list
    done = run("track", *videos, "--out", tmp_path, "--weights", tiny_weights)
    assert done.returncode == 0, done.stdout
    expected = {}
    for path in videos:
        with av.open(str(path)) as container:
            expected[path.name] = sum(1 for _ in container.decode(video=0))
    check_one_row_per_frame(rows(tmp_path), expected)


HEATMAP_MODELS = ("v1", "v2", "v3", "v3_attention", "v4", "v5", "v2_mdd", "v2_rstr")


@pytest.mark.parametrize(
    "arch",
    # The one with a background, whose window is the longest; the others are slow.
    [a if a == "v3" else pytest.param(a, marks=pytest.mark.slow) for a in HEATMAP_MODELS],
)
def test_every_architecture_tracks(tmp_path, arch):
    import torch

    from pipeline.checkpoint import save_model
    from pipeline.models import build

    torch.manual_seed(0)
    weights = tmp_path / f"{arch}.safetensors"
    config = {"width": 0.125, "input_height": 144, "input_width": 256}
    save_model(build(arch, config).eval(), weights)
    clip = make_video(tmp_path / "clip.mp4", 19)
    done = run("track", clip, "--out", tmp_path / "out", "--weights", weights)
    assert done.returncode == 0, done.stderr
    check_one_row_per_frame(rows(tmp_path / "out"), {"clip.mp4": 19})


def test_inpaintnet_is_refused_as_a_tracker(tmp_path):
    from pipeline.checkpoint import save_model
    from pipeline.models import build

    weights = tmp_path / "inpaintnet.safetensors"
    save_model(build("inpaintnet").eval(), weights)
    clip = make_video(tmp_path / "clip.mp4", 5)
    done = run("track", clip, "--out", tmp_path / "out", "--weights", weights)
    assert done.returncode == 2
    assert "finds no ball in pictures" in done.stderr
