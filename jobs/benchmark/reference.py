"""The reference loop: how the released script runs, to measure ours against.

One process, one thing after the other: OpenCV reads as many frames as a window has, resizes them,
the PyTorch model sees a batch of one in float32 and its default memory order, each heatmap is
brought back and its largest contour is the ball; then the next frames.  Nothing overlaps, and the
frames behind the last whole window are left out.

    for peak in ReferenceLoop(load_model("v5.safetensors")).run(Path("rally.mp4")):
        ...

It finds what the engine finds with `--peak contour` and the `torch` runtime, only slower; a test
compares them.  It serves for measuring and for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from tracknet.pipeline.errors import InputError, VideoError
from tracknet.pipeline.models.blocks import to_frames, window_spec
from tracknet.pipeline.tracking.peaks import Peak, find_peak


class ReferenceLoop:
    """The released script around a model, without its printing and drawing.

    Args:
        model: a heatmap model that answers for every frame it sees; moved to the device.
        device: as PyTorch names devices.

    Raises:
        InputError: the model has another kind of window.
    """

    def __init__(self, model: nn.Module, device: str = "cpu") -> None:
        self.spec = window_spec(model)
        if self.spec.background or len(self.spec.targets) != self.spec.frames:
            raise InputError(
                f"{type(model).__name__} does not answer for every frame of its window; there is "
                "no reference loop for it"
            )
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()

    def run(self, video: Path, n_frames: int | None = None) -> Iterator[Peak | None]:
        """One ball, or None, per frame of whole windows, in network pixels.

        Raises:
            VideoError: OpenCV cannot open the file.
        """
        pictures = islice(_read(video, self.spec.width, self.spec.height), n_frames)
        while len(window := list(islice(pictures, self.spec.frames))) == self.spec.frames:
            yield from self.look(np.stack(window))

    def look(self, window: np.ndarray) -> list[Peak | None]:
        """The balls of one window, uint8 `[T, H, W, 3]` RGB."""
        return [find_peak(heatmap, "contour", 0.5) for heatmap in self.heatmaps(window)]

    @torch.inference_mode()
    def heatmaps(self, window: np.ndarray) -> np.ndarray:
        """float32 `[T, H, W]` of one window."""
        frames = to_frames(torch.from_numpy(window)[None]).to(self.device)
        return self.model(frames)[0].cpu().numpy()


def _read(video: Path, width: int, height: int) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(video))
    if not capture.isOpened():
        raise VideoError(f"{video}: OpenCV cannot open it")
    try:
        while (got := capture.read())[0]:
            yield cv2.cvtColor(cv2.resize(got[1], (width, height)), cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
