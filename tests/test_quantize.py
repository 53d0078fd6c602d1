"""INT8: made, kept, found again, refused for other weights, and held against PyTorch."""

import json

import numpy as np
import pytest
import torch

from pipeline.checkpoint import save_model, weights_hash
from pipeline.errors import InputError, WeightsError
from pipeline.metrics import Counts
from pipeline.models import build
from pipeline.parity import Verdict
from pipeline.quantize import (
    KEPT_IN_FLOAT,
    cache_path,
    find_quantized,
    quantize,
    read_quantized,
    save_quantized,
)
from pipeline.runtime import RuntimeChoice, TorchRuntime, computes_bf16, open_runtime
from pipeline.synth import SynthConfig, write_dataset
from tests.runs import rows, run

pytest.importorskip("nncf", reason="quantizing needs NNCF: pip install '.[quantize]'")


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


def test_command_makes_what_track_finds(cached, rally, tmp_path):
    found = find_quantized(cached)
    assert found.weights_hash == weights_hash(cached)
    assert found.calibration["windows"] == 8
    assert found.calibration["kept"] in KEPT_IN_FLOAT
    assert found.calibration["clips"][0].endswith("match1/rally001")
    options = ["--weights", cached, "--runtime", "openvino-int8", "--shard-seconds", 1]
    done = run("track", rally, "--out", tmp_path, *options, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert [len(table) for table in rows(tmp_path).values()] == [21]
    done = run("track", rally, "--out", tmp_path, "--weights", cached, "--runtime", "openvino")
    assert done.returncode == 1
    assert "runtime: openvino-int8 -> openvino" in done.stderr


def test_command_that_checks(cached, rally):
    done = run("weights", "check", cached, "--data", rally, "--frames", 12, "--json")
    verdicts = {verdict["runtime"]: verdict for verdict in json.loads(done.stdout)}
    half = ["openvino-bf16"] if computes_bf16("cpu") else []
    assert list(verdicts) == ["openvino", *half, "openvino-int8"], done.stderr
    assert {verdict["frames"] for verdict in verdicts.values()} == {12}
    assert verdicts["openvino"]["passed"]
    passed = all(verdict["passed"] for verdict in verdicts.values())
    assert done.returncode == (0 if passed else 1)


def eight_bit(network):
    """Convolutions and linear layers whose weights are eight-bit numbers times a scale."""
    return [
        op.get_friendly_name()
        for op in network.get_ops()
        if op.get_type_name() in ("Convolution", "MatMul")
        and op.input_value(1).get_node().get_type_name() == "Multiply"
    ]


@pytest.mark.parametrize(("kept", "expected", "never"), [
    ("logits", 17, (".draft",)),
    pytest.param("full resolution", 13, (".draft", ".encoder1", ".decoder3"),
                 marks=pytest.mark.slow),
])  # fmt: skip
def test_what_stays_in_float(kept, expected, never):
    model = build("v2_mdd", {"width": 0.0625, "input_height": 48, "input_width": 64}).eval()
    windows = np.random.default_rng(0).integers(0, 255, (2, 3, 48, 64, 3), dtype=np.uint8)
    found = eight_bit(quantize(model, windows, "", {}, kept))
    assert len(found) == expected
    assert not [name for name in found if any(part in name for part in never)]


def test_attention_keeps_its_products_in_float():
    model = build("v5", {"width": 0.0625, "input_height": 48, "input_width": 64}).eval()
    windows = np.random.default_rng(0).integers(0, 255, (1, 3, 48, 64, 3), dtype=np.uint8)
    found = [name for name in eight_bit(quantize(model, windows, "", {})) if ".refine" in name]
    layers = len(model.refine.head.layers)
    for part in ("attention.qkv/", "attention.out/", ".expand/", ".contract/"):
        assert len([name for name in found if part in name]) == layers, found
    assert len(found) == 4 * layers


def test_other_weights_are_refused(cached, tmp_path):
    with pytest.raises(WeightsError, match="made from the weights"):
        read_quantized(cache_path(weights_hash(cached)), "f" * 64)
    (tmp_path / "x.int8.xml").write_text("<nothing/>")
    (tmp_path / "x.int8.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="no quantized network"):
        read_quantized(tmp_path / "x.int8.xml", "f" * 64)
    lonely = tmp_path / "lonely.safetensors"
    save_model(build("v2", {"width": 0.0625}), lonely)
    with pytest.raises(WeightsError, match=r"tracknet weights quantize .*lonely"):
        find_quantized(lonely)


def test_beside_the_weights_and_close_to_pytorch(tmp_path):
    torch.manual_seed(0)
    model = build("v5", {"width": 0.0625, "input_height": 48, "input_width": 64}).eval()
    weights = tmp_path / "v5.safetensors"
    save_model(model, weights)
    windows = np.random.default_rng(0).integers(0, 255, (6, 3, 48, 64, 3), dtype=np.uint8)
    network = quantize(model, windows, weights_hash(weights), {})
    save_quantized(network, tmp_path / "v5.int8.xml")
    found = find_quantized(weights).network()
    choice = RuntimeChoice("openvino-int8", "cpu", 1)
    heatmaps = open_runtime(choice, model, found)(windows[:1])
    expected = TorchRuntime(model)(windows[:1])
    assert 0 < abs(heatmaps - expected).max() < 0.02
    with pytest.raises(InputError, match="takes 1 window"):
        open_runtime(RuntimeChoice("openvino-int8", "cpu", 2), model, found)
    with pytest.raises(InputError, match="at least one window"):
        quantize(model, [], "", {})
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("found", "agreeing", "passed"),
    [
        (Counts(tp=990, fn=10), 1000, True),
        (Counts(tp=988, fn=12), 998, True),
        (Counts(tp=985, fn=15), 995, False),  # F1 falls by 0.25 points
        (Counts(tp=990, fn=10), 994, False),  # as good, but elsewhere
    ],
)
def test_verdict(found, agreeing, passed):
    assert Verdict(Counts(tp=990, fn=10), found, agreeing).passed is passed
