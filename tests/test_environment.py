"""A run needs little of its surroundings, and ends in order when it is told to."""

import os
import resource
import signal
import subprocess

import psutil
import pytest

from tests.runs import ROOT, rows, run, staged, start, tracknet, wait_for
from tests.videos import make_video


@pytest.mark.slow
def test_poor_surroundings(tiny_weights, tmp_path):
    """No home folder, no locale, a dead cluster's address, few open files."""
    make_video(tmp_path / "a.mp4", 31)
    poor = {
        "PATH": os.environ["PATH"],
        "HOME": "/proc/no/home",
        "LC_ALL": "C",
        "RAY_ADDRESS": "127.0.0.1:1",
    }
    done = subprocess.run(
        tracknet("track", tmp_path / "a.mp4", "--out", tmp_path / "out", "--weights", tiny_weights),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=poor,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "out")["a.mp4"]) == 31
    logged = [line for line in done.stderr.splitlines() if "INFO tracknet." not in line]
    assert logged == []


def test_output_that_nobody_reads(tmp_path):
    reader = subprocess.run(
        ["bash", "-c", f"{' '.join(tracknet('models', '--json'))} | head -c 1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (reader.stdout, reader.stderr) == ("[", "")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_in_order(archive, tiny_weights, tmp_path, number, code):
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = ("track", archive, "--out", out, "--weights", tiny_weights)
    process = start(*arguments, log=log)
    wait_for(lambda: staged(out) or list(out.glob("manifests/*.json")))
    shown = run("status", out).stdout.splitlines()[0]
    assert "running" in shown
    assert f"process {process.pid} on" in shown
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(timeout=10) == code
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    ended = run("status", out)
    assert (ended.returncode, "interrupted" in ended.stdout) == (1, True)
    text = log.read_text("utf-8")
    assert "Traceback" not in text
    assert "***" not in text  # of a stack dump
