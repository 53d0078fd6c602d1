"""What computes heatmaps: the same model in PyTorch or in OpenVINO, behind the same call.

    runtime = open_runtime(resolve("auto", "cpu"), model)
    heatmaps = runtime(pictures)      # uint8 [batch, P, H, W, 3] -> float32 [batch, targets, H, W]
    balls = runtime.peaks(heatmaps[0], "centroid", 0.5, limit=1)

| name                 | what runs                                                             |
|----------------------|-----------------------------------------------------------------------|
| `torch`              | PyTorch in float32: what `runtimes.parity` checks the others against  |
| `torch-bf16`         | PyTorch, convolutions and matrix products in bfloat16                 |
| `torch-fp16`         | the same in float16, GPU                                              |
| `compiled-fp16`      | the same, compiled for the GPU by PyTorch                             |
| `compiled-bf16`      | the same in bfloat16                                                  |
| `openvino`           | OpenVINO in float32, CPU                                              |
| `openvino-bf16`      | OpenVINO in bfloat16, CPUs with instructions for it                   |
| `openvino-int8`      | OpenVINO, quantized by `runtimes.quantize`, in doubt float32, CPU     |
| `openvino-int8-bf16` | the same, layers that are not quantized in bfloat16                   |
| `auto`               | on a CPU OpenVINO, where it is installed, INT8 where the weights have |
|                      | a quantized network, bfloat16 where the CPU computes it; on a GPU     |
|                      | float16, compiled where Triton is installed                           |

The number of windows in a call is fixed when a runtime is made, so a window is always computed by
the same kernels.  Bits differ between runtimes, so the name of the runtime decides rows.

On a GPU heatmaps stay there, and peaks are found there where that can be done.

This module knows nothing of windows on a video or of files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.runtimes.device_peaks import device_peaks
from tracknet.pipeline.runtimes.networks import FromBytes, compile_network, to_openvino
from tracknet.pipeline.runtimes.second_look import SecondLook
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.engine import Heatmaps, Runtime
from tracknet.pipeline.tracking.peaks import Peak, PeakMode, find_candidates

if TYPE_CHECKING:
    import openvino

    from tracknet.pipeline.runtimes.quantize import Quantized

RuntimeName = Literal[
    "torch",
    "torch-bf16",
    "torch-fp16",
    "compiled-fp16",
    "compiled-bf16",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
    "openvino-int8-bf16",
]
RUNTIMES: tuple[str, ...] = ("auto", *get_args(RuntimeName))
QUANTIZED = ("openvino-int8", "openvino-int8-bf16")
OPENVINO_RUNTIMES = ("openvino", "openvino-bf16", *QUANTIZED)
COMPILED = ("compiled-fp16", "compiled-bf16")
AUTOCAST = {
    "torch-bf16": torch.bfloat16,
    "torch-fp16": torch.float16,
    "compiled-fp16": torch.float16,
    "compiled-bf16": torch.bfloat16,
}
CUDA_BATCH = 16  # windows; a GPU needs several at once to be busy, a CPU does not
CPU_STREAMS = 4  # calls of OpenVINO side by side, at most; each has memory of its own


@dataclass(frozen=True)
class RuntimeChoice:
    """Which runtime, nothing left to `auto`.

    Attributes:
        name: one of `RUNTIMES` but `auto`.
        device: as PyTorch names devices.
        batch: windows computed as one; OpenVINO does several such side by side.
    """

    name: str
    device: str
    batch: int


def resolve(name: str, device: str, batch: int = 0, quantized: bool = False) -> RuntimeChoice:
    """Decide what `auto` and a batch of 0 stand for on a device.

    Args:
        name: one of `RUNTIMES`.
        device: `cpu`, `cuda`, `cuda:1`, ...
        batch: windows in a call; 0 chooses by the device.
        quantized: whether the weights have a quantized network that `auto` may take.

    Raises:
        InputError: no such runtime, OpenVINO on a GPU, or OpenVINO is not installed.

    >>> resolve("torch", "cpu")
    RuntimeChoice(name='torch', device='cpu', batch=1)
    """
    on_cpu = torch.device(device).type == "cpu"
    if name not in RUNTIMES:
        raise InputError(f"runtime {name!r}: choose one of {', '.join(RUNTIMES)}")
    if name in OPENVINO_RUNTIMES:
        if not on_cpu:
            raise InputError(f"runtime {name} is for CPUs; leave it away on {device}")
        if not openvino_available():
            raise InputError(f"runtime {name} needs OpenVINO: pip install 'tracknet[openvino]'")
    if name == "auto":
        name = _best(device, quantized and batch <= 1)  # a quantized network takes one window
    return RuntimeChoice(name, device, batch or (1 if on_cpu else CUDA_BATCH))


def openvino_available() -> bool:
    """Whether OpenVINO is installed; asked without importing it."""
    return find_spec("openvino") is not None


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16; elsewhere it is emulated, and slow."""
    if torch.device(device).type == "cuda":
        # The driver of a cluster may have no GPU to ask; the GPUs of the last years have it.
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    able = _cpu_abilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _cpu_abilities() -> dict[str, bool]:
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # 2.11 cannot tell
    return able


