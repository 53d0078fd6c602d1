"""Quantize weights with labelled clips, and check runtimes on labelled clips.

Both decode clips into the cache that training uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from tracknet.pipeline.datasets import (
    Clip,
    LabelledClip,
    WindowedDataset,
    by_split,
    find_clips,
    load_clip,
)
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.pipeline.runtimes.choice import computes_bf16, resolve
from tracknet.pipeline.runtimes.opening import open_runtime
from tracknet.pipeline.runtimes.parity import GateResult, check_weights, middle, outcomes_of
from tracknet.pipeline.runtimes.prepared import prepare
from tracknet.pipeline.runtimes.quantize import (
    cache_path,
    has_quantized,
    quantize,
    save_quantized,
)
from tracknet.pipeline.runtimes.recompute import RecomputingRuntime
from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.weights import find_weights, weights_hash

CALIBRATION_CLIPS = 24  # spread over the folder: decoding all of it would take longer than NNCF

CHECKED_FRAMES = 600  # of clips that nothing was calibrated on

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
        path: of the network; None where it failed and `out` was not given.
        recomputed: share of the windows that were recomputed in float32.
        result: on clips that it was not calibrated on.
    """

    path: Path | None
    recomputed: float
    result: GateResult


def make_quantized(
    weights: str,
    source: ClipSource,
    validation: ClipSource,
    n_windows: int,
    seed: int,
    out: Path | None = None,
) -> QuantizedResult:
    """Quantize weights and write the network where `track` finds it, or to `out`.

    One that fails the accuracy gate is not put where `track` would find it.

    Args:
        weights: name or file.
        source: clips to calibrate on.
        validation: clips that it must pass the gate on; not those that scores are reported on.
        n_windows: to calibrate with; fewer where the clips have fewer.
        seed: of the draw, in which small sports are not drowned by large ones.
        out: None for the user's cache.

    Raises:
        InputError: NNCF is not installed, no clip is found, the model makes no heatmaps, or `out`
            does not end in .xml.
        WeightsError: no such weights.
    """
    if out is not None and out.suffix != ".xml":  # asked before minutes of work
        raise InputError(f"{out}: the name of a quantized network must end in .xml")
    path = find_weights(weights)
    model = load_model(path)
    spec = window_spec(model)
    clips = list(source.load(source.find(CALIBRATION_CLIPS), spec))
    chosen = validation.find(CALIBRATION_CLIPS)
    length = ceil(CHECKED_FRAMES / len(chosen))
    checked = [middle(clip, length) for clip in validation.load(chosen, spec)]
    dataset = WindowedDataset(clips, spec)
    drawn = np.random.default_rng(seed).choice(
        len(dataset), min(n_windows, len(dataset)), replace=False, p=dataset.balanced(0.5)
    )
    windows = (dataset[i].pictures for i in np.sort(drawn).tolist())
    record = {"clips": [str(clip.clip) for clip in clips], "seed": seed}
    quantized = quantize(model, windows, weights_hash(path), record)
    runtime = open_runtime(resolve("openvino", "int8", "cpu"), prepare(path), quantized)
    assert isinstance(runtime, RecomputingRuntime)
    result = GateResult.of(*outcomes_of([TorchRuntime(load_model(path)), runtime], checked))
    target = out or (cache_path(weights_hash(path)) if result.passed else None)
    if target is not None:
        save_quantized(quantized, target)
    return QuantizedResult(target, runtime.recomputed / runtime.windows, result)


def check(
    weights: str,
    source: ClipSource,
    runtime: str,
    precisions: Sequence[str],
    n_frames: int,
    device: str,
) -> dict[str, GateResult]:
    """Compare runtimes of some weights with PyTorch in float32, on labelled clips.

    Args:
        weights: name or file.
        source: labelled clips.
        runtime: one of `pipeline.runtimes.choice.RUNTIMES`.
        precisions: to check; empty takes every one that can run here.
        n_frames: about so many frames, from the middles of all clips; 0 takes all.
        device: as PyTorch names devices.
    """
    path = find_weights(weights)
    spec = prepare(path).spec
    if not precisions:
        able = {"int8": has_quantized(path), "bf16": computes_bf16(device)}
        precisions = ["fp32", *(name for name, can in able.items() if can)]
    choices = [resolve(runtime, precision, device) for precision in precisions]
    chosen = source.find()
    clips = source.load(chosen, spec)
    if n_frames:
        clips = (middle(clip, ceil(n_frames / len(chosen))) for clip in clips)
    return check_weights(path, choices, clips)
