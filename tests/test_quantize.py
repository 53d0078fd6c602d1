"""INT8: made, kept, found again, refused for other weights, and held against PyTorch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import InMemory
from tests.runs import rows, run
from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import build
from tracknet.pipeline.models.checkpoint import save_model
from tracknet.pipeline.runtimes.choice import RuntimeChoice, computes_bf16
from tracknet.pipeline.runtimes.opening import open_runtime
from tracknet.pipeline.runtimes.openvino_runtime import OpenVinoRuntime, to_openvino
from tracknet.pipeline.runtimes.parity import GateResult
from tracknet.pipeline.runtimes.quantize import (
    cache_path,
    find_quantized,
    has_quantized,
    quantize,
    read_quantized,
    save_quantized,
)
from tracknet.pipeline.runtimes.recompute import RecomputingRuntime, around, uncertain
from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime
from tracknet.pipeline.scoring.metrics import Counts
from tracknet.pipeline.synth import SynthConfig, write_dataset
from tracknet.pipeline.weights import weights_hash

pytest.importorskip("nncf", reason="quantizing needs NNCF: pip install '.[quantize]'")
openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def rally(tmp_path_factory):
    """A short synthetic rally with labels."""
    root = tmp_path_factory.mktemp("rally")
    write_dataset(root, 1, 3, SynthConfig(width=320, height=180, frames=(21, 21), sport="tennis"))
    return root


@pytest.fixture(scope="module")
def cached(rally, tmp_path_factory):
    """The shipped weights, a copy of them that is tiny, and its quantized network in a cache."""
    folder = tmp_path_factory.mktemp("quantized")
    torch.manual_seed(0)
    weights = folder / "tiny.safetensors"
    save_model(
        build("v2_mdd", {"width": 0.0625, "input_height": 72, "input_width": 128}).eval(), weights
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        done = run("weights", "quantize", weights, "--data", rally, "--windows", 8)
        assert done.returncode == 0, done.stderr  # random weights see nothing in any runtime
        assert "passed" in done.stderr
        assert done.stdout.strip() == str(cache_path(weights_hash(weights)))
        yield weights


@pytest.mark.slow
def test_command_makes_what_track_finds(cached, rally, tmp_path):
    found = find_quantized(cached)
    assert found.weights_hash == weights_hash(cached)
    assert found.calibration["windows"] == 8
    assert found.margin > 0
    assert found.calibration["clips"][0].endswith("match1/rally001")
    options = ["--weights", cached, "--precision", "int8", "--shard-seconds", 1]
    done = run("track", rally, "--out", tmp_path, *options, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert [len(table) for table in rows(tmp_path).values()] == [21]
    done = run("track", rally, "--out", tmp_path, "--weights", cached, "--precision", "fp32")
    assert done.returncode == 1
    assert "precision: int8 -> fp32" in done.stderr


@pytest.mark.slow
def test_command_that_checks(cached, rally):
    done = run("weights", "check", cached, "--data", rally, "--frames", 12, "--json")
    results = {result["runtime"]: result for result in json.loads(done.stdout)}
    half = computes_bf16("cpu")
    names = ["openvino int8+bf16", "openvino bf16"] if half else ["openvino int8"]
    assert list(results) == ["openvino fp32", *names], done.stderr
    assert {result["frames"] for result in results.values()} == {12}
    assert results["openvino fp32"]["passed"]
    passed = all(result["passed"] for result in results.values())
    assert done.returncode == (0 if passed else 1)


def test_the_shipped_network_is_as_good_as_pytorch(tmp_path):
    write_dataset(tmp_path, 1, 3, SynthConfig(width=640, height=360, frames=(30, 30)))
    done = run("weights", "check", "v5-nano", "--data", tmp_path, "--precision", "int8", "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert (result["frames"], result["same_outcome"]) == (30, 1.0)
    assert result["reference"]["tp"] > 15


def eight_bit(network):
    """Convolutions and linear layers whose weights are eight-bit numbers times a scale."""
    return [
        op.get_friendly_name()
        for op in network.get_ops()
        if op.get_type_name() in ("Convolution", "MatMul")
        and op.input_value(1).get_node().get_type_name() == "Multiply"
    ]


def test_what_stays_in_float():
    model = build("v2_mdd", {"width": 0.0625, "input_height": 48, "input_width": 64}).eval()
    windows = np.random.default_rng(0).integers(0, 255, (2, 3, 48, 64, 3), dtype=np.uint8)
    found = eight_bit(quantize(model, windows, "", {}).network())
    assert len(found) == 16
    assert not [name for name in found if ".draft" in name or ".encoder1.0" in name]


@pytest.mark.slow
def test_attention_keeps_its_products_in_float():
    model = build("v5", {"width": 0.0625, "input_height": 48, "input_width": 64}).eval()
    windows = np.random.default_rng(0).integers(0, 255, (1, 3, 48, 64, 3), dtype=np.uint8)
    network = quantize(model, windows, "", {}).network()
    found = [name for name in eight_bit(network) if ".refine" in name]
    layers = len(model.refine.head.layers)
    for part in ("attention.qkv/", "attention.out/", ".expand/", ".contract/"):
        assert len([name for name in found if part in name]) == layers, found
    assert len(found) == 4 * layers


@pytest.mark.slow
def test_other_weights_are_refused(cached, tmp_path):
    with pytest.raises(WeightsError, match="made from the weights"):
        read_quantized(cache_path(weights_hash(cached)), "f" * 64)
    (tmp_path / "x.int8.xml").write_text("<nothing/>")
    (tmp_path / "x.int8.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="no quantized network"):
        read_quantized(tmp_path / "x.int8.xml", "f" * 64)
    network = find_quantized(cached).network()
    network.set_rt_info("1", ["tracknet", "version"])
    openvino.save_model(network, tmp_path / "old.int8.xml")
    with pytest.raises(WeightsError, match="create it again with `tracknet weights quantize`"):
        read_quantized(tmp_path / "old.int8.xml", weights_hash(cached))
    lonely = tmp_path / "lonely.safetensors"
    save_model(build("v2", {"width": 0.0625}), lonely)
    with pytest.raises(WeightsError, match=r"tracknet weights quantize .*lonely"):
        find_quantized(lonely)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model with random weights, windows, its quantized network, and float heatmaps of them."""
    model = random_model(0)
    windows = np.random.default_rng(0).integers(0, 255, (6, 3, 32, 32, 3), dtype=np.uint8)
    quantized = quantize(model, windows, "a" * 64, {})
    return model, windows, quantized, TorchRuntime(model)(windows)


