"""Which runtime and precision compute the model, nothing left to `auto`.

| runtime    | precision | what runs                                                               |
|------------|-----------|-------------------------------------------------------------------------|
| `torch`    | `fp32`    | PyTorch: the reference that `pipeline.runtimes.parity` compares with    |
|            | `bf16`    | convolutions and matrix products in bfloat16                            |
|            | `fp16`    | the same in float16, GPUs only                                          |
| `openvino` | `fp32`    | OpenVINO, CPUs only                                                     |
|            | `bf16`    | bfloat16, where the CPU has instructions for it                         |
|            | `int8`    | a network made by `pipeline.runtimes.quantize`; windows with uncertain  |
|            |           | results are recomputed in float32; layers that are not quantized run in |
|            |           | bfloat16 where the CPU has instructions for it                          |

`auto` takes, on a CPU, OpenVINO where it is installed: INT8 where the weights have a quantized
network, else bfloat16 where the CPU has instructions for it; on a GPU PyTorch in float16, compiled
where Triton is installed.

This module imports no PyTorch at its top: the command line asks it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tracknet.pipeline.errors import InputError

RUNTIMES = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
_OF_RUNTIME = {"torch": ("fp32", "bf16", "fp16"), "openvino": ("fp32", "bf16", "int8")}
_FORMER_NAMES = {
    "torch-bf16": ("torch", "bf16"),
    "torch-fp16": ("torch", "fp16"),
    "compiled-fp16": ("torch", "fp16"),
    "compiled-bf16": ("torch", "bf16"),
    "openvino-bf16": ("openvino", "bf16"),
    "openvino-int8": ("openvino", "int8"),
    "openvino-int8-bf16": ("openvino", "int8"),
}
CUDA_BATCH = 16  # windows; a GPU needs several at once to be busy, a CPU does not


@dataclass(frozen=True)
class RuntimeChoice:
    """Which runtime and precision; each combination has bits of its own.

    Attributes:
        runtime: `torch` or `openvino`.
        precision: one of PRECISIONS but `auto`.
        floats: precision of the layers that INT8 leaves in float, `fp32` or `bf16`; else
            `precision`.
        device: as PyTorch names devices.
        batch: windows computed as one; OpenVINO does several such side by side.
    """

    runtime: str
    precision: str
    floats: str
    device: str
    batch: int

    @property
    def name(self) -> str:
        """For people.

        >>> RuntimeChoice("openvino", "int8", "bf16", "cpu", 1).name
        'openvino int8+bf16'
        """
        mixed = f"+{self.floats}" if self.precision == "int8" and self.floats != "fp32" else ""
        return f"{self.runtime} {self.precision}{mixed}"


def resolve(
    runtime: str, precision: str, device: str, batch: int = 0, quantized: bool = False
) -> RuntimeChoice:
    """Decide what `auto` and a batch of 0 stand for on a device.

    Args:
        runtime: one of RUNTIMES.
        precision: one of PRECISIONS.
        device: `cpu`, `cuda`, `cuda:1`, ...
        batch: windows in a call; 0 chooses by the device.
        quantized: whether the weights have a quantized network that `auto` may take.

    Raises:
        InputError: there is no such combination, or it cannot run on this device or machine.

    >>> resolve("torch", "auto", "cpu").name
    'torch fp32'
    """
    on_cpu = device.split(":")[0] == "cpu"
    if runtime in _FORMER_NAMES:
        new = "--runtime {} --precision {}".format(*_FORMER_NAMES[runtime])
        raise InputError(f"--runtime {runtime} is now {new}")
    if runtime not in RUNTIMES:
        raise InputError(f"--runtime {runtime}: choose one of {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    if runtime == "auto":
        openvino = on_cpu and (precision == "int8" or openvino_available())
        runtime = "openvino" if openvino and precision != "fp16" else "torch"
    if precision == "auto":
        int8 = quantized and batch <= 1  # a quantized network takes one window at a time
        precision = _best_precision(runtime, device, int8)
    if precision not in _OF_RUNTIME[runtime]:
        possible = ", ".join(_OF_RUNTIME[runtime])
        raise InputError(f"--precision {precision}: {runtime} on {device} supports {possible}")
    if runtime == "openvino" and not on_cpu:
        raise InputError(f"--runtime openvino is for CPUs, not for {device}; remove the option")
    if runtime == "openvino" and not openvino_available():
        raise InputError("--runtime openvino needs OpenVINO: pip install 'tracknet[openvino]'")
    if precision == "fp16" and on_cpu:
        raise InputError("--precision fp16 is for GPUs; a CPU computes fp32, bf16 or int8")
    floats = precision
    if precision == "int8":
        floats = "bf16" if computes_bf16(device) else "fp32"
    return RuntimeChoice(runtime, precision, floats, device, batch or (1 if on_cpu else CUDA_BATCH))


def _best_precision(runtime: str, device: str, int8: bool) -> str:
    if device.split(":")[0] != "cpu":
        return "fp16"  # as fast as bfloat16, with eight times finer steps
    if runtime == "torch":
        return "fp32"
    # Measured on x86 only, where AVX2 is enough for INT8 to win.
    if int8 and _cpu_abilities().get("avx2"):
        return "int8"
    return "bf16" if computes_bf16(device) else "fp32"


def openvino_available() -> bool:
    """Whether OpenVINO is installed; asked without importing it."""
    return find_spec("openvino") is not None


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16; elsewhere it is emulated, and slow."""
    if device.split(":")[0] != "cpu":
        import torch

        # The driver of a cluster may have no GPU to ask; the GPUs of the last years have it.
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    able = _cpu_abilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _cpu_abilities() -> dict[str, bool]:
    with suppress(OSError):  # Linux says it without PyTorch, which takes seconds to load
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return dict.fromkeys(flags[1].split(), True) if flags else {}
    import torch

    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # 2.11 cannot tell
    return able
