"""Every runtime finds what PyTorch in float32 finds."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.models import seeing
from tracknet.commands import options
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models import build
from tracknet.pipeline.runtimes import runtime as runtimes
from tracknet.pipeline.runtimes.networks import to_openvino
from tracknet.pipeline.runtimes.runtime import (
    OpenVinoRuntime,
    RuntimeChoice,
    TorchRuntime,
    open_runtime,
    resolve,
)
from tracknet.pipeline.tracking.engine import Detector, DetectorSettings, FrameChunk

HEIGHT, WIDTH, FRAMES = 48, 64, 11
MODELS = [
    ("v1", {}),
    ("v3", {}),
    ("v5", {"attention": "factorized"}),
    ("v5", {"attention": "joint"}),
    # Made of the same parts as those above; converting each takes seconds.
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
    found, found_peaks = peaks(open_runtime(RuntimeChoice("openvino", "cpu", 1), model), clip)
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
    found = TorchRuntime(model, autocast=torch.bfloat16)(window)
    assert found.dtype == np.float32
    assert 0 < abs(found - expected).max() < 0.1
    found = open_runtime(RuntimeChoice("openvino-bf16", "cpu", 1), model)(window)
    assert found.dtype == np.float32
    assert abs(found - expected).max() < 0.1  # float32, where the CPU knows no bfloat16


@pytest.mark.slow  # the compiler takes a minute
def test_compiled_is_the_same_model(clip):
    model = tiny("v5", {})
    windows = np.stack([clip[:3], clip[3:6]])
    expected = TorchRuntime(model, batch=2)(windows)
    found = TorchRuntime(model, batch=2, compiled=True)(windows)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    choice = RuntimeChoice("compiled-bf16", "cpu", 2)
    assert abs(open_runtime(choice, model)(windows) - expected).max() < 0.1


def test_the_command_line_offers_every_runtime():
    assert options.RUNTIMES == runtimes.RUNTIMES


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("peak", ["contour", "centroid"])
@pytest.mark.parametrize(("arch", "config"), MODELS)
@pytest.mark.parametrize("name", ["torch", "torch-fp16", "compiled-fp16"])
def test_a_gpu_sees_what_a_cpu_sees(clip, name, arch, config, peak):
    expected, expected_peaks = peaks(TorchRuntime(tiny(arch, config)), clip, peak)
    runtime = open_runtime(RuntimeChoice(name, "cuda", 2), tiny(arch, config))
    found, found_peaks = peaks(runtime, clip, peak)
    assert max(float(abs(found[f] - expected[f]).max()) for f in expected) < 0.01
    assert [p is None for p in found_peaks] == [p is None for p in expected_peaks]


def test_auto(monkeypatch):
    monkeypatch.setattr(runtimes, "computes_bf16", lambda device: False)
    monkeypatch.setattr(runtimes, "_cpu_abilities", lambda: {"avx2": True})
    assert resolve("auto", "cpu") == RuntimeChoice("openvino", "cpu", 1)
    assert resolve("auto", "cpu", quantized=True) == RuntimeChoice("openvino-int8", "cpu", 1)
    assert resolve("auto", "cpu", batch=2, quantized=True).name == "openvino"
    monkeypatch.setattr(runtimes, "_cpu_abilities", dict)
    assert resolve("auto", "cpu", quantized=True).name == "openvino"
    monkeypatch.setattr(runtimes, "computes_bf16", lambda device: True)
    assert resolve("auto", "cpu").name == "openvino-bf16"
    monkeypatch.setattr(runtimes, "_cpu_abilities", lambda: {"avx2": True})
    assert resolve("auto", "cpu", quantized=True).name == "openvino-int8-bf16"
    assert resolve("auto", "cuda:1", quantized=True).name in ("compiled-fp16", "torch-fp16")
    assert resolve("auto", "cuda").batch > 1
    assert resolve("torch", "cuda", batch=2) == RuntimeChoice("torch", "cuda", 2)
    monkeypatch.setattr(runtimes, "openvino_available", lambda: False)
    assert resolve("auto", "cpu").name == "torch"
    with pytest.raises(InputError, match="pip install"):
        resolve("openvino", "cpu")


@pytest.mark.parametrize(("name", "device"), [("tensorrt", "cpu"), ("openvino-int8", "cuda")])
def test_impossible_runtimes(name, device):
    with pytest.raises(InputError, match=name):
        resolve(name, device)


def test_model_without_heatmaps_is_refused():
    with pytest.raises(InputError, match="finds no ball"):
        TorchRuntime(build("inpaintnet"))
    with pytest.raises(InputError, match="finds no ball"):
        to_openvino(nn.Identity())
