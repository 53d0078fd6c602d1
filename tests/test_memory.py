"""Memory does not grow with the length of a video.  Slow: `make test-slow`.

Run as a script, it prints the figures of the README:

    python -m tests.test_memory
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.runs import start
from tracknet.jobs.benchmark.loop import loop_video
from tracknet.pipeline.models import build
from tracknet.pipeline.models.checkpoint import save_model
from tracknet.pipeline.synth import SynthConfig, write_dataset

FPS = 12.5
MINUTES = (5, 40)
NARROW = {"width": 0.0625, "input_height": 144, "input_width": 256}


def peak_memory(*arguments: object) -> tuple[int, float]:
    """Highest proportional set size of all processes of a run together, bytes; and its seconds."""
    process, peak, started = start(*arguments), 0, time.perf_counter()
    while process.poll() is None:
        total = 0
        family = [psutil.Process(process.pid)]
        try:
            family += family[0].children(recursive=True)
        except psutil.NoSuchProcess:
            break
        for member in family:
            try:
                total += member.memory_full_info().pss  # shared pages count once
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, total)
        time.sleep(0.5)
    assert process.wait() == 0
    return peak, time.perf_counter() - started


def measure(folder: Path) -> dict[int, tuple[int, float]]:
    """Peak memory and seconds by minutes of 720p video.

    With a V5 of width 1/16 that looks at 256x144, so that decoding is the load.
    """
    torch.manual_seed(0)
    weights = folder / "narrow.safetensors"
    save_model(build("v5", NARROW).eval(), weights)
    config = SynthConfig(fps=FPS, frames=(125, 125), sport="tennis", crf=23)
    (clip,) = write_dataset(folder / "clip", 1, 0, config)
    found = {}
    for minutes in MINUTES:
        video = loop_video(clip, folder / f"{minutes}min.mp4", round(minutes * 60 * FPS))
        arguments = ("track", video, "--out", folder / f"out{minutes}", "--weights", weights)
        found[minutes] = peak_memory(*arguments)
    return found


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_video(tmp_path):
    found = measure(tmp_path)
    short, long = (found[minutes][0] for minutes in MINUTES)
    assert long <= 1.15 * short, found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for minutes, (peak, seconds) in measure(Path(name)).items():
            print(
                f"{minutes} min of 720p at {FPS} fps: peak {peak / 2**20:.0f} MiB, {seconds:.0f} s"
            )
