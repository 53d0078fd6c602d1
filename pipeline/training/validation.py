"""Score a model on labelled clips while it trains, by the tracker's rules.

Windows are laid as the tracker lays them (every frame answered once), peaks are found the published
way, and the released metric decides: 4 px at network size, ground truth scaled and truncated.
Unlabelled frames do not count.

    windows = validation_windows(clips, model.spec, limit=96)
    counts = validate(model, windows, torch.device("cpu"))

This module knows nothing of training; tables of scores for users are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tracknet.pipeline.datasets import LabelledClip, WindowedDataset
from tracknet.pipeline.scoring.metrics import Counts, outcomes, truth_in_model_space
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.peaks import find_peak
from tracknet.pipeline.tracking.windows import Window, windows_for, without_repeats

TOLERANCE_PX = 4.0
THRESHOLD = 0.5
_BATCH = 4


class ClipWindow(NamedTuple):
    """A window and the clip that it lies on."""

    clip: LabelledClip
    window: Window
    background: bool

    def pictures(self) -> NDArray[np.uint8]:
        """uint8 [P, H, W, 3], behind the background where the model wants one."""
        frames: NDArray[np.uint8] = self.clip.frames[list(self.window.frames)]
        if self.background:
            frames = np.concatenate([self.clip.background[None], frames])
        return frames


def validation_windows(
    source: Sequence[LabelledClip] | WindowedDataset,
    spec: WindowSpec,
    limit: int | None = None,
    skip_repeats: bool = False,
) -> list[ClipWindow]:
    """Windows to score.

    Args:
        source: clips, whose every frame is answered once; or a `WindowedDataset`, whose windows
            are taken as they are, so that a frame counts once per window (the paper's protocol).
        spec: the window of the model.
        limit: at most so many, spread evenly; None for all.
        skip_repeats: of clips, lay windows over frames that differ.
    """
    if isinstance(source, WindowedDataset):
        windows = [_as_window(source, clip, first) for clip, first in source.starts]
    else:
        windows = [
            ClipWindow(
                clip,
                without_repeats(window, repeats, spec, len(clip.frames)),
                spec.background,
            )
            for clip in source
            for repeats in [set(np.flatnonzero(clip.repeats).tolist()) if skip_repeats else set()]
            for window in windows_for(
                range(len(clip.frames)), len(clip.frames), spec, len(spec.targets)
            )
        ]
    if limit is None or limit >= len(windows):
        return windows
    spread = np.linspace(0, len(windows) - 1, limit).round().astype(int)
    return [windows[index] for index in spread]


def _as_window(source: WindowedDataset, clip: int, first: int) -> ClipWindow:
    spec = source.spec
    emits = tuple((output, first + target) for output, target in enumerate(spec.targets))
    window = Window(tuple(range(first, first + spec.frames)), emits)
    return ClipWindow(source.clips[clip], window, spec.background)


@torch.no_grad()
def validate(model: nn.Module, windows: Sequence[ClipWindow], device: torch.device) -> Counts:
    """Counts over the labelled frames of some windows.

    The model is put in eval mode and left there.
    """
    model.eval()
    total = Counts()
    for begin in range(0, len(windows), _BATCH):
        batch = windows[begin : begin + _BATCH]
        pictures = torch.from_numpy(np.stack([one.pictures() for one in batch])).to(device)
        frames = pictures.permute(0, 1, 4, 2, 3).contiguous().float().div_(255)
        heatmaps = model(frames).float().cpu().numpy()
        total = total + _outcomes(batch, heatmaps)
    return total


def _outcomes(batch: Iterable[ClipWindow], heatmaps: NDArray[np.float32]) -> Counts:
    pairs = [
        pair
        for one, maps in zip(batch, heatmaps, strict=True)
        for pair in _found_and_true(one, maps)
    ]
    if not pairs:
        return Counts()
    found, true = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    found_outcomes, _ = outcomes(found, true, TOLERANCE_PX)
    return Counts.of(found_outcomes)


def _found_and_true(
    one: ClipWindow, heatmaps: NDArray[np.float32]
) -> Iterator[tuple[tuple[float, float], NDArray[np.float64]]]:
    """Predicted and true position, model px, of each labelled frame that a window answers for."""
    height, width = one.clip.frames.shape[1:3]
    truth = truth_in_model_space(one.clip.xy_source, one.clip.clip.size, (width, height))
    for output, frame in one.window.emits:
        if one.clip.labelled[frame]:
            peak = find_peak(heatmaps[output], "contour", THRESHOLD)
            yield (peak.x, peak.y) if peak else (np.nan, np.nan), truth[frame]
