"""Helpers for tests that run the command line as a user does, in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from tracknet.commands import main
from tracknet.jobs.cluster import ray_session

ROOT = Path(__file__).parent.parent
ARCHIVE = {"long.mp4": 230, "short.mp4": 50, "other.mkv": 61}
"""Frames of the videos of the `archive` fixture."""


def tracknet(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tracknet", *words_of(arguments)]


def words_of(arguments: Sequence[object]) -> list[str]:
    """The words of a command line; the tests' own weights are computed by PyTorch.

    Converting them for OpenVINO, which `auto` takes, would cost each run seconds.  Runs of shipped
    weights, and tests that choose a runtime, are as they are.
    """
    words = [str(argument) for argument in arguments]
    chosen = {"--runtime", "--precision"} & set(words)
    if words[0] == "track" and "--weights" in words and not chosen:
        words += ["--runtime", "torch"]
    return words


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `tracknet ARGUMENTS` to its end, in this process, on the Ray that all tests share."""
    words = words_of(arguments)
    if words[0] in ("track", "demo", "benchmark") and "--address" not in words:
        share_ray()
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main.run(words)
    return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())


def share_ray() -> None:
    """Start the Ray that the tests of this process share; it ends with the process."""
    if not ray.is_initialized():
        session = contextlib.ExitStack()
        session.enter_context(ray_session(actors=6))
        atexit.register(session.close)


def start(*arguments: object, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start `tracknet ARGUMENTS` in the background; its output goes to `log`, or to pytest."""
    with log.open("wb") if log else contextlib.nullcontext() as output:
        return subprocess.Popen(
            tracknet(*arguments), stdout=output, stderr=output, cwd=ROOT, start_new_session=True
        )


def wait_for(condition: Callable[[], object], timeout: float = 120) -> object:
    """Wait until `condition` is true and return what it returned."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing happened in {timeout} s")


def descendants(process: subprocess.Popen[bytes], words: str) -> list[psutil.Process]:
    """Living processes below `process` whose command line holds `words`."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if words in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def staged(out: Path) -> list[Path]:
    """Shards that a run has finished; glob alone would also find one that is being written."""
    return [p for p in out.glob("staging/*/*.parquet") if not p.name.startswith(".")]


def rows(out: Path) -> dict[str, pa.Table]:
    """The published rows, by file name of the source, without the path itself."""
    tables = [pq.read_table(path) for path in sorted((out / "trajectories").glob("*.parquet"))]
    return {Path(t["source"][0].as_py()).name: t.drop_columns("source") for t in tables}


def check_one_row_per_frame(tables: dict[str, pa.Table], expected: dict[str, int]) -> None:
    assert {name: len(table) for name, table in tables.items()} == expected
    for name, table in tables.items():
        assert table["frame"].to_pylist() == list(range(expected[name])), name
