"""What many small files cost: seconds per file and memory of the driver, for archives of any size.

    python -m tests.growth --files 1000 --files 10000

Each archive holds videos of 6 frames with different contents, tracked by a small random model; the
command runs in a process of its own.  Prints one JSON line per archive.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import click
import psutil
import torch

from tests.runs import ROOT, tracknet
from tests.videos import make_video
from tracknet.pipeline.models import build
from tracknet.pipeline.models.checkpoint import save_model
from tracknet.schemas.store import Store

FRAMES = 6


def make_archive(folder: Path, files: int) -> None:
    """Copies of one video, told apart by a number in an MP4 box that players skip."""
    video = make_video(folder / "template.mp4", FRAMES, 64, 48, gop=6)
    content = video.read_bytes()
    video.unlink()
    for number in range(files):
        box = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (folder / f"{number:06d}.mp4").write_bytes(content + box)


def measure(folder: Path, weights: Path, files: int) -> dict[str, float]:
    """Track an archive of so many files, and again when nothing is left to do."""
    (folder / "in").mkdir(parents=True)
    make_archive(folder / "in", files)
    command = tracknet("track", folder / "in", "--out", folder / "out", "--weights", weights,
                       "--runtime", "torch", "--json")  # fmt: skip
    report, memory, wall = _run(command)
    assert report["videos"] == files, report
    again, _, resumed = _run(command)
    assert again["skipped"] == files, again
    store = Store(folder / "out")
    started = time.perf_counter()
    assert len(store.manifests()) == files
    return {
        "files": files,
        "plan_ms_per_file": 1000 * report["seconds"]["start"] / files,
        "commit_ms_per_file": 1000 * report["seconds"]["commit"] / files,
        "wall_ms_per_file": 1000 * wall / files,
        "resume_ms_per_file": 1000 * resumed / files,
        "manifests_ms_per_file": 1000 * (time.perf_counter() - started) / files,
        "driver_mb": memory / 1e6,
        "wall_s": wall,
    }


def _run(command: list[str]) -> tuple[dict[str, object], int, float]:
    """The report of a run, the most memory that its driver had, and seconds."""
    started, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as output:
        driver = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, cwd=ROOT)
        process = psutil.Process(driver.pid)
        while driver.poll() is None:
            try:
                most = max(most, process.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.5)
        driver.wait()
        seconds = time.perf_counter() - started
        output.seek(0)
        return json.loads(output.read()), most, seconds


@click.command()
@click.option("--files", "sizes", multiple=True, default=(1000, 10000), show_default=True)
def main(sizes: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        torch.manual_seed(0)
        weights = Path(folder) / "tiny.safetensors"
        size = {"width": 0.0625, "input_height": 48, "input_width": 64}
        save_model(build("v5", size).eval(), weights)
        for files in sizes:
            found = measure(Path(folder) / str(files), weights, files)
            print(json.dumps({name: round(value, 2) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
