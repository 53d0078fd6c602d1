"""Which model a run uses: weights, runtime and quantized network, nothing left to `auto`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracknet.jobs.cluster import count_gpus
from tracknet.jobs.settings import TrackSettings
from tracknet.pipeline.runtimes.choice import RuntimeChoice, resolve
from tracknet.pipeline.runtimes.opening import open_runtime
from tracknet.pipeline.runtimes.prepared import Prepared, prepare
from tracknet.pipeline.runtimes.quantize import Quantized, find_quantized, has_quantized
from tracknet.pipeline.tracking.engine import Detector
from tracknet.pipeline.weights import find_weights


@dataclass(frozen=True)
class ModelChoice:
    """A model and what computes it.

    Attributes:
        weights: the weights file.
        prepared: what it holds.
        runtime: nothing left to `auto`.
        quantized: the INT8 network, where the runtime wants one.
    """

    weights: Path
    prepared: Prepared
    runtime: RuntimeChoice
    quantized: Quantized | None

    def detector(self, settings: TrackSettings) -> Detector:
        """The model in this process, ready to detect."""
        threshold = settings.detector.threshold
        runtime = open_runtime(self.runtime, self.prepared, self.quantized, threshold=threshold)
        return Detector(runtime, settings.detector)


def choose_model(settings: TrackSettings) -> ModelChoice:
    """Find the weights of a run, and decide what computes them on this machine or cluster.

    Raises:
        WeightsError: no such weights, or they cannot be read.
        InputError: a runtime that cannot run here, or the model makes no heatmaps.
    """
    weights = find_weights(settings.weights)
    device = settings.device
    if device == "auto":
        device = "cuda" if count_gpus() else "cpu"
    int8 = has_quantized(weights)
    runtime = resolve(settings.runtime, settings.precision, device, settings.batch, int8)
    quantized = find_quantized(weights) if runtime.precision == "int8" else None
    return ModelChoice(weights, prepare(weights), runtime, quantized)
