"""The settings of a run, built once at the edge and handed down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.decoder import DecoderLimits
from pipeline.engine import DetectorSettings
from pipeline.errors import InputError


@dataclass(frozen=True)
class TrackSettings:
    """How an archive is tracked.

    Attributes:
        weights: name of shipped weights, or a safetensors file.
        detector: stride, peak finding, threshold; with the weights they decide the rows.
        device: `auto`, `cpu`, `cuda`.
        shard_seconds: least length of a shard; changes no row.
        workers: decode workers, each a core; 0 chooses by the machine.
        decoder: limits of the decoder process.
        chunk_frames: frames in one message to the model, a multiple of every model's window.
        retry_quarantined: track videos again that could not be read whole before.
    """

    weights: str
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    device: str = "auto"
    shard_seconds: float = 20.0
    workers: int = 0
    decoder: DecoderLimits = field(default_factory=DecoderLimits)
    chunk_frames: int = 24
    retry_quarantined: bool = False

    def __post_init__(self) -> None:
        if self.shard_seconds <= 0:
            raise InputError(f"--shard-seconds {self.shard_seconds}: must be positive")
        if self.workers < 0:
            raise InputError(f"--workers {self.workers}: must be 0 (automatic) or more")

    def deciding(self, stride: int, device: str) -> Mapping[str, Any]:
        """The settings that decide what rows look like, resolved; see `schemas.store.ResultKey`."""
        return {
            "stride": stride,
            "peak": self.detector.peak,
            "threshold": self.detector.threshold,
            "device": device.split(":")[0],
        }
