"""The engine: frames in, candidates for the ball out, for any heatmap model.

A `Detector` lays windows over the frames of a chunk, has a runtime compute heatmaps, averages those
of overlapping windows, and takes the peaks of each frame.  What a model wants (frames per window,
input size, background) is read from its `spec`; no model is a special case here.

    runtime = TorchRuntime(load_model("v5.safetensors"))
    detector = Detector(runtime, DetectorSettings(stride=3))
    for detection in detector.detect(chunk_frames):
        print(detection.frame, detection.candidates)

The batch size is fixed and a last, smaller batch is padded, so that every window is computed by
the same kernels whatever the chunk holds: results do not depend on how a video was cut.

This module knows nothing of videos, files, processes, or of what computes the heatmaps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.link import LinkSettings
from tracknet.pipeline.tracking.peaks import Peak, PeakMode
from tracknet.pipeline.tracking.repeats import repeats
from tracknet.pipeline.tracking.windows import Window, check_stride, windows_for, without_repeats

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# Both can be indexed, added and divided, which is all we do; workers that decode need no PyTorch.
Heatmaps: TypeAlias = "np.ndarray | Tensor"


class Runtime(Protocol):
    """Computes heatmaps of a fixed number of windows.

    Attributes:
        spec: what the model takes and gives.
        batch: windows in a call.
    """

    spec: WindowSpec
    batch: int

    def __call__(self, pictures: np.ndarray) -> Heatmaps:
        """uint8 RGB `[batch, spec.pictures, H, W, 3]` -> float32 `[batch, targets, H, W]`."""
        ...

    def peaks(
        self,
        heatmaps: Sequence[Heatmaps],
        mode: PeakMode,
        threshold: float,
        limit: int,
        floor: float | None = None,
    ) -> list[list[Peak]]:
        """The peaks of each heatmap float32 `[H, W]`, see `tracking.peaks.find_candidates`."""
        ...


@dataclass(frozen=True)
class DetectorSettings:
    """What decides which ball is found.

    Attributes:
        stride: frames between windows; 0 stands for the model's own (each frame in one window).
        peak: `contour` (as published) or `centroid` (sub-pixel).
        threshold: probability that a ball must exceed.
        skip_repeats: lay windows over frames that differ, see `pipeline.tracking.repeats`.
        link: how the ball is told from other candidates by the frames around (`tracking.link`);
            None takes the strongest peak of each frame, as published.
    """

    stride: int = 0
    peak: PeakMode = "centroid"
    threshold: float = 0.5
    skip_repeats: bool = True
    link: LinkSettings | None = field(default_factory=LinkSettings)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold {self.threshold}: must lie between 0 and 1")

    @property
    def floor(self) -> float | None:
        """Probability that a faint candidate must exceed; None where only clear ones count."""
        return None if self.link is None else self.threshold * self.link.floor

    @property
    def limit(self) -> int:
        """Candidates of a frame at most."""
        return 1 if self.link is None else self.link.candidates

    def stride_for(self, spec: WindowSpec) -> int:
        """The stride in frames for a model with this `spec`; `InputError` when it cannot be."""
        stride = self.stride or len(spec.targets)
        check_stride(spec, stride)
        return stride


PUBLISHED = DetectorSettings(peak="contour", skip_repeats=False, link=None)
"""The ball as published figures find it: frame by frame, in non-overlapping windows."""


@dataclass(frozen=True)
class FrameChunk:
    """Frames that go to the model together.

    Attributes:
        owned: absolute indices of the frames to answer for.
        first: absolute index of `pictures[0]`.
        n_frames: frames of the whole video.
        pictures: uint8 `[N, H, W, 3]` RGB at network size, the owned frames and their halo.
        missing: absolute indices whose pictures could not be decoded; what stands at their place
            in `pictures` is ignored.
        background: uint8 `[H, W, 3]`, the video's median picture, for models that want it.
    """

    owned: range
    first: int
    n_frames: int
    pictures: np.ndarray
    missing: frozenset[int] = frozenset()
    background: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.pictures.dtype != np.uint8 or self.pictures.ndim != 4:
            raise ValueError(
                f"pictures must be uint8 [N, H, W, 3], are {self.pictures.dtype} "
                f"{list(self.pictures.shape)}"
            )


@dataclass(frozen=True)
class Detection:
    """What was found in one frame.

    Attributes:
        frame: absolute index.
        decoded: False when the frame has no picture; then nothing is known of a ball.
        candidates: in network pixels, strongest first; none when nothing was seen.
    """

    frame: int
    decoded: bool
    candidates: tuple[Peak, ...]


class Detector:
    """A model, ready to detect balls in chunks.

    Args:
        runtime: computes heatmaps, see `pipeline.runtimes.opening`.
        settings: stride, peak finding.

    Raises:
        InputError: the stride does not suit the model.
    """

    def __init__(self, runtime: Runtime, settings: DetectorSettings) -> None:
        self.runtime = runtime
        self.spec = runtime.spec
        self.settings = settings
        self.stride = settings.stride_for(self.spec)

    def detect(self, chunk: FrameChunk) -> list[Detection]:
        """One detection per owned frame, in order."""
        settings = self.settings
        found: dict[int, list[Peak]] = {}
        for done in _one_ahead(self.heatmaps(chunk)):
            heatmaps = list(done.values())
            peaks = self.runtime.peaks(
                heatmaps, settings.peak, settings.threshold, settings.limit, settings.floor
            )
            found |= zip(done, peaks, strict=True)
        return [
            Detection(frame, frame not in chunk.missing, tuple(found.get(frame, ())))
            for frame in chunk.owned
        ]

    def heatmaps(self, chunk: FrameChunk) -> Iterator[dict[int, Heatmaps]]:
        """Heatmaps float32 `[H, W]` by frame, of the frames that each batch of windows completes.

        Every owned frame with a picture comes once, its windows averaged; where the heatmaps are
        (in memory, on a GPU) is the runtime's.
        """
        windows = windows_for(chunk.owned, chunk.n_frames, self.spec, self.stride)
        if self.settings.skip_repeats:
            known = self._repeats(chunk)
            windows = [without_repeats(w, known, self.spec, chunk.n_frames) for w in windows]
        pending: dict[int, int] = defaultdict(int)
        for window in windows:
            for _, frame in window.emits:
                pending[frame] += 1
        sums: dict[int, Heatmaps] = {}
        expected = dict(pending)
        for i in range(0, len(windows), self.runtime.batch):
            batch = windows[i : i + self.runtime.batch]
            outputs = self._forward(chunk, batch)
            done: dict[int, Heatmaps] = {}
            for window, heatmaps in zip(batch, outputs, strict=True):
                for output, frame in window.emits:
                    sums[frame] = (
                        sums[frame] + heatmaps[output] if frame in sums else heatmaps[output]
                    )
                    pending[frame] -= 1
                    if not pending[frame]:
                        total = sums.pop(frame)
                        if frame not in chunk.missing:
                            done[frame] = total / n if (n := expected[frame]) > 1 else total
            if done:
                yield done

    def _repeats(self, chunk: FrameChunk) -> set[int]:
        """Frames of the chunk that repeat the previous one; unknown where one is missing."""
        found = {chunk.first + int(i) for i in np.flatnonzero(repeats(chunk.pictures))}
        return found - chunk.missing - {frame + 1 for frame in chunk.missing}

    def _forward(self, chunk: FrameChunk, batch: list[Window]) -> Heatmaps:
        """Heatmaps float32 `[len(batch), targets, H, W]`."""
        padded = batch + batch[-1:] * (self.runtime.batch - len(batch))
        pictures = np.take(chunk.pictures, [_places(chunk, window) for window in padded], axis=0)
        if self.spec.background:
            if chunk.background is None:
                raise InputError("this model needs the video's background picture")
            shape = (len(padded), 1, *chunk.background.shape)
            background = np.broadcast_to(chunk.background, shape)
            pictures = np.concatenate([background, pictures], axis=1)
        return self.runtime(pictures)[: len(batch)]


def _places(chunk: FrameChunk, window: Window) -> list[int]:
    """Where in `chunk.pictures` a window's are; the nearest decoded frame of it fills a gap."""
    present = [frame for frame in window.frames if frame not in chunk.missing]
    return [
        min(present, key=lambda other: (abs(other - frame), other), default=frame) - chunk.first
        for frame in window.frames
    ]


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each when the one after it was asked for: a GPU computes meanwhile.

    >>> list(_one_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    for item in items:
        for following in items:
            yield item
            item = following
        yield item
