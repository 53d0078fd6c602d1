"""A real cluster on this machine: submit, follow, stop, resume."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from tests.runs import check_one_row_per_frame, rows, run, staged, start, wait_for
from tests.videos import make_video
from tracknet.jobs import NO_METRICS
from tracknet.jobs.meters import exported

FRAMES = 2400  # so long that a job cannot end before a busy machine has stopped it


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def metrics():
    """Address of the cluster's metrics."""
    return f"http://127.0.0.1:{free_port()}/metrics"


@pytest.fixture(scope="module")
def cluster(metrics, tmp_path_factory):
    """`ray start --head` on the loopback interface; yields the job server's address."""
    port, dashboard, agent = free_port(), free_port(), free_port()
    ray = os.path.join(os.path.dirname(sys.executable), "ray")  # noqa: PTH118, PTH120
    # As in an activated environment: a job's `python` is the one that the cluster finds.
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"  # noqa: PTH120
    environment = {name: text for name, text in os.environ.items() if name not in NO_METRICS}
    environment |= {"PATH": path, "RAY_metrics_report_interval_ms": "1000"}
    command = [
        *(ray, "start", "--head", "--block", "--num-cpus=3", "--node-ip-address=127.0.0.1"),
        *(f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
        # Its fixed default may be taken by a Ray of another test that runs beside this one.
        f"--dashboard-agent-listen-port={agent}",
        f"--metrics-export-port={metrics.split(':')[2].split('/')[0]}",
        "--object-store-memory=500000000",
    ]
    # In a process group of its own: `ray stop` would stop every other Ray of this machine too.
    log = (tmp_path_factory.mktemp("cluster") / "log").open("w")
    head = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    address = f"http://127.0.0.1:{dashboard}"
    wait_for(lambda: run("jobs", "list", "--address", address).returncode == 0)
    yield address
    os.killpg(head.pid, signal.SIGKILL)  # SIGTERM waits half a minute for the dashboard
    head.wait(timeout=60)
    log.close()


@pytest.mark.slow
def test_a_job_ends_like_the_command(cluster, metrics, tiny_weights, tmp_path, monkeypatch):
    # An address in the environment must not win over the one on the command line.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    make_video(tmp_path / "in/a.mp4", FRAMES // 8, 320, 180, gop=30)
    (tmp_path / "in/bad.mp4").write_text("no video")
    out = tmp_path / "out"
    command = ("track", tmp_path / "in", "--out", out, "--weights", tiny_weights)
    seen, ended = {}, threading.Event()
    watcher = threading.Thread(target=watch, args=(metrics, seen, ended))
    watcher.start()
    done = run(*command, "--address", cluster)
    ended.set()
    watcher.join()
    assert done.returncode == 3, done.stdout + done.stderr  # the job's own exit code
    assert f"cluster {cluster}" in done.stderr
    assert "bad.mp4" in done.stdout.splitlines()[-1]
    check_one_row_per_frame(rows(out), {"a.mp4": FRAMES // 8})
    assert set(seen) == exported()
    assert 0 < seen["ray_tracknet_model_frames_total"] <= FRAMES // 8
    assert 0 < seen["ray_tracknet_model_seconds_total"] < 60
    assert seen["ray_tracknet_quarantined"] == 1
    assert seen["ray_tracknet_frames_done"] + seen["ray_tracknet_frames_left"] == FRAMES // 8
    job_id = re.search(r"job (\w+)", done.stderr).group(1)
    log = run("jobs", "logs", job_id, "--address", cluster).stdout
    assert "1 videos tracked" in log
    failed = run("jobs", "status", "nobody", "--address", cluster)
    assert failed.returncode == 1
    assert "no job nobody" in failed.stderr


def watch(address, seen, ended):
    """Keep in `seen` what Prometheus would read last, by name."""
    while not ended.wait(0.5):
        with contextlib.suppress(OSError):
            page = urllib.request.urlopen(address, timeout=5).read().decode()
            for name, value in re.findall(r"^(ray_tracknet_\w+)\{.*\} (\S+)$", page, re.MULTILINE):
                seen[name] = float(value)


@pytest.mark.slow
def test_a_job_stops_and_resumes(cluster, tiny_weights, tmp_path):
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_video(inputs / "long.mp4", FRAMES, width=320, height=180, gop=30)
    command = ("track", inputs, "--out", out, "--weights", tiny_weights)
    command += ("--shard-seconds", 1, "--address", cluster)

    client = start(*command, log=tmp_path / "client.log")
    # An earlier job may be listed too.
    job = wait_for(lambda: re.search(r"job (\w+)", (tmp_path / "client.log").read_text())).group(1)
    wait_for(lambda: staged(out))
    stopped = run("jobs", "stop", job, "--address", cluster)
    assert stopped.stdout.strip() == "STOPPED"
    assert client.wait(timeout=60) == 1
    assert run("jobs", "status", job, "--address", cluster).stdout.startswith("STOPPED")
    listed = json.loads(run("jobs", "list", "--address", cluster, "--json").stdout)
    assert job in str(listed)
    assert not rows(out)

    resumed = run(*command)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    check_one_row_per_frame(rows(out), {"long.mp4": FRAMES})
    frames = int(re.search(r"(\d+) frames, ball", resumed.stdout).group(1))
    assert frames < FRAMES  # what was staged before the stop was kept
