"""Status is read from the folder alone, while a run goes on and after it ended in any way."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from tests.bookkeeping import TWO_IDS, two_results
from tests.runs import ARCHIVE, run, staged, start, wait_for
from tracknet.jobs.status import read_status
from tracknet.pipeline.errors import InputError
from tracknet.schemas.store import Store


def test_the_last_line_is_that_of_inspect(undisturbed):
    out, _ = undisturbed
    shown = run("status", out, "--watch")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1] in run("inspect", out).stdout.splitlines()


@pytest.mark.slow
def test_a_run_is_followed_to_its_end(archive, tiny_weights, tmp_path):
    out = tmp_path / "out"
    begun = start("track", archive, "--out", out, "--weights", tiny_weights, "--shard-seconds", 1)
    wait_for(lambda: staged(out) or list(out.glob("manifests/*.json")))
    watched = run("status", out, "--watch", "--every", 0.5)
    assert begun.wait(timeout=60) == 0
    lines = watched.stdout.splitlines()
    assert "running" in lines[0]
    assert f"process {begun.pid}" in lines[0]
    assert f"of {len(ARCHIVE)} videos" in lines[1]
    assert "done" in lines[-3]
    frames = sum(ARCHIVE.values())
    assert f"{frames} of {frames} frames (100.0%)" in lines[-2]
    assert lines[-1] in run("inspect", out).stdout.splitlines()


@pytest.fixture
def store(tmp_path):
    return Store(two_results(tmp_path))


def row(status, started, frames=0, wall_s=None):
    return {"run_id": f"{started:%Y%m%dT%H%M%S}-abcdef", "status": status, "started": started,
            "finished": None, "result_key": "", "weights": "", "weights_hash": "", "settings": "",
            "versions": "", "videos": 0, "videos_skipped": 0, "videos_quarantined": 0,
            "frames": frames, "frames_detected": 0, "wall_s": wall_s, "decode_s": 0.0,
            "model_s": 0.0, "commit_s": 0.0}  # fmt: skip


def test_a_run_that_nobody_holds_is_dead(store):
    assert read_status(store).state == "none"
    assert run("status", store.root).stdout.startswith("no run yet")
    begun = datetime.now(UTC) - timedelta(seconds=100)
    third = {**store.read_video(TWO_IDS[0]), "video_id": "c" * 32, "frames": 1000}
    with store.lock():
        store.write_video(third)
        store.write_run(row("running", begun, frames=500))
        found = read_status(store)
    assert (found.state, found.holder["process"]) == ("running", os.getpid())
    assert (found.videos, found.videos_left) == (2, 1)
    assert (found.frames, found.frames_left) == (10, 1000)
    assert found.rate == pytest.approx(5, rel=0.05)
    assert found.left_s == pytest.approx(200, rel=0.05)
    dead = run("status", store.root, "--json")
    assert dead.returncode == 1
    assert json.loads(dead.stdout)["state"] == "dead"
    with store.lock():
        store.write_run(row("done", begun + timedelta(seconds=1), frames=500, wall_s=50.0))
    assert run("status", store.root).returncode == 0
    assert read_status(store).rate == 10


def test_what_is_no_results_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a results folder"):
        read_status(Store(tmp_path))