def random_model(seed):
    torch.manual_seed(seed)
    return build("v5", {"width": 0.0625, "input_height": 32, "input_width": 32}).eval()


INT8 = RuntimeChoice("openvino", "int8", "fp32", "cpu", 1)


@pytest.mark.slow
def test_beside_the_weights_and_close_to_pytorch(tiny, tmp_path):
    model, windows, quantized, expected = tiny
    weights = tmp_path / "v5.safetensors"
    save_model(model, weights)
    assert not has_quantized(weights)
    save_quantized(quantized, tmp_path / "v5.int8.xml")
    with pytest.raises(WeightsError, match="made from the weights aaaa"):
        find_quantized(weights)
    network = quantized.network()
    network.set_rt_info(weights_hash(weights), ["tracknet", "weights_hash"])
    openvino.save_model(network, tmp_path / "v5.int8.xml", compress_to_fp16=False)
    assert has_quantized(weights)
    found = replace(find_quantized(weights), margin=0.0)
    heatmaps = open_runtime(INT8, InMemory(model), found)(windows[:1])
    assert 0 < abs(heatmaps - expected[:1]).max() < 0.02
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_quantized_or_opened(tiny):
    model, _, quantized, _ = tiny
    with pytest.raises(InputError, match="takes 1 window"):
        open_runtime(replace(INT8, batch=2), InMemory(model), quantized)
    with pytest.raises(InputError, match="at least one window"):
        quantize(model, [], "", {})


@pytest.mark.slow
@pytest.mark.parametrize("floats", ["fp32", "bf16"])
def test_uncertain_windows_are_recomputed_in_float32(tiny, floats):
    model, windows, quantized, expected = tiny
    int8 = replace(INT8, floats=floats)
    certain = open_runtime(int8, InMemory(model), replace(quantized, margin=0.0))
    quick = np.concatenate([certain(window[None]) for window in windows])
    wary = replace(quantized, margin=0.1)
    threshold = float(quick.max(axis=(2, 3)).min())
    runtime = open_runtime(int8, InMemory(model), wary, threshold=threshold)
    found = np.concatenate([runtime(window[None]) for window in windows])
    assert (runtime.recomputed, runtime.windows) == (6, 6)
    assert abs(found - expected).max() < 2e-5 < abs(quick - expected).max()
    content = open_runtime(int8, InMemory(model), wary, threshold=0.99)
    np.testing.assert_array_equal(content(windows[:2]), quick[:2])
    assert (content.recomputed, content.windows) == (0, 2)


def test_only_uncertain_windows_are_recomputed(tiny):
    """Whatever else a call holds; here two networks that differ by much more than INT8 does."""
    model, windows, _, expected = tiny
    fast = OpenVinoRuntime(to_openvino(random_model(1)), model.spec, threads=2)
    quick = np.concatenate([fast(window[None]) for window in windows])
    threshold = float(np.median(quick.max(axis=(1, 2, 3))))
    runtime = RecomputingRuntime(fast, to_openvino(model), 0.02, threshold)
    pairs = [runtime(windows[i : i + 2]) for i in range(0, 6, 2)]
    unsure = [any(uncertain(h, *around(threshold, 0.02)) for h in window) for window in quick]
    assert 0 < sum(unsure) < 6
    assert runtime.recomputed == sum(unsure)
    for heatmaps, again, exact, fine in zip(
        quick, unsure, expected, np.concatenate(pairs), strict=True
    ):
        np.testing.assert_allclose(fine, exact if again else heatmaps, atol=2e-5)


@pytest.mark.slow
def test_margin_covers_the_distance_of_calibration(tiny):
    """Of the heatmaps that are closest to the threshold, 75 % lie within the margin."""
    model, windows, quantized, expected = tiny
    found = open_runtime(INT8, InMemory(model), replace(quantized, margin=0.0))
    highest = np.stack([found(window[None])[0] for window in windows]).max(axis=(2, 3)).ravel()
    reference = expected.max(axis=(2, 3)).ravel()
    error = abs(np.log(highest / (1 - highest)) - np.log(reference / (1 - reference)))
    near = np.argsort(abs(reference - 0.5))[:4]  # a fifth of 18
    assert np.median(error[near]) <= quantized.margin <= error[near].max() + 1e-3


@pytest.mark.parametrize(
    ("found", "differing", "passed"),
    [
        (Counts(tp=990, fn=10), 0, True),
        (Counts(tp=988, fn=12), 2, True),
        (Counts(tp=985, fn=15), 5, False),  # F1 falls by 0.25 points
        (Counts(tp=990, fn=10), 6, False),  # as good, but elsewhere
    ],
)
def test_verdict(found, differing, passed):
    assert GateResult(Counts(tp=990, fn=10), found, differing).passed is passed
