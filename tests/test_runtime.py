"""Every runtime finds what PyTorch in float32 finds."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.models import InMemory, seeing
from tests.runs import ROOT
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models import build
from tracknet.pipeline.runtimes import choice as choices
from tracknet.pipeline.runtimes import torch_runtime
from tracknet.pipeline.runtimes.choice import resolve
from tracknet.pipeline.runtimes.opening import open_runtime
from tracknet.pipeline.runtimes.openvino_runtime import OpenVinoRuntime, to_openvino
from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime
from tracknet.pipeline.tracking.engine import Detector, DetectorSettings, FrameChunk

HEIGHT, WIDTH, FRAMES = 48, 64, 11
MODELS = [
    ("v1", {}),
    ("v3", {}),
    ("v5", {}),
    # Made of the same parts as those above; converting each takes seconds.
    pytest.param("v5", {"attention": "joint"}, marks=pytest.mark.slow),
    pytest.param("v2", {}, marks=pytest.mark.slow),
    pytest.param("v3_attention", {"width": 0.125}, marks=pytest.mark.slow),
    pytest.param("v4", {}, marks=pytest.mark.slow),
    pytest.param("v2_mdd", {}, marks=pytest.mark.slow),
    pytest.param("v2_rstr", {}, marks=pytest.mark.slow),
]
# Heatmaps of V1 are grey levels: where two are equally likely, rounding decides between them.
BOUND = {"v1": 1 / 255}


def tiny(arch, config):
    return seeing(arch, config, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def clip():
    """A bright ball that crosses noise, uint8 `[FRAMES, H, W, 3]`."""
    pictures = np.random.default_rng(0).integers(0, 90, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        picture[20 + i : 24 + i, 5 * i : 5 * i + 4] = 255
    return pictures


def peaks(runtime, clip, peak="contour"):
    background = np.median(clip, axis=0).astype(np.uint8)
    chunk = FrameChunk(range(FRAMES), 0, FRAMES, clip, background=background)
    made = Detector(runtime, DetectorSettings()).heatmaps(chunk)
    heatmaps = {f: torch.as_tensor(h).cpu().numpy() for batch in made for f, h in batch.items()}
    levels = np.quantile(np.concatenate([h.ravel() for h in heatmaps.values()]), 0.98)
    settings = DetectorSettings(peak=peak, threshold=float(np.clip(levels, 0.01, 0.99)), link=None)
    found = [d.candidates for d in Detector(runtime, settings).detect(chunk)]
    return heatmaps, [one[0] if one else None for one in found]


@pytest.mark.parametrize(("arch", "config"), MODELS)
def test_openvino_agrees_with_pytorch(clip, arch, config):
    model = tiny(arch, config)
    expected, expected_peaks = peaks(TorchRuntime(model), clip)
    runtime = open_runtime(resolve("openvino", "fp32", "cpu"), InMemory(model))
    found, found_peaks = peaks(runtime, clip)
    difference = max(float(abs(found[f] - expected[f]).max()) for f in expected)
    assert difference <= BOUND.get(arch, 2e-5)
    assert any(expected_peaks)
    assert [p and p[:2] for p in found_peaks] == [p and p[:2] for p in expected_peaks]


def test_openvino_does_not_depend_on_how_a_batch_is_filled(clip):
    model = tiny("v5", {})
    runtime = OpenVinoRuntime(to_openvino(model, batch=2), model.spec, threads=2)
    assert (runtime.each, runtime.batch) == (2, 4)  # two at once, in each of two streams
    windows = np.stack([clip[i : i + 3] for i in range(4)])
    four = runtime(windows)
    assert four.shape == (4, 3, HEIGHT, WIDTH)
    assert four.dtype == np.float32
    np.testing.assert_array_equal(runtime(windows[[3, 3, 1, 2]])[[0, 2]], four[[3, 1]])
    # What was returned stays as it is when the runtime is called again.
    assert not np.array_equal(four[0], four[1])
    np.testing.assert_array_equal(runtime(windows[2:]), four[2:])


def test_half_precision_comes_close(clip):
    model = tiny("v5", {})
    window = clip[None, :3]
    expected = TorchRuntime(model)(window)
    found = TorchRuntime(model, precision="bf16")(window)
    assert found.dtype == np.float32
    assert 0 < abs(found - expected).max() < 0.1
    found = open_runtime(resolve("openvino", "bf16", "cpu"), InMemory(model))(window)
    assert found.dtype == np.float32
    assert abs(found - expected).max() < 0.1  # float32, where the CPU knows no bfloat16


@pytest.mark.slow  # the compiler takes a minute
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # PyTorch's own
def test_compiled_is_the_same_model(clip):
    model = tiny("v5", {})
    windows = np.stack([clip[:3], clip[3:6]])
    runtime = TorchRuntime(model, batch=2)
    expected = runtime(windows)
    runtime.model = torch.compile(runtime.model, dynamic=False)
    np.testing.assert_allclose(runtime(windows), expected, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("peak", ["contour", "centroid"])
@pytest.mark.parametrize(("arch", "config"), MODELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16 compiled"])
def test_a_gpu_sees_what_a_cpu_sees(clip, monkeypatch, precision, arch, config, peak):
    if precision == "fp16":
        monkeypatch.setattr(torch_runtime, "find_spec", lambda name: None)
    expected, expected_peaks = peaks(TorchRuntime(tiny(arch, config)), clip, peak)
    choice = resolve("torch", precision.split()[0], "cuda", batch=2)
    runtime = open_runtime(choice, InMemory(tiny(arch, config)))
    found, found_peaks = peaks(runtime, clip, peak)
    assert max(float(abs(found[f] - expected[f]).max()) for f in expected) < 0.01
    assert [p is None for p in found_peaks] == [p is None for p in expected_peaks]


@pytest.mark.parametrize(
    ("device", "asked", "machine", "name"),
    [
        ("cpu", {}, {}, "openvino fp32"),
        ("cpu", {}, {"bf16": True}, "openvino bf16"),
        ("cpu", {"quantized": True}, {"avx2": True}, "openvino int8"),
        ("cpu", {"quantized": True}, {"avx2": True, "bf16": True}, "openvino int8+bf16"),
        ("cpu", {"quantized": True, "batch": 2}, {"avx2": True}, "openvino fp32"),
        ("cpu", {"quantized": True}, {}, "openvino fp32"),
        ("cpu", {}, {"openvino": False, "bf16": True}, "torch fp32"),
        ("cpu", {"precision": "bf16"}, {"openvino": False}, "torch bf16"),
        ("cpu", {"precision": "fp32", "quantized": True}, {"avx2": True}, "openvino fp32"),
        ("cpu", {"runtime": "torch"}, {"bf16": True}, "torch fp32"),
        ("cuda:1", {"quantized": True}, {"avx2": True}, "torch fp16"),
        ("cuda", {"precision": "bf16"}, {}, "torch bf16"),
    ],
)
def test_auto(monkeypatch, device, asked, machine, name):
    monkeypatch.setattr(choices, "computes_bf16", lambda device: machine.get("bf16", False))
    monkeypatch.setattr(choices, "_cpu_abilities", lambda: {"avx2": machine.get("avx2", False)})
    monkeypatch.setattr(choices, "openvino_available", lambda: machine.get("openvino", True))
    asked = {"runtime": "auto", "precision": "auto"} | asked
    choice = resolve(device=device, **asked)
    assert choice.name == name
    assert choice.device == device
    assert choice.batch == asked.get("batch", 1 if device == "cpu" else choices.CUDA_BATCH)


@pytest.mark.parametrize(
    ("runtime", "precision", "device", "words"),
    [
        ("tensorrt", "auto", "cpu", "--runtime tensorrt: choose one of auto, torch, openvino"),
        ("auto", "int4", "cpu", "--precision int4: choose one of auto, fp32, bf16, fp16, int8"),
        ("openvino", "fp32", "cuda", "openvino is for CPUs"),
        ("openvino", "fp16", "cpu", "openvino on cpu supports fp32, bf16, int8"),
        ("torch", "int8", "cpu", "torch on cpu supports fp32, bf16, fp16"),
        ("auto", "int8", "cuda", "torch on cuda supports fp32, bf16, fp16"),
        ("auto", "fp16", "cpu", "fp16 is for GPUs"),
        ("openvino-int8", "auto", "cpu", "is now --runtime openvino --precision int8"),
        ("compiled-fp16", "auto", "cuda", "is now --runtime torch --precision fp16"),
    ],
)
def test_impossible_runtimes(runtime, precision, device, words):
    with pytest.raises(InputError, match=words):
        resolve(runtime, precision, device)


def test_openvino_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(choices, "openvino_available", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'tracknet\[openvino\]'"):
        resolve("openvino", "auto", "cpu")


def test_model_without_heatmaps_is_refused():
    with pytest.raises(InputError, match="is not a heatmap model"):
        TorchRuntime(build("inpaintnet"))
    with pytest.raises(InputError, match="is not a heatmap model"):
        to_openvino(nn.Identity())


def test_openvino_and_nncf_send_no_reports(tmp_path):
    """By themselves they report to their makers, and keep an id for that in the home folder."""
    code = (
        "import sys\n"
        "from tests.models import seeing\n"
        "from tracknet.pipeline.runtimes.openvino_runtime import to_openvino\n"
        "to_openvino(seeing('v2_mdd', {}, 48, 64))\n"
        "try: import nncf\n"
        "except ImportError: pass\n"
        "print(sys.modules['openvino_telemetry'])\n"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "None\n", done.stderr
    assert not list(tmp_path.iterdir())