def _best(device: str, quantized: bool) -> str:
    if torch.device(device).type == "cuda":
        # The same width as bfloat16, with eight times finer steps.  Triton compiles.
        return "compiled-fp16" if find_spec("triton") else "torch-fp16"
    if not openvino_available():
        return "torch"
    # Measured on x86 only, where AVX2 is enough for INT8 to win.
    int8 = "-int8" if quantized and _cpu_abilities().get("avx2") else ""
    half = "-bf16" if computes_bf16(device) else ""
    return f"openvino{int8}{half}"


def open_runtime(
    choice: RuntimeChoice,
    model: nn.Module,
    quantized: Quantized | None = None,
    threads: int | None = None,
    threshold: float = 0.5,
) -> Runtime:
    """Make a runtime ready to be called.

    Args:
        choice: from `resolve`.
        model: a heatmap model; it is moved to the device.
        quantized: from `pipeline.runtimes.quantize`, for `QUANTIZED`.
        threads: for the model on a CPU; None takes all cores.
        threshold: probability that a ball must exceed; `QUANTIZED` looks twice close to it.

    Raises:
        InputError: the model makes no heatmaps, or the quantized network has another batch.
    """
    if choice.name not in OPENVINO_RUNTIMES:
        compiled = choice.name in COMPILED
        autocast = AUTOCAST.get(choice.name)
        return TorchRuntime(model, choice.device, choice.batch, autocast, threads, compiled)
    spec = window_spec(model)
    precision = "bf16" if choice.name.endswith("-bf16") else "f32"
    if choice.name not in QUANTIZED:
        return OpenVinoRuntime(to_openvino(model, choice.batch), spec, threads, precision)
    assert quantized is not None
    fast = OpenVinoRuntime(quantized.network(), spec, threads, precision)
    if fast.each != choice.batch:
        raise InputError(f"batch {choice.batch}: the quantized network takes {fast.each} window(s)")
    return SecondLook(fast, model, quantized.margin, threshold, threads, precision)


class TorchRuntime:
    """A model in PyTorch.

    On a GPU a call comes back before its heatmaps are there, so that the next batch can be put
    together meanwhile; `peaks` waits for them.

    Args:
        model: a heatmap model; it is moved to the device.
        device: as PyTorch names devices.
        batch: windows in a call.
        autocast: what convolutions and matrix products compute in; None leaves float32.
        threads: PyTorch's, in the whole process; None leaves them as they are.
        compiled: have PyTorch compile the model, which joins what lies between convolutions.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str = "cpu",
        batch: int = 1,
        autocast: torch.dtype | None = None,
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.spec = window_spec(model)
        self.batch = batch
        self.device = torch.device(device)
        self.autocast = autocast
        if threads is not None:
            torch.set_num_threads(threads)
        # Convolutions with few channels run about twice as fast in this memory order on CPUs, and
        # the tensor cores of GPUs want it.
        model = model.to(self.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.model: nn.Module = FromBytes(model)
        if compiled:
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


class OpenVinoRuntime:
    """A network in OpenVINO, on the CPU.

    Several batches are computed side by side, each by its share of the threads: threads that work
    on one batch wait for each other at every layer.

    Attributes:
        each: the network's batch, which decides the bits; `batch` of them fill all threads.

    Args:
        network: from `runtimes.networks` or `runtimes.quantize`; its batch is fixed.
        spec: of the model it was made from.
        threads: None takes all cores.
        precision: of what is not quantized, `f32` or `bf16`.
        streams: batches side by side; None chooses by the threads.
    """

    def __init__(
        self,
        network: openvino.Model,
        spec: WindowSpec,
        threads: int | None = None,
        precision: str = "f32",
        streams: int | None = None,
    ) -> None:
        self.spec = spec
        threads = threads or os.cpu_count() or 1
        streams = streams or min(threads, CPU_STREAMS)
        self.each = int(network.input(0).shape[0])
        self.batch = self.each * streams
        compiled = compile_network(network, threads, streams, precision)
        self._outputs = len(network.outputs)
        self._requests = [compiled.create_infer_request() for _ in range(streams)]

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 `[n, P, H, W, 3]` -> float32 `[n, targets, H, W]`; n: times `each`, to `batch`."""
        return self.outputs(pictures)[0]

    def outputs(self, pictures: np.ndarray) -> list[np.ndarray]:
        """All that the network gives: heatmaps, and the draft if it gives one, as `__call__`."""
        parts = np.split(pictures, len(pictures) // self.each)
        running = self._requests[: len(parts)]
        for request, part in zip(running, parts, strict=True):
            request.start_async({0: part})
        for request in running:
            request.wait()
        # A copy: the next call overwrites what the requests hold.
        return [
            np.concatenate([request.get_output_tensor(i).data for request in running])
            for i in range(self._outputs)
        ]

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
