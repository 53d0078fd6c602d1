"""The settings of a run, built once at the edge and handed down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from tracknet.pipeline.decoding.decoder import DecoderLimits
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.tracking.engine import DetectorSettings
from tracknet.pipeline.tracking.link import LinkSettings

if TYPE_CHECKING:
    from tracknet.pipeline.runtimes.choice import RuntimeChoice


DEFAULT_WEIGHTS = "v5-nano"


@dataclass(frozen=True)
class TrackSettings:
    """How an archive is tracked.

    Attributes:
        weights: name of shipped weights, or a safetensors file.
        detector: stride, peak finding, threshold; with the weights they decide the rows.
        device: `auto`, `cpu`, `cuda`.
        runtime, precision: what computes the model and how, see `pipeline.runtimes.choice`.
        batch: windows that the model computes at once; 0 chooses by the device.
        shard_seconds: minimum length of a shard; does not change results.
        workers: decode workers, each a core; 0 chooses by the machine.
        decoder: limits of the decoder process.
        chunk_frames: frames in one message to the model, a multiple of every model's window; 0
            chooses by the device.
        retry_quarantined: track videos again that were unreadable or partly unreadable.
        deadline: when to stop, ISO 8601 or an hour such as `06:00` (the next one, local time);
            empty for never.
        max_failures: stop when more sources than this have trouble, a number or a share such as
            `5%`; empty for never.
    """

    weights: str = DEFAULT_WEIGHTS
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    device: str = "auto"
    runtime: str = "auto"
    precision: str = "auto"
    batch: int = 0
    shard_seconds: float = 20.0
    workers: int = 0
    decoder: DecoderLimits = field(default_factory=DecoderLimits)
    chunk_frames: int = 0
    retry_quarantined: bool = False
    deadline: str = ""
    max_failures: str = ""

    def __post_init__(self) -> None:
        if self.shard_seconds <= 0:
            raise InputError(f"--shard-seconds {self.shard_seconds}: must be positive")
        if self.batch < 0:
            raise InputError(f"--batch {self.batch}: must be 0 (automatic) or more")
        if self.workers < 0:
            raise InputError(f"--workers {self.workers}: must be 0 (automatic) or more")

        self.stops_at(datetime.now())
        self.failures_of(100)

    def stops_at(self, now: datetime) -> datetime | None:
        """The deadline, seen from `now`; None for none.

        Raises:
            InputError: it is no time.

        >>> TrackSettings(deadline="06:00").stops_at(datetime(2026, 5, 1, 22, 30))
        datetime.datetime(2026, 5, 2, 6, 0)
        """
        if not self.deadline:
            return None
        try:
            if len(self.deadline) > len("hh:mm:ss"):
                return datetime.fromisoformat(self.deadline)
            at = datetime.combine(now.date(), time.fromisoformat(self.deadline))
        except ValueError:
            raise InputError(
                f"--deadline {self.deadline}: give an hour such as 06:00, or 2026-05-02T06:00"
            ) from None
        return at if at > now else at + timedelta(days=1)

    def failures_of(self, sources: int) -> float:
        """How many of so many sources may have trouble.

        Raises:
            InputError: it is no number and no share.

        >>> TrackSettings(max_failures="5%").failures_of(200)
        10.0
        """
        if not self.max_failures:
            return math.inf
        text = self.max_failures.removesuffix("%")
        if not text.isdecimal():
            raise InputError(f"--max-failures {self.max_failures}: give a number, or a share as 5%")
        return int(text) if text == self.max_failures else sources * int(text) / 100

    @classmethod
    def of(cls, **options: Any) -> TrackSettings:
        """Settings from options named as on the command line, all in one level.

        Raises:
            InputError: an unknown name, or a value that cannot be.

        >>> TrackSettings.of(weights="v5-nano", threshold=0.4, link=False).detector.link is None
        True
        """
        names = {f.name for one in (cls, DetectorSettings) for f in fields(one)} - {"detector"}
        if unknown := sorted(options.keys() - names):
            raise InputError(f"no option {unknown[0]!r}; there are: {', '.join(sorted(names))}")
        chosen = {f.name for f in fields(DetectorSettings)} & options.keys()
        detector = {name: options.pop(name) for name in chosen}
        if isinstance(detector.get("link"), bool):
            detector["link"] = LinkSettings() if detector["link"] else None
        return cls(**options, detector=DetectorSettings(**detector))

    def deciding(
        self, stride: int, choice: RuntimeChoice, quantized: str | None
    ) -> Mapping[str, Any]:
        """The settings that decide what rows look like, resolved; see `schemas.store.ResultKey`.

        Args:
            stride: frames between windows.
            choice: the runtime; its bits are its own, and kernels may differ with the batch.
            quantized: hash of the quantized network, where there is one.
        """
        return {
            "stride": stride,
            "peak": self.detector.peak,
            "threshold": self.detector.threshold,
            "skip_repeats": self.detector.skip_repeats,
            "link": asdict(self.detector.link) if self.detector.link else {},
            "device": choice.device.split(":")[0],
            "runtime": choice.runtime,
            "precision": choice.precision,
            "floats": choice.floats,
            "quantized": quantized or "",
            "batch": choice.batch,
        }
