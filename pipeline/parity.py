"""Is a fast runtime as good as the slow one?  Both on the same labelled frames.

The reference is PyTorch in float32 with the peak finder of published figures (`contour`).  Another
runtime passes when F1 differs by at most 0.2 points and at least 99.5 % of the frames have the same
outcome (`pipeline.metrics.Outcome`: hit, false alarm, miss, ...).

    verdicts = check_weights(Path("v5.safetensors"), ["openvino"], clips)
    verdicts["openvino"].passed

Distances are judged as the released metric does: 4 px at network size.  This module knows nothing
of where clips and weights come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint import load_model
from pipeline.datasets import LabelledClip
from pipeline.engine import PUBLISHED, Detector, FrameChunk
from pipeline.errors import InputError
from pipeline.metrics import Counts, score_clip
from pipeline.peaks import to_source
from pipeline.quantize import find_quantized
from pipeline.runtime import QUANTIZED, Runtime, TorchRuntime, open_runtime, resolve

F1_TOLERANCE = 0.002
SAME_OUTCOMES = 0.995


@dataclass(frozen=True)
class Verdict:
    """A runtime beside the reference.

    Attributes:
        reference, found: outcomes of both, over all labelled frames.
        agreeing: labelled frames that have the same outcome in both.
    """

    reference: Counts
    found: Counts
    agreeing: int

    @property
    def f1_difference(self) -> float:
        """F1 of the runtime minus that of the reference; 0 where neither has one."""
        return (self.found.f1 or 0.0) - (self.reference.f1 or 0.0)

    @property
    def same(self) -> float:
        """Share of frames with the same outcome."""
        return self.agreeing / self.reference.total

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
            "same_outcome": self.same,
            "passed": self.passed,
        }

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.reference + other.reference,
            self.found + other.found,
            self.agreeing + other.agreeing,
        )


def check_weights(
    weights: Path, runtimes: Sequence[str], clips: Iterable[LabelledClip], device: str = "cpu"
) -> dict[str, Verdict]:
    """Judge runtimes of a weights file against PyTorch in float32 on the same device.

    Raises:
        InputError: a runtime that this machine cannot run.
        WeightsError: the weights cannot be read, or have no quantized network.
    """
    candidates = []
    for name in runtimes:
        choice = resolve(name, device)
        quantized = find_quantized(weights).network() if name == QUANTIZED else None
        candidates.append(open_runtime(choice, load_model(weights), quantized))
    reference = TorchRuntime(load_model(weights), device)
    return dict(zip(runtimes, compare(reference, candidates, clips), strict=True))


def compare(
    reference: Runtime, candidates: Sequence[Runtime], clips: Iterable[LabelledClip]
) -> list[Verdict]:
    """Judge runtimes against a reference.

    Args:
        reference: PyTorch in float32.
        candidates: of the same model.
        clips: decoded at the model's size; one is looked at after the other.

    Returns:
        One verdict per candidate.

    Raises:
        InputError: no frame is labelled.
    """
    totals = [Verdict(Counts(), Counts(), 0) for _ in candidates]
    for clip in clips:
        expected = judge(reference, clip)
        for i, candidate in enumerate(candidates):
            found = judge(candidate, clip)
            agreeing = int((found == expected).sum())
            totals[i] += Verdict(Counts.of(expected), Counts.of(found), agreeing)
    if any(not total.reference.total for total in totals):
        raise InputError("no frame of these clips is labelled, so there is nothing to judge by")
    return totals


def middle(clip: LabelledClip, n_frames: int) -> LabelledClip:
    """The `n_frames` frames in the middle of a clip, as a clip of their own."""
    first = max(0, (len(clip.frames) - n_frames) // 2)
    part = slice(first, first + n_frames)
    frames = clip.frames[part]
    short = replace(clip.clip, frames=len(frames))
    return LabelledClip(short, frames, clip.visibility[part], clip.xy_source[part])


def judge(runtime: Runtime, clip: LabelledClip) -> NDArray[np.int8]:
    """The `Outcome` of every labelled frame of a clip, in order."""
    spec, n = runtime.spec, len(clip.frames)
    background = clip.background if spec.background else None
    chunk = FrameChunk(range(n), 0, n, clip.frames, background=background)
    detector = Detector(runtime, PUBLISHED)
    model_size = (spec.width, spec.height)
    predicted = np.full((n, 2), np.nan)
    for detection in detector.detect(chunk):
        for peak in detection.candidates:
            predicted[detection.frame] = to_source(peak, model_size, clip.clip.size)
    outcomes, _ = score_clip(
        predicted[clip.labelled],
        clip.xy_source[clip.labelled],
        source_size=clip.clip.size,
        model_size=model_size,
    )
    return outcomes
