"""A model computed by PyTorch, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn

from tracknet.pipeline.models.blocks import FromBytes, window_spec
from tracknet.pipeline.runtimes.device_peaks import device_peaks
from tracknet.pipeline.tracking.engine import Heatmaps
from tracknet.pipeline.tracking.peaks import Peak, PeakMode, find_candidates

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """A model in PyTorch.

    On a GPU a call comes back before its heatmaps are there, so that the next batch can be put
    together meanwhile; `peaks` waits for them.

    Args:
        model: a heatmap model; it is moved to the device.
        device: as PyTorch names devices.
        batch: windows in a call.
        precision: what convolutions and matrix products compute in, `fp32`, `bf16` or `fp16`; half
            precision on a GPU is compiled where Triton is installed.
        threads: PyTorch's, in the whole process; None leaves them as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str = "cpu",
        batch: int = 1,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        self.spec = window_spec(model)
        self.batch = batch
        self.device = torch.device(device)
        self.autocast = HALF.get(precision)
        if threads is not None:
            torch.set_num_threads(threads)
        # Convolutions with few channels run about twice as fast in this memory order on CPUs, and
        # the tensor cores of GPUs want it.
        model = model.to(self.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.model: nn.Module = FromBytes(model)
        if self.autocast and self.device.type == "cuda" and find_spec("triton"):
            self.model = torch.compile(self.model, dynamic=False)  # type: ignore[assignment]
        self.copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        if self.copies is not None:  # the first call loads kernels or compiles, for seconds
            spec = self.spec
            self(np.zeros((batch, spec.pictures, spec.height, spec.width, 3), np.uint8))
            torch.cuda.synchronize(self.device)

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> Heatmaps:
        """uint8 `[batch, P, H, W, 3]` -> float32 `[batch, targets, H, W]`, on a GPU left there."""
        given = torch.from_numpy(pictures)
        if self.copies is not None:
            given = self._sent(given, self.copies)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            heatmaps: Tensor = self.model(given).float()
        return heatmaps.numpy() if self.copies is None else heatmaps

    def _sent(self, given: Tensor, copies: torch.cuda.Stream) -> Tensor:
        """On the GPU, while the batch before is computed there.

        Bytes travel, a quarter of the floats they become, and from memory that the GPU reads alone.
        """
        with torch.cuda.stream(copies):
            sent = given.pin_memory().to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(copies)
        sent.record_stream(computing)
        return sent

    def peaks(
        self,
        heatmaps: Sequence[Heatmaps],
        mode: PeakMode,
        threshold: float,
        limit: int,
        floor: float | None = None,
    ) -> list[list[Peak]]:
        """The peaks of each heatmap."""
        if self.copies is not None:
            maps = torch.stack([torch.as_tensor(heatmap) for heatmap in heatmaps])
            return device_peaks(maps, mode, threshold, limit, floor)
        return [find_candidates(np.asarray(h), mode, threshold, limit, floor) for h in heatmaps]
