"""A model computed by OpenVINO, on a CPU.

PyTorch is loaded only to convert a model (`pipeline.runtimes.prepared` keeps what comes out).

network = to_openvino(load_model("v5.safetensors"))
runtime = OpenVinoRuntime(network, spec, threads=2)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.engine import Heatmaps
from tracknet.pipeline.tracking.peaks import Peak, PeakMode, find_candidates

if TYPE_CHECKING:
    import openvino
    from torch import nn

CPU_STREAMS = 4  # calls side by side, at most; each has memory of its own


def to_openvino(model: nn.Module, batch: int = 1) -> openvino.Model:
    """The model as an OpenVINO network: uint8 `[batch, P, H, W, 3]` -> `[batch, targets, H, W]`.

    Every architecture of `pipeline.models` that makes heatmaps converts.

    Raises:
        InputError: the model makes no heatmaps.
    """
    import openvino
    import torch

    from tracknet.pipeline.models.blocks import FromBytes, window_spec

    spec = window_spec(model)
    pictures = torch.zeros(batch, spec.pictures, spec.height, spec.width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing takes the checks of a model's input as they come out for this one size, which
        # is the only one; and PyTorch announces that tracing will go one day.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(FromBytes(model).eval(), pictures, check_trace=False)
        return openvino.convert_model(traced, input=[tuple(pictures.shape)])


class OpenVinoRuntime:
    """A network in OpenVINO, on the CPU.

    Several batches are computed side by side, each by its share of the threads: threads that work
    on one batch wait for each other at every layer.

    Attributes:
        each: the network's batch, which decides the bits; `batch` of them fill all threads.

    Args:
        network: from `to_openvino` or `runtimes.quantize`; its batch is fixed.
        spec: of the model it was made from.
        threads: None takes all cores.
        precision: of what is not quantized, `fp32` or `bf16`.
        streams: batches side by side; None chooses by the threads.
    """

    def __init__(
        self,
        network: openvino.Model,
        spec: WindowSpec,
        threads: int | None = None,
        precision: str = "fp32",
        streams: int | None = None,
    ) -> None:
        from openvino import Core

        self.spec = spec
        threads = threads or os.cpu_count() or 1
        streams = streams or min(threads, CPU_STREAMS)
        self.each = int(network.input(0).shape[0])
        self.batch = self.each * streams
        hints = {
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision),
            "ENABLE_CPU_PINNING": "NO",  # the decoders use the same cores
        }
        compiled = Core().compile_model(network, "CPU", hints)
        self._requests = [compiled.create_infer_request() for _ in range(streams)]

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 `[n, P, H, W, 3]` -> float32 `[n, targets, H, W]`; n: times `each`, to `batch`."""
        parts = np.split(pictures, len(pictures) // self.each)
        running = self._requests[: len(parts)]
        for request, part in zip(running, parts, strict=True):
            request.start_async({0: part})
        for request in running:
            request.wait()
        # A copy: the next call overwrites what the requests hold.
        return np.concatenate([request.get_output_tensor(0).data for request in running])

    def peaks(
        self,
        heatmaps: Sequence[Heatmaps],
        mode: PeakMode,
        threshold: float,
        limit: int,
        floor: float | None = None,
    ) -> list[list[Peak]]:
        """The peaks of each heatmap."""
        return [find_candidates(np.asarray(h), mode, threshold, limit, floor) for h in heatmaps]
