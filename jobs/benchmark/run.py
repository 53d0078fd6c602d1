"""`tracknet benchmark`: every stage alone, all together, the reference loop, and the limits.

    report = benchmark(BenchmarkSettings(weights="v5-nano"), lambda name, rate=None: None)
    report.ratios["file to table / reference loop"]

Everything in one run on one machine, on the same video, each thing warmed up and repeated; what is
compared is a ratio of two medians of that run, or, for decoders, which take turns, the median of
the turns' ratios.  A rate is in frames per second of video.

- *The reference loop* is `jobs.benchmark.reference`: how the released script works.
- *The limits* are Decord alone, whose frames are dropped, and the model's multiply-accumulates
  at the rate of a large float32 (on CUDA bfloat16) matrix product.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from tracknet.jobs.benchmark import stages as measure
from tracknet.jobs.benchmark.loop import loop_video
from tracknet.jobs.benchmark.reference import ReferenceLoop
from tracknet.jobs.benchmark.stages import Timing
from tracknet.jobs.benchmark.usage import CpuUsage
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.track import TrackProgress, track, versions
from tracknet.pipeline.decoding.decoder import Backend, Decoder, DecoderLimits
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import BUILDERS, build
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import describe, load_model, save_model
from tracknet.pipeline.models.complexity import model_card
from tracknet.pipeline.models.v2 import V2Config
from tracknet.pipeline.runtimes.choice import RuntimeChoice, resolve
from tracknet.pipeline.runtimes.opening import open_runtime
from tracknet.pipeline.runtimes.prepared import prepare
from tracknet.pipeline.runtimes.quantize import (
    beside,
    find_quantized,
    has_quantized,
    quantize,
    save_quantized,
)
from tracknet.pipeline.runtimes.recompute import RecomputingRuntime
from tracknet.pipeline.synth import SynthConfig, write_dataset
from tracknet.pipeline.tracking.engine import DetectorSettings, Runtime
from tracknet.pipeline.weights import find_weights

CLIP_FRAMES = 120  # drawn once; longer videos repeat it
MODEL_WINDOWS = 8  # that a model is timed on
LOOKED_AT = 120  # windows that one is timed on whose speed depends on them
REFERENCE_FRAMES = 24  # the reference loop does about one a second, each as long as the other


class OnStep(Protocol):
    """Called with the name of each thing before it is measured, and with its rate behind."""

    def __call__(self, name: str, rate: float | None = None) -> None: ...


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is measured.

    Attributes:
        weights: name or file; empty takes `arch` with random weights, which run as fast, but that
            no window is recomputed after INT8: what they see means nothing.
        arch, width: of the model without weights.
        runtime: one of `pipeline.runtimes.choice.RUNTIMES`.
        precisions: models alone are timed in each; the first is that of the whole.
        device, batch: as in `TrackSettings`.
        backend: what decodes, `decord` or `pyav`.
        video: None draws a 720p rally.
        frames: of that rally.
        repeats: of everything.
        workers: decode workers of the whole; 0 chooses by the machine.
        clips, minutes: sizes of the archives and videos of the table of scaling; empty for none.
    """

    weights: str = ""
    arch: str = "v5"
    width: float = 1.0
    runtime: str = "auto"
    precisions: tuple[str, ...] = ("auto",)
    device: str = "cpu"
    batch: int = 0
    backend: Backend = "decord"
    video: Path | None = None
    frames: int = 300
    repeats: int = 3
    workers: int = 0
    clips: tuple[int, ...] = ()
    minutes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Together:
    """One run from files to committed tables.

    Attributes:
        frames: rows written.
        wall_s: from the start to the last manifest.
        start_s: until the model took its first frames: Ray, its workers, the model.
        rate: frames per second behind the start.  Decoders work ahead while the model loads, by
            some hundred frames at most; where decoding is the slowest, take a longer video.
        waited_s: behind the start, in which a model had nothing to do, the mean of all models.
        seconds: decode, model and commit, each summed over its workers.
        cpu_s: CPU seconds, start included; see `jobs.benchmark.usage.CpuUsage`.
        start_cpu_s: of these, until the first rows came back.
    """

    frames: int
    wall_s: float
    start_s: float
    rate: float
    waited_s: float
    seconds: dict[str, float]
    cpu_s: dict[str, float]
    start_cpu_s: dict[str, float]

    @property
    def overhead(self) -> float:
        """Share of all CPU time that neither decoders nor the model used."""
        return _overhead(self.cpu_s)

    @property
    def overhead_at_work(self) -> float:
        """The same behind the start."""
        return _overhead({role: s - self.start_cpu_s[role] for role, s in self.cpu_s.items()})


