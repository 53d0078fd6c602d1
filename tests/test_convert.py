"""Converted checkpoints against a second transcription of the equations, in float64."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.released import (
    CHECKPOINTS,
    HEIGHT,
    SIZE,
    TRANSCRIPTIONS,
    WIDTH_PX,
    Arrays,
    State,
    inpaintnet_checkpoint,
    v2_rstr_checkpoint,
    v3_checkpoint,
    v4_checkpoint,
)
from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.pipeline.models.convert import LAYOUTS, convert


def inputs_for(arch: str) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    if arch == "inpaintnet":
        mask = torch.rand(2, 16, 1, generator=generator).round()
        return torch.rand(2, 16, 2, generator=generator), mask
    pictures = 9 if arch == "v3" else 3
    return (torch.rand(1, pictures, 3, HEIGHT, WIDTH_PX, generator=generator),)


def config_for(arch: str) -> dict[str, int]:
    return {} if arch == "inpaintnet" else SIZE


def saved(checkpoint: object, folder: Path) -> Path:
    torch.save(checkpoint, folder / "best.pth")
    return folder / "best.pth"


@pytest.mark.parametrize("arch", LAYOUTS)
def test_converted_model_equals_the_equations(arch: str, tmp_path: Path) -> None:
    state = CHECKPOINTS[arch]()
    info = convert(saved(state, tmp_path), arch, tmp_path / "w.safetensors", config_for(arch))
    inputs = inputs_for(arch)
    with torch.inference_mode():
        result = load_model(tmp_path / "w.safetensors")(*inputs).double()
        double = {key: tensor.double() for key, tensor in state.items()}
        expected = TRANSCRIPTIONS[arch](*(x.double() for x in inputs), double)
    assert expected.std() > 0.02  # heatmaps that say something
    assert (result - expected).abs().max() < 1e-4
    assert info.arch == arch
    assert info.config["width"] == 1.0
    assert info.training["converted_from"] == "best.pth"
    if arch in ("v5", "v2_rstr"):
        assert info.config["attention"] == "joint"


def wrapped_bare(state: State) -> object:
    return state


def wrapped_by_lightning(state: State) -> object:
    return {"epoch": 3, "state_dict": OrderedDict((f"model.{k}", v) for k, v in state.items())}


def wrapped_by_data_parallel(state: State) -> object:
    return {"model_state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}


def wrapped_with_optimizer(state: State) -> object:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    return {
        "epoch": 29,
        "max_val_acc": np.float64(0.97),
        "model": state,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"step_size": 10, "_last_lr": [1e-4]},
        "param_dict": {"model_name": "InpaintNet", "seq_len": 16, "bg_mode": "", "debug": False},
    }


@pytest.mark.parametrize(
    "wrap",
    [wrapped_bare, wrapped_by_lightning, wrapped_by_data_parallel, wrapped_with_optimizer],
)
def test_wrappers(wrap: Callable[[State], object], tmp_path: Path) -> None:
    state = inpaintnet_checkpoint()
    dst = tmp_path / "w.safetensors"
    convert(saved(wrap(state), tmp_path), "inpaintnet", dst)
    converted = load_model(dst).state_dict()
    assert torch.equal(converted["encoder1.weight"], state["down_1.conv.weight"])


def test_counters_and_constants_may_be_missing(tmp_path: Path) -> None:
    state = v4_checkpoint()
    optional = ("num_batches_tracked", "gray_scale")
    bare = {key: state[key] for key in state if not key.endswith(optional)}
    convert(saved(bare, tmp_path), "v4", tmp_path / "w.safetensors", SIZE)
    luminance = load_model(tmp_path / "w.safetensors").state_dict()["motion.luminance"]
    assert luminance.tolist() == pytest.approx([0.299, 0.587, 0.114])


def test_options_are_read_off_the_tensors(tmp_path: Path) -> None:
    arrays = Arrays(0)
    state = v3_checkpoint()
    state["down_block_1.conv_1.conv.weight"] = arrays.kernel(64, 12, 3, 3)
    state |= {"predictor.weight": arrays.kernel(4, 64, 1, 1), "predictor.bias": arrays.around(0, 4)}
    info = convert(saved(state, tmp_path), "v3", tmp_path / "w.safetensors")
    assert (info.config["frames"], info.config["background"]) == (4, False)
    state["down_block_1.conv_1.conv.weight"] = arrays.kernel(64, 16, 3, 3)
    with pytest.raises(WeightsError, match="background modes"):
        convert(saved(state, tmp_path), "v3", tmp_path / "w.safetensors")


def test_head_bias_of_early_versions(tmp_path: Path) -> None:
    state = v2_rstr_checkpoint()
    state["head.draft_head.weight"] = state.pop("head.conv1.conv.0.weight")
    state["head.draft_head.bias"] = torch.tensor([1.0, 2.0, 3.0])
    convert(saved(state, tmp_path), "v2_rstr", tmp_path / "w.safetensors", SIZE)
    model: Any = load_model(tmp_path / "w.safetensors")
    assert model.draft.bias.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("arch", "change", "message"),
    [
        ("inpaintnet", {"up_2.conv.bias": None}, "missing: up_2.conv.bias"),
        ("inpaintnet", {"up_9.conv.bias": torch.ones(1)}, "surplus: up_9.conv.bias"),
        (
            "inpaintnet",
            {"predictor.bias": torch.ones(5)},
            r"wrong shape: predictor.bias \[5\] instead of \[2\]",
        ),
        ("v3", {}, r"missing: .*bottleneck.conv_1.*surplus: .*buttleneck.conv_1"),
        ("v5", {}, r"as v5 does not fit: missing: backbone.conv1.* and \d+ more; surplus: "),
    ],
)
def test_what_does_not_fit_is_named(
    arch: str, change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    merged = {**inpaintnet_checkpoint(), **change}
    state = {key: tensor for key, tensor in merged.items() if tensor is not None}
    dst = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match=message):
        convert(saved(state, tmp_path), arch, dst)
    assert not dst.exists()


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "it_ran"
    src = saved({"model": Malicious(f"touch {marker}")}, tmp_path)
    with pytest.raises(WeightsError, match="not opened, because that would run code"):
        convert(src, "v2", tmp_path / "w.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off", bytes(range(256)) * 9])
def test_files_that_are_no_checkpoints(content: bytes, tmp_path: Path) -> None:
    src = tmp_path / "x.pt"
    src.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(src))):
        convert(src, "v2", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ([1, 2], "holds no state dict but a list"),
        ({}, "holds no state dict"),
        ({"epoch": 3, "weights": {"a": torch.ones(1)}}, "epoch, weights are not tensors"),
    ],
)
def test_checkpoints_without_a_state_dict(checkpoint: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        convert(saved(checkpoint, tmp_path), "v2", tmp_path / "w.safetensors")


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no converter for 'v1'; there are v2, v4"):
        convert(tmp_path / "x.pt", "v1", tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        convert(tmp_path / "x.pt", "v2", tmp_path / "w.safetensors")
