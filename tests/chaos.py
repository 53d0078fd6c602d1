"""Kill parts of runs at random moments, and compare what comes out with an undisturbed run.

    python -m tests.chaos --kills 100 --seed 0          # `make test-chaos`

An archive of sound and damaged videos is tracked again and again.  At random moments a signal goes
to the driver, a decoder process, a worker of Ray or Ray's own daemon; where the run ended it is
started again, until it completes; then the rows are compared and a fresh folder is begun.  Prints
one JSON line per completed run and a summary; exit code 1 if anything differs or stays behind.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import torch

from tests.runs import ROOT, rows, tracknet
from tests.videos import make_video, truncate
from tracknet.pipeline.models import build
from tracknet.pipeline.models.checkpoint import save_model

# What is hit: words of its command line, none for the driver; and the signals that it gets.
VICTIMS = {
    "driver": ("", (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    "decoder": ("decoding.child", (signal.SIGKILL,)),
    "decode worker": ("DecodeStage", (signal.SIGKILL,)),
    "model": ("DetectStage", (signal.SIGKILL,)),
    "raylet": ("raylet/raylet", (signal.SIGKILL, signal.SIGTERM)),
}
LEFT_AFTER_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="tracknet-chaos-") as folder:
        sys.exit(Chaos(Path(folder), arguments.kills).execute())


class Chaos:
    def __init__(self, folder: Path, kills: int) -> None:
        self.folder, self.kills = folder, kills
        self.archive = folder / "archive"
        for i in range(6):
            make_video(self.archive / f"{i}.mp4", 300 + 50 * i, width=320, height=180, gop=25)
        truncate(make_video(self.archive / "cut.mp4", 300, width=320, height=180), 0.6)
        (self.archive / "none.mp4").write_bytes(b"no video")
        torch.manual_seed(0)
        self.weights = folder / "tiny.safetensors"
        config = {"width": 0.0625, "input_height": 144, "input_width": 256}
        save_model(build("v5", config).eval(), self.weights)
        self.done: Counter[str] = Counter()
        self.left: Counter[str] = Counter()  # processes that outlived their run

    def execute(self) -> int:
        expected = self._undisturbed()
        wrong = 0
        while self.done.total() < self.kills:
            out = self.folder / f"out{self.done.total()}"
            starts, codes = self._disturbed(out)
            same = _same(rows(out), expected)
            wrong += not same
            print(json.dumps({"starts": starts, "codes": codes, "rows_equal": same}), flush=True)
        summary = {
            "kills": dict(self.done),
            "total": self.done.total(),
            "runs_with_other_rows": wrong,
            "processes_left": dict(self.left),
        }
        print(json.dumps(summary))
        return 1 if wrong or self.left else 0

    def _command(self, out: Path) -> list[str]:
        options = ("--weights", self.weights, "--shard-seconds", "2", "--runtime", "torch")
        return tracknet("track", self.archive, "--out", out, *options)

    def _undisturbed(self) -> dict[str, pa.Table]:
        out = self.folder / "expected"
        done = subprocess.run(self._command(out), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 3, done.stderr
        return rows(out)

    def _disturbed(self, out: Path) -> tuple[int, list[int]]:
        """Start the run until it completes, and kill on the way."""
        codes: list[int] = []
        while True:
            process = subprocess.Popen(
                self._command(out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            family: dict[int, psutil.Process] = {}
            following = time.monotonic() + random.uniform(0.5, 12)
            while process.poll() is None:
                time.sleep(0.05)
                family |= {child.pid: child for child in _children(process.pid)}
                if time.monotonic() > following and self.done.total() < self.kills:
                    self._kill(process.pid)
                    following = time.monotonic() + random.uniform(0.5, 6)
            _, alive = psutil.wait_procs(list(family.values()), timeout=LEFT_AFTER_S)
            self.left.update(_line(one)[:60] for one in alive)
            codes.append(process.returncode)
            if process.returncode == 3:
                return len(codes), codes

    def _kill(self, driver: int) -> None:
        name = random.choice(list(VICTIMS))
        words, signals = VICTIMS[name]
        found = [driver] if not words else [p.pid for p in _children(driver) if words in _line(p)]
        if found:
            try:
                psutil.Process(random.choice(found)).send_signal(random.choice(signals))
                self.done[name] += 1
            except psutil.NoSuchProcess:
                pass


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _same(found: dict[str, pa.Table], expected: dict[str, pa.Table]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].equals(expected[name]) for name in expected
    )


if __name__ == "__main__":
    main()
