"""Quantize weights with labelled clips, and check runtimes on labelled clips.

Both decode the clips they look at into the cache that training uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from tracknet.pipeline.datasets import Clip, LabelledClip, by_split, find_clips, load_clip
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import find_weights, load_model, weights_hash
from tracknet.pipeline.runtimes.parity import Verdict, check_weights, judge, middle
from tracknet.pipeline.runtimes.quantize import (
    cache_path,
    has_quantized,
    quantize_weights,
    save_quantized,
)
from tracknet.pipeline.runtimes.runtime import (
    SecondLook,
    TorchRuntime,
    computes_bf16,
    open_runtime,
    openvino_available,
    resolve,
)
from tracknet.pipeline.spec import WindowSpec

CALIBRATION_CLIPS = 24  # spread over the folder: decoding all of it would take longer than NNCF

JUDGED_FRAMES = 600  # of clips that nothing was calibrated on

OnClip = Callable[[int, int], None]


@dataclass(frozen=True)
class ClipSource:
    """Where labelled clips come from.

    Attributes:
        root: folder of labelled clips, see `pipeline.datasets.find_clips`.
        split: only clips of this split; all, where `clips.csv` names no split at all.
        cache: folder of decoded clips.
        on_clip: called with how many clips are decoded, and how many there will be.
    """

    root: Path
    split: str
    cache: Path
    on_clip: OnClip = lambda done, total: None

    def find(self, at_most: int | None = None) -> list[Clip]:
        """The clips, or `at_most` of them, spread evenly.

        Raises:
            InputError: there is none, or none in the split.
        """
        found = find_clips(self.root)
        chosen = by_split(found, self.split) if any(clip.split for clip in found) else found
        if at_most is None or len(chosen) <= at_most:
            return chosen
        return [chosen[i] for i in np.linspace(0, len(chosen) - 1, at_most).round().astype(int)]

    def load(self, clips: Sequence[Clip], spec: WindowSpec) -> Iterator[LabelledClip]:
        for i, clip in enumerate(clips):
            self.on_clip(i, len(clips))
            yield load_clip(clip, self.cache, width=spec.width, height=spec.height)
        self.on_clip(len(clips), len(clips))


@dataclass(frozen=True)
class QuantizedResult:
    """What `make_quantized` wrote.

    Attributes:
        path: of the network; None where it failed and nobody asked for a file.
        again: share of the judged windows that were looked at twice, see `runtimes.second_look`.
        verdict: on clips that it was not calibrated on.
    """

    path: Path | None
    again: float
    verdict: Verdict


def make_quantized(
    weights: str,
    source: ClipSource,
    judges: ClipSource,
    n_windows: int,
    seed: int,
    out: Path | None = None,
) -> QuantizedResult:
    """Quantize weights and write the network where `track` finds it, or to `out`.

    It is judged as `openvino-int8`, which every CPU runs.  One that fails the gate is not put where
    `track` would find it.

    Args:
        source: clips to calibrate on.
        judges: clips that it must pass the gate on; not those that scores are told of.

    Raises:
        InputError: NNCF is not installed, no clip is found, or the model makes no heatmaps.
        WeightsError: no such weights.
    """
    path = find_weights(weights)
    model = load_model(path)
    spec = window_spec(model)
    clips = list(source.load(source.find(CALIBRATION_CLIPS), spec))
    chosen = judges.find(CALIBRATION_CLIPS)
    length = ceil(JUDGED_FRAMES / len(chosen))
    judged = [middle(clip, length) for clip in judges.load(chosen, spec)]
    quantized = quantize_weights(path, clips, n_windows, seed)
    runtime = open_runtime(resolve("openvino-int8", "cpu"), model, quantized)
    assert isinstance(runtime, SecondLook)
    verdict = Verdict.of(*judge([TorchRuntime(load_model(path)), runtime], judged))
    target = out or (cache_path(weights_hash(path)) if verdict.passed else None)
    if target is not None:
        save_quantized(quantized, target)
    return QuantizedResult(target, runtime.again / runtime.windows, verdict)


def check(
    weights: str, source: ClipSource, runtimes: Sequence[str], n_frames: int, device: str
) -> dict[str, Verdict]:
    """Judge runtimes of some weights on labelled clips.

    Args:
        runtimes: by name; empty takes every one of OpenVINO's that can run here.
        n_frames: about so many frames, from the middles of all clips; 0 takes all.
    """
    path = find_weights(weights)
    spec = window_spec(load_model(path))
    chosen = source.find()
    clips = source.load(chosen, spec)
    if n_frames:
        clips = (middle(clip, ceil(n_frames / len(chosen))) for clip in clips)
    return check_weights(path, runtimes or _ready(path), clips, device)


def _ready(weights: Path) -> list[str]:
    """OpenVINO's runtimes that can run these weights now."""
    if not openvino_available():
        raise InputError("there is no OpenVINO to check: pip install 'tracknet[openvino]'")
    names = ["openvino", "openvino-int8"] if has_quantized(weights) else ["openvino"]
    return names + [f"{name}-bf16" for name in names if computes_bf16("cpu")]
