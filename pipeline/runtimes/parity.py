"""Is a fast runtime as good as the slow one?  Both on the same labelled frames.

The reference is PyTorch in float32; balls are found and linked as `track` does by default, but for
camera cuts: a clip counts as one shot.  Another runtime passes when F1 differs by at most 0.2
points and at least 99.5 % of the frames have the same outcome (`pipeline.scoring.metrics.Outcome`:
hit, false alarm, miss, ...).  Linking takes or leaves runs of frames together, so a run of frames
with another outcome counts as one such frame.

    results = check_weights(Path("v5.safetensors"), [resolve("openvino", "bf16", "cpu")], clips)
    results["openvino bf16"].passed

Distances are checked as the released metric does: 4 px at network size.  This module knows nothing
of where clips and weights come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.datasets import LabelledClip
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.pipeline.runtimes.choice import RuntimeChoice
from tracknet.pipeline.runtimes.opening import open_runtime
from tracknet.pipeline.runtimes.prepared import prepare
from tracknet.pipeline.runtimes.quantize import find_quantized
from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime
from tracknet.pipeline.scoring.metrics import Counts, score_clip
from tracknet.pipeline.tracking.choose import choose_balls
from tracknet.pipeline.tracking.engine import Detector, DetectorSettings, FrameChunk, Runtime
from tracknet.pipeline.tracking.link import Candidates
from tracknet.pipeline.tracking.peaks import in_source

F1_TOLERANCE = 0.002
SAME_OUTCOMES = 0.995


@dataclass(frozen=True)
class GateResult:
    """A runtime beside the reference.

    Attributes:
        reference, found: outcomes of both, over all labelled frames.
        differing: runs of successive labelled frames that have another outcome.
    """

    reference: Counts
    found: Counts
    differing: int

    @classmethod
    def of(cls, expected: NDArray[np.int8], found: NDArray[np.int8]) -> GateResult:
        """From the outcomes of the same frames, in the same order; see `outcomes_of`.

        >>> expected, found = np.array([0, 4, 4, 4, 0], np.int8), np.array([0, 0, 0, 4, 4], np.int8)
        >>> GateResult.of(expected, found).differing
        2
        """
        runs = np.diff((found != expected).astype(np.int8), prepend=0) == 1
        return cls(Counts.of(expected), Counts.of(found), int(runs.sum()))

    @property
    def f1_difference(self) -> float:
        """F1 of the runtime minus that of the reference; 0 where neither has one."""
        return (self.found.f1 or 0.0) - (self.reference.f1 or 0.0)

    @property
    def same(self) -> float:
        """1 less the runs with another outcome, each as one of all frames."""
        return 1 - self.differing / self.reference.total

    @property
    def passed(self) -> bool:
        return abs(self.f1_difference) <= F1_TOLERANCE and self.same >= SAME_OUTCOMES

    def record(self, runtime: str) -> dict[str, Any]:
        """For a machine to read."""
        return {
            "runtime": runtime,
            "frames": self.reference.total,
            "reference": asdict(self.reference) | {"f1": self.reference.f1},
            "found": asdict(self.found) | {"f1": self.found.f1},
            "f1_difference": self.f1_difference,
            "differing_runs": self.differing,
            "same_outcome": self.same,
            "passed": self.passed,
        }


def check_weights(
    weights: Path, choices: Sequence[RuntimeChoice], clips: Iterable[LabelledClip]
) -> dict[str, GateResult]:
    """Compare runtimes of a weights file with PyTorch in float32 on the same device, by name.

    Raises:
        WeightsError: the weights cannot be read, or have no quantized network.
    """
    candidates = []
    for choice in choices:
        quantized = find_quantized(weights) if choice.precision == "int8" else None
        candidates.append(open_runtime(choice, prepare(weights), quantized))
    reference = TorchRuntime(load_model(weights), choices[0].device)
    expected, *found = outcomes_of([reference, *candidates], clips)
    return {
        choice.name: GateResult.of(expected, outcomes)
        for choice, outcomes in zip(choices, found, strict=True)
    }


def outcomes_of(
    runtimes: Sequence[Runtime], clips: Iterable[LabelledClip]
) -> list[NDArray[np.int8]]:
    """The `Outcome` of every labelled frame of all clips, in order, for each runtime.

    Args:
        runtimes: of the same model.
        clips: decoded at the model's size; one after the other.

    Raises:
        InputError: no frame is labelled.
    """
    by_clip = [[_outcomes_of_clip(runtime, clip) for runtime in runtimes] for clip in clips]
    outcomes = [np.concatenate(of_one) for of_one in zip(*by_clip, strict=True)]
    if not outcomes or not outcomes[0].size:
        raise InputError("no frame of these clips is labelled, so there is nothing to compare")
    return outcomes


def middle(clip: LabelledClip, n_frames: int) -> LabelledClip:
    """The `n_frames` frames in the middle of a clip, as a clip of their own."""
    first = max(0, (len(clip.frames) - n_frames) // 2)
    part = slice(first, first + n_frames)
    frames = clip.frames[part]
    short = replace(clip.clip, frames=len(frames))
    return LabelledClip(short, frames, clip.visibility[part], clip.xy_source[part])


def _outcomes_of_clip(runtime: Runtime, clip: LabelledClip) -> NDArray[np.int8]:
    spec, n = runtime.spec, len(clip.frames)
    background = clip.background if spec.background else None
    chunk = FrameChunk(range(n), 0, n, clip.frames, background=background)
    detector = Detector(runtime, DetectorSettings())
    network_size, size = (spec.width, spec.height), clip.clip.size
    found = [
        in_source(detection.candidates, network_size, size) for detection in detector.detect(chunk)
    ]
    balls = choose_balls(Candidates.of(found), np.ones(n, bool), size, detector.settings)
    outcomes, _ = score_clip(
        balls.xy[clip.labelled],
        clip.xy_source[clip.labelled],
        source_size=size,
        model_size=network_size,
    )
    return outcomes
