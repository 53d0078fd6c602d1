"""From a choice to a runtime that is ready to be called.

    prepared = prepare("v5.safetensors")
    runtime = open_runtime(resolve("auto", "auto", "cpu"), prepared)
    heatmaps = runtime(pictures)      # uint8 [batch, P, H, W, 3] -> float32 [batch, targets, H, W]
    balls = runtime.peaks(heatmaps[0], "centroid", 0.5, limit=1)

The number of windows in a call is fixed when a runtime is made, so a window is always computed by
the same kernels.  On a GPU heatmaps stay there, and peaks are found from the pixels that count.
"""

from __future__ import annotations

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.runtimes.choice import RuntimeChoice
from tracknet.pipeline.runtimes.openvino_runtime import OpenVinoRuntime
from tracknet.pipeline.runtimes.prepared import Prepared
from tracknet.pipeline.runtimes.quantize import Quantized
from tracknet.pipeline.runtimes.recompute import RecomputingRuntime
from tracknet.pipeline.tracking.engine import Runtime


def open_runtime(
    choice: RuntimeChoice,
    prepared: Prepared,
    quantized: Quantized | None = None,
    threads: int | None = None,
    threshold: float = 0.5,
) -> Runtime:
    """Make a runtime.

    Args:
        choice: from `resolve`.
        prepared: the weights.
        quantized: from `pipeline.runtimes.quantize`, for INT8.
        threads: for the model on a CPU; None takes all cores.
        threshold: probability that a ball must exceed; INT8 results close to it are recomputed.

    Raises:
        InputError: the quantized network has another batch.
    """
    if choice.runtime == "torch":
        from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime

        model = prepared.model()
        return TorchRuntime(model, choice.device, choice.batch, choice.precision, threads)
    spec = prepared.spec
    if choice.precision != "int8":
        network = prepared.network(choice.batch)
        return OpenVinoRuntime(network, spec, threads, choice.precision)
    assert quantized is not None
    fast = OpenVinoRuntime(quantized.network(), spec, threads, choice.floats)
    if fast.each != choice.batch:
        raise InputError(f"batch {choice.batch}: the quantized network takes {fast.each} window(s)")
    return RecomputingRuntime(fast, prepared.network(), quantized.margin, threshold, threads)
