"""Weights files: what is written comes back, and what cannot be right is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import BUILDERS, build
from tracknet.pipeline.models.checkpoint import (
    describe,
    load_model,
    load_model_bytes,
    save_model,
)
from tracknet.pipeline.weights import weights_hash

TINY = {"width": 1 / 16}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The weights file of a narrow TrackNetV2."""
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_model(build("v2", TINY), path, training={"steps": 10}, metrics={"f1": 0.5})
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def rewrite(path: Path, metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> None:
    """Change the metadata or some tensors of a weights file."""
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        old = dict(file.metadata())
    save_file({**state, **tensors}, path, old if metadata is None else metadata)


@pytest.mark.parametrize("arch", BUILDERS)
def test_round_trip(arch: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = build(arch, TINY)
    save_model(model, path)
    loaded = load_model(path)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


def test_config_comes_back(tmp_path: Path) -> None:
    config = {**TINY, "attention": "joint", "input_height": 32, "input_width": 48, "head_bias": -3,
              "context_dropout": 0.0}  # fmt: skip
    save_model(build("v5", config), tmp_path / "w.safetensors")
    info = describe(tmp_path / "w.safetensors")
    assert info.config == config
    assert load_model(tmp_path / "w.safetensors").config == build("v5", config).config


def test_half_precision_files_are_smaller_and_load_as_float32(weights: Path) -> None:
    half = weights.with_name("half.safetensors")
    model = load_model(weights)
    save_model(model, half, dtype=torch.float16)
    assert half.stat().st_size < 0.7 * weights.stat().st_size
    loaded = load_model(half)
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    frames = torch.rand(1, 3, 3, 16, 16)
    assert torch.allclose(loaded(frames), model(frames), atol=1e-2)


def test_description(weights: Path) -> None:
    info = describe(weights)
    assert (info.arch, info.parameters) == ("v2", 45_024)
    assert (info.training, info.metrics) == ({"steps": 10}, {"f1": 0.5})
    assert info.hash == weights_hash(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_weights_through_memory(weights: Path) -> None:
    model = load_model_bytes(weights.read_bytes(), "sent over the wire")
    frames = torch.rand(1, 3, 3, 16, 16)
    assert torch.equal(model(frames), load_model(weights)(frames))
    with pytest.raises(WeightsError, match="sent over the wire is not a safetensors file"):
        load_model_bytes(b"nothing", "sent over the wire")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(weights: Path, value: float) -> None:
    model = load_model(weights)
    key, tensor = next(iter(model.state_dict().items()))
    tensor.view(-1)[0] = value
    save_model(model, weights)
    with pytest.raises(WeightsError, match=f"NaN or infinity in: {key}"):
        load_model(weights)


def test_shipped_names(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracknet.pipeline.weights.SHIPPED", weights.parent)
    assert describe("tiny").hash == weights_hash(weights)
    with pytest.raises(WeightsError, match=r"no weights 'huge'.*neither a file nor one of: tiny"):
        load_model("huge")
    with pytest.raises(WeightsError, match="neither a file"):
        load_model(Path("elsewhere/tiny"))


@pytest.mark.parametrize("name", ["best.pt", "best.pth", "runs/last.ckpt"])
def test_checkpoints_are_sent_to_the_converter(name: str) -> None:
    with pytest.raises(WeightsError, match=f"tracknet weights convert {name} --arch"):
        load_model(name)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x08\0\0\0\0\0\0\0not json"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.safetensors is not a safetensors file"):
        load_model(path)


def test_truncated_file(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_model(weights)


def test_safetensors_of_others(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="does not say which model it is for"):
        load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", "99", "has format version 99; this version reads 1"),
        ("arch", "v9", "tiny.safetensors: unknown architecture 'v9'"),
        ("config", '{"depth": 3}', "v2 has no option depth"),
        ("config", "{", "its config record is not JSON"),
        ("config", "[]", "not a table of names and values"),
    ],
)
def test_metadata_that_makes_no_sense(field: str, value: str, message: str, weights: Path) -> None:
    rewrite(weights, {**metadata_of(weights), field: value})
    with pytest.raises(WeightsError, match=message):
        load_model(weights)


def test_tensors_that_do_not_fit_are_named(weights: Path) -> None:
    rewrite(weights, {**metadata_of(weights), "arch": "v2_mdd"}, extra=torch.ones(1))
    with pytest.raises(WeightsError) as caught:
        load_model(weights)
    message = str(caught.value)
    assert "missing: draft.weight, mdd.alpha, mdd.beta, mdd.luminance" in message
    assert "surplus: extra, head.weight" in message
    assert (
        "wrong shape: unet.encoder1.0.conv.weight [4, 9, 3, 3] instead of [4, 13, 3, 3]" in message
    )


def test_records_must_be_json(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="metrics record cannot be stored as JSON"):
        save_model(build("v2", TINY), path, metrics={"f1": torch.ones(1)})
    with pytest.raises(InputError, match="Linear is not one of"):
        save_model(nn.Linear(1, 1), path)
    with pytest.raises(InputError, match="there is no folder"):
        save_model(build("v2", TINY), tmp_path / "nowhere" / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights.read_bytes()

    def fail(self: Path, data: bytes) -> None:
        self.touch()
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(build("v2", TINY), weights)
    assert weights.read_bytes() == before
    assert list(weights.parent.iterdir()) == [weights]


def test_metadata_is_readable_by_anyone(weights: Path) -> None:
    metadata = metadata_of(weights)
    assert metadata["arch"] == "v2"
    assert json.loads(metadata["config"])["width"] == 1 / 16


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, tracknet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
