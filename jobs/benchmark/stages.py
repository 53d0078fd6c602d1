"""Stopwatch readings of single stages, and what the machine could do at best.

Every function does its work once to warm up, then `repeats` times by the clock, and returns what
each repeat took.  A `Timing` keeps all of them: a median without its spread says little on a
machine that does other things, too.

    timing = time_model(runtime, pictures, repeats=5)
    timing.rate, timing.lowest, timing.highest      # frames/s

This module knows nothing of Ray or tables, and prints nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch

from tracknet.jobs.benchmark.reference import ReferenceLoop
from tracknet.pipeline.decoding.decoder import (
    BATCH_FRAMES,
    Decoder,
    DecoderLimits,
    decord_available,
)
from tracknet.pipeline.decoding.probe import decode_all
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.events.find import find_events
from tracknet.pipeline.models.blocks import to_frames
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.engine import FrameChunk, Runtime
from tracknet.pipeline.tracking.peaks import PeakMode, find_peak
from tracknet.pipeline.tracking.shots import find_cuts, thumbnails_of

_GPU_ROUNDS = 20  # of the windows: it is done with them in milliseconds, and copies must overlap
_PRODUCTS = 20  # that the rate of the matrix product is the best of


@dataclass(frozen=True)
class Timing:
    """What repeats of one piece of work took.

    Attributes:
        frames: video frames that one repeat deals with.
        seconds: by the clock, one per repeat.
        cpu_seconds: of all processes that took part, one per repeat; empty where not measured.

    >>> timing = Timing(100, (2.0, 1.0, 4.0))
    >>> timing.rate, timing.lowest, timing.highest
    (50.0, 25.0, 100.0)
    """

    frames: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """Frames per second, median."""
        return self.frames / median(self.seconds)

    @property
    def lowest(self) -> float:
        return self.frames / max(self.seconds)

    @property
    def highest(self) -> float:
        return self.frames / min(self.seconds)

    @property
    def rate_per_core(self) -> float | None:
        """Frames per second of computing, median; None where it was not measured."""
        return self.frames / median(self.cpu_seconds) if self.cpu_seconds else None


def time_work(work: Callable[[], object], frames: int, repeats: int) -> Timing:
    """Do `work` once to warm up, then `repeats` times by the clock."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return Timing(frames, tuple(seconds))


def time_decode(
    video: Video, spec: WindowSpec, repeats: int, limits: DecoderLimits
) -> dict[str, Timing]:
    """Our decode stage without Ray, twice of it at once, and what the decoder does alone.

    They take turns, so that a machine that slows down for a while slows down all of them, and take
    five times as many turns as other stages: what is of interest is a difference of a few percent.
    Ours has child processes and shared memory; the limit reads in this process and drops what it
    reads.

    Returns:
        Timings named "decode", "decode, 2 at once" and "... alone (limit)".
    """
    frames = range(video.frames)
    backend, alone = (
        ("decord", _read_with_decord)
        if limits.backend == "decord" and decord_available()
        else ("pyav", _read_with_pyav)
    )
    limits = replace(limits, recycle_after=sys.maxsize)  # a new process would start its clock anew

    def read(decoder: Decoder) -> None:
        for batch in decoder.read(video, frames, spec.width, spec.height):
            batch.pictures.copy()  # the next batch overwrites them, so every user copies

    with Decoder(limits) as first, Decoder(limits) as second, ThreadPoolExecutor(2) as pool:

        def computing() -> float:
            children = [psutil.Process(d.pid).cpu_times() for d in (first, second) if d.pid]
            return time.process_time() + sum(child.user + child.system for child in children)

        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "decode": (1, lambda: read(first)),
            "decode, 2 at once": (2, lambda: list(pool.map(read, (first, second)))),
            f"{backend} alone (limit)": (1, lambda: alone(video, spec)),
        }
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(1 + 5 * repeats):
            for name, (_, work) in ways.items():
                started, computed = time.perf_counter(), computing()
                work()
                spent[name].append((time.perf_counter() - started, computing() - computed))
    return {
        name: Timing(times * video.frames, *zip(*spent[name][1:], strict=True))
        for name, (times, _) in ways.items()
    }