def _overhead(cpu_s: dict[str, float]) -> float:
    return (cpu_s["ray"] + cpu_s["driver"]) / sum(cpu_s.values())


@dataclass
class BenchmarkReport:
    """All that was measured; see `jobs.benchmark.run`.

    Attributes:
        machine, model: what it was measured on, and with.
        stages: by name, in the order of the table.
        together: one a repeat.
        matrix_rate: multiply-accumulates per second, the best of several products.
        ratios: by name.
        scaling: archives of clips of `BenchmarkSettings.frames`, and single videos, by size.
    """

    machine: dict[str, Any]
    model: dict[str, Any]
    stages: dict[str, Timing] = field(default_factory=dict)
    together: list[Together] = field(default_factory=list)
    matrix_rate: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)
    scaling: dict[str, Together] = field(default_factory=dict)


def benchmark(settings: BenchmarkSettings, on_step: OnStep) -> BenchmarkReport:
    """Measure everything.

    Args:
        on_step: told how far it is, so that what is interrupted has said something.

    Raises:
        InputError: a runtime that cannot run here, or a model without a reference loop.
        VideoError, WeightsError: the video or the weights cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="tracknet-benchmark-") as folder:
        return _Benchmark(settings, Path(folder), on_step).execute()


class _Benchmark:
    """The measurements in order, and what they share."""

    def __init__(self, settings: BenchmarkSettings, folder: Path, on_step: OnStep) -> None:
        self.settings = settings
        self.folder = folder
        self.on_step = on_step
        self.limits = DecoderLimits(backend=settings.backend)
        self.weights = self._weights()
        self.choices = [
            resolve(
                settings.runtime,
                precision,
                settings.device,
                settings.batch,
                has_quantized(self.weights),
            )
            for precision in settings.precisions
        ]
        self.info = describe(self.weights)
        self.model = load_model(self.weights)
        self.spec = window_spec(self.model)
        self.reference = ReferenceLoop(load_model(self.weights), settings.device)
        self.shares: dict[str, float] = {}  # of windows that are recomputed, by runtime

    def execute(self) -> BenchmarkReport:
        self.on_step("video")
        clip = self.settings.video or self._draw()
        with Decoder(self.limits) as decoder:
            video = decoder.probe(clip)
            windows = self._windows(decoder, video)
        if any(choice.precision == "int8" for choice in self.choices):
            self._ensure_quantized(windows[:MODEL_WINDOWS])
        report = BenchmarkReport(self._machine(), self._model())
        report.stages = self._stages(video, windows)
        self.on_step("matrix product")
        report.matrix_rate = measure.matrix_rate(self.settings.device)
        for i in range(self.settings.repeats):
            self.on_step(f"file to table, {i + 1} of {self.settings.repeats}")
            report.together.append(self._track([clip]))
            self.on_step("file to table", report.together[-1].rate)
        report.ratios = _ratios(report, self.choices[0].name)
        report.ratios |= self.shares
        report.scaling = self._scaling(clip)
        return report

    # ---- what is measured with -------------------------------------------------------------

    def _weights(self) -> Path:
        """A weights file in our own folder, so that a quantized network can lie beside it."""
        path = self.folder / "model.safetensors"
        if self.settings.weights:
            given = find_weights(self.settings.weights)
            shutil.copy(given, path)
            if has_quantized(given):
                save_quantized(find_quantized(given), beside(path))
        else:
            save_model(_random_model(self.settings.arch, self.settings.width), path)
        return path

    def _ensure_quantized(self, windows: np.ndarray) -> None:
        try:
            find_quantized(self.weights)
        except WeightsError:
            self.on_step("quantizing for speed only, calibrated on this video")
            margin = None if self.settings.weights else 0.0
            quantized = quantize(self.model, windows, self.info.hash, {"benchmark": True}, margin)
            save_quantized(quantized, beside(self.weights))

    def _draw(self) -> Path:
        n = min(self.settings.frames, CLIP_FRAMES)
        (clip,) = write_dataset(
            self.folder / "clip", 1, 0, SynthConfig(frames=(n, n), sport="tennis", crf=23)
        )
        return loop_video(clip, self.folder / "video.mp4", self.settings.frames)

    def _windows(self, decoder: Decoder, video: Video) -> np.ndarray:
        """Up to LOOKED_AT windows of the video, uint8 `[N, T, H, W, 3]`."""
        n = min(LOOKED_AT, video.frames // self.spec.frames) * self.spec.frames
        if not n:
            raise InputError(f"{video.source}: too short for a window of {self.spec.frames} frames")
        reader = decoder.read(video, range(n), self.spec.width, self.spec.height)
        pictures = np.concatenate([batch.pictures.copy() for batch in reader])
        whole = len(pictures) // self.spec.frames * self.spec.frames
        return pictures[:whole].reshape(-1, self.spec.frames, *pictures.shape[1:])

    def _machine(self) -> dict[str, Any]:
        cuda = torch.device(self.settings.device).type == "cuda"
        return {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "versions": versions(),
        }

    def _model(self) -> dict[str, Any]:
        card = model_card(self.info.arch, self.info.config)
        int8 = any(choice.precision == "int8" for choice in self.choices)
        return {
            "arch": self.info.arch,
            "config": self.info.config,
            "weights": self.settings.weights or "random",
            "parameters": card.parameters,
            "macs_per_frame": card.macs_per_frame,
            "quantized": find_quantized(self.weights).calibration if int8 else None,
        }

    # ---- stages alone ----------------------------------------------------------------------

    def _stages(self, video: Video, measured_on: np.ndarray) -> dict[str, Timing]:
        windows = measured_on[:MODEL_WINDOWS]
        spec, repeats, path = self.spec, self.settings.repeats, Path(video.source)
        found: dict[str, Timing] = {}

        def step(name: str, timing: Callable[[], Timing]) -> None:
            self.on_step(name)
            found[name] = timing()
            self.on_step(name, found[name].rate)

        self.on_step("decode")
        found |= measure.time_decode(video, spec, repeats, self.limits)
        for name, timing in found.items():
            self.on_step(name, timing.rate)
        step("preprocess", lambda: measure.time_preprocess(windows, spec, repeats))
        reference = partial(measure.time_reference_model, self.reference, windows, repeats)
        step("model, reference", reference)
        for choice in self.choices:
            runtime = self._open(choice)
            given = measured_on if isinstance(runtime, RecomputingRuntime) else windows
            step(f"model, {choice.name}", partial(measure.time_model, runtime, given, repeats))
            if isinstance(runtime, RecomputingRuntime):
                share = runtime.recomputed / runtime.windows
                self.shares[f"windows recomputed in float32, {choice.name}"] = share
        heatmaps = np.concatenate([self.reference.heatmaps(window) for window in windows])
        step("peaks, contour", lambda: measure.time_peaks(heatmaps, "contour", repeats))
        step("peaks, centroid", lambda: measure.time_peaks(heatmaps, "centroid", repeats))
        step("shots", lambda: measure.time_shots(windows, repeats))
        step("events", lambda: measure.time_events(self.settings.frames, repeats))
        n = min(REFERENCE_FRAMES, video.frames)
        step("reference loop", lambda: measure.time_reference(self.reference, path, n, repeats))
        return found

    def _open(self, choice: RuntimeChoice) -> Runtime:
        quantized = find_quantized(self.weights) if choice.precision == "int8" else None
        return open_runtime(choice, prepare(self.weights), quantized)

    # ---- together --------------------------------------------------------------------------

    def _track(self, sources: list[Path]) -> Together:
        choice = self.choices[0]
        settings = TrackSettings(
            weights=str(self.weights),
            detector=DetectorSettings(),
            device=choice.device,
            runtime=choice.runtime,
            precision=choice.precision,
            batch=choice.batch,
            workers=self.settings.workers,
            decoder=self.limits,
        )
        out = Path(tempfile.mkdtemp(dir=self.folder))

        def begin(progress: TrackProgress) -> None:
            if progress.stage == "track":
                usage.begin()

        with CpuUsage() as usage:
            report = track(sources, out, settings, on_progress=begin)
        if report.quarantined:
            raise InputError(f"{report.quarantined[0]['source']} is partly unreadable")
        shutil.rmtree(out)
        return _together(report.frames, report.models, report.seconds, usage)

    def _scaling(self, clip: Path) -> dict[str, Together]:
        found = {}
        for n in self.settings.clips:
            self.on_step(f"{n} clips")
            archive = self.folder / f"clips{n}"
            archive.mkdir()
            sources = [
                loop_video(clip, archive / f"{i}.mp4", self.settings.frames, title=str(i))
                for i in range(n)
            ]
            found[f"{n} clips"] = self._track(sources)
            shutil.rmtree(archive)
        for minutes in self.settings.minutes:
            self.on_step(f"{minutes:g} minutes")
            frames = round(minutes * 60 * SynthConfig.fps)
            video = loop_video(clip, self.folder / "long.mp4", frames)
            found[f"{minutes:g} minutes"] = self._track([video])
            video.unlink()
        return found


def _random_model(arch: str, width: float) -> nn.Module:
    """Random weights; a bias, where the model has one, lets them see fewer balls.

    Still more than trained weights see (V5: in a sixth of the pixels), so peaks take longer.
    """
    of_v2 = arch in BUILDERS and issubclass(BUILDERS[arch].config, V2Config)
    torch.manual_seed(0)
    return build(arch, {"width": width} | ({"head_bias": -6.0} if of_v2 else {})).eval()


def _together(frames: int, models: int, seconds: dict[str, float], usage: CpuUsage) -> Together:
    """Condense a run.

    >>> usage = CpuUsage()
    >>> usage.seconds = {"decode": 2.0, "model": 16.0, "ray": 1.0, "driver": 1.0}
    >>> usage.before = {"decode": 0.0, "model": 0.0, "ray": 0.5, "driver": 0.5}
    >>> run = _together(100, 2, {"ready": 10.0, "model": 16.0, "committed": 20.0}, usage)
    >>> run.rate, run.waited_s, run.overhead, run.overhead_at_work
    (10.0, 2.0, 0.1, 0.05263157894736842)
    """
    at_work = seconds["committed"] - seconds["ready"]
    return Together(
        frames=frames,
        wall_s=seconds["committed"],
        start_s=seconds["ready"],
        rate=frames / at_work,
        waited_s=max(0.0, at_work - seconds["model"] / models),
        seconds=seconds,
        cpu_s=usage.seconds,
        start_cpu_s=usage.before,
    )


def _ratios(report: BenchmarkReport, runtime: str) -> dict[str, float]:
    stages, macs = report.stages, report.model["macs_per_frame"]
    decode = stages["decode"]
    alone = next(timing for name, timing in stages.items() if name.endswith("(limit)"))
    together = median(run.rate for run in report.together)
    found = {
        "file to table / reference loop": together / stages["reference loop"].rate,
        "decode / decoder alone": _in_turn(decode.seconds, alone.seconds),
        "2 decoders / 1": stages["decode, 2 at once"].rate / decode.rate,
        "decode / decoder alone, per core": _in_turn(decode.cpu_seconds, alone.cpu_seconds),
    }
    for name, timing in stages.items():
        if name.startswith("model, "):
            found[f"{name} / reference"] = timing.rate / stages["model, reference"].rate
            found[f"{name} / matrix product"] = timing.rate * macs / report.matrix_rate
    found["file to table / model alone"] = together / stages[f"model, {runtime}"].rate
    return found


def _in_turn(ours: Sequence[float], limit: Sequence[float]) -> float:
    """Our rate over the limit's: the median of turns taken side by side.

    Args:
        ours, limit: seconds of each turn, for the same frames.

    >>> _in_turn((2.0, 4.0, 9.0), (1.0, 3.0, 6.0))  # the machine slowed down, for both
    0.6666666666666666
    """
    return median(theirs / mine for mine, theirs in zip(ours, limit, strict=True))


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