def _read_with_decord(video: Video, spec: WindowSpec) -> None:
    import decord

    reader = decord.VideoReader(video.source, width=spec.width, height=spec.height, num_threads=1)
    for start in range(0, video.frames, BATCH_FRAMES):
        reader.get_batch(range(start, min(start + BATCH_FRAMES, video.frames))).asnumpy()


def _read_with_pyav(video: Video, spec: WindowSpec) -> None:
    for frame in decode_all(Path(video.source)):
        size = (spec.width, spec.height)
        frame.reformat(*size, format="rgb24", interpolation="BILINEAR").to_ndarray()


def time_preprocess(windows: np.ndarray, spec: WindowSpec, repeats: int) -> Timing:
    """Bytes to what models take, uint8 `[N, P, H, W, 3]`, one window after the other."""

    def convert() -> None:
        for window in windows:
            to_frames(torch.from_numpy(window[None]))

    return time_work(convert, len(windows) * len(spec.targets), repeats)


def time_model(runtime: Runtime, windows: np.ndarray, repeats: int) -> Timing:
    """A runtime alone, on windows uint8 `[N, P, H, W, 3]`, repeated to fill whole batches."""
    on_gpu = torch.cuda.is_initialized()
    rounds = _GPU_ROUNDS if on_gpu else 1
    batches = [
        np.stack([windows[(start + i) % len(windows)] for i in range(runtime.batch)])
        for start in range(0, len(windows), runtime.batch)
    ]
    frames = rounds * len(batches) * runtime.batch * len(runtime.spec.targets)

    def compute() -> None:
        for batch in batches * rounds:
            runtime(batch)
        if on_gpu:  # it works on after the call has come back
            torch.cuda.synchronize()

    return time_work(compute, frames, repeats)


def time_reference_model(loop: ReferenceLoop, windows: np.ndarray, repeats: int) -> Timing:
    """The reference loop's model alone: a batch of one, float32, default memory order."""

    def compute() -> None:
        for window in windows:
            loop.heatmaps(window)

    return time_work(compute, len(windows) * len(loop.spec.targets), repeats)


def time_peaks(heatmaps: np.ndarray, mode: PeakMode, repeats: int) -> Timing:
    """Peak finding on heatmaps float32 `[N, H, W]`."""
    return time_work(lambda: [find_peak(h, mode, 0.5) for h in heatmaps], len(heatmaps), repeats)


def time_events(frames: int, repeats: int) -> Timing:
    """Find the hits and bounces of a ball that bounces once a second."""
    t = np.arange(frames)
    phase = t % 30 / 30
    path = np.column_stack([640.0 + 100 * np.sin(t / 40), 560.0 - 240 * phase * (1 - phase)])
    return time_work(lambda: find_events(path, (1280, 720), 30.0), frames, repeats)


def time_shots(windows: np.ndarray, repeats: int) -> Timing:
    """Make thumbnails of frames of windows uint8 `[N, P, H, W, 3]`, and find cuts in them."""
    pictures = windows[:, -1]
    n = len(pictures)
    chunk = FrameChunk(range(n), 0, n, pictures, frozenset(), None)

    def find() -> None:
        found = [one for one in thumbnails_of(chunk) if one is not None]
        find_cuts(np.stack(found).reshape(n, -1), np.ones(n, bool), 30.0)

    return time_work(find, n, repeats)


def time_reference(loop: ReferenceLoop, path: Path, frames: int, repeats: int) -> Timing:
    """The reference loop, from the file to the balls."""
    n_frames = frames // loop.spec.frames * loop.spec.frames
    return time_work(lambda: _drain(loop.run(path, n_frames)), n_frames, repeats)


def _drain(items: Iterable[object]) -> None:
    for _ in items:
        pass


def matrix_rate(device: str) -> float:
    """Multiply-accumulates per second of a large matrix product: float32, on CUDA bfloat16.

    The fastest of many: a limit, of which short disturbances would take a large part.
    """
    cuda = torch.device(device).type == "cuda"
    size, dtype = (8192, torch.bfloat16) if cuda else (2048, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        if cuda:
            torch.cuda.synchronize(device)

    return size**3 / min(time_work(multiply, 1, _PRODUCTS).seconds)
