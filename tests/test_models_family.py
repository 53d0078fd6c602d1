"""The whole family: published sizes, shapes in and out, gates, number types, and refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models import BUILDERS, arch_of, build
from tracknet.pipeline.models.blocks import ConvBlock, HeatmapModel, _with_zeros
from tracknet.pipeline.models.v1 import TrackNetV1
from tracknet.pipeline.models.v3 import InpaintNet, TrackNetV3
from tracknet.pipeline.models.v3_attention import ChannelAttention
from tracknet.pipeline.models.v4 import TrackNetV4, V4Config, gate

HEATMAP_ARCHS = [arch for arch in BUILDERS if arch != "inpaintnet"]
WIDTH = 1 / 16

PUBLISHED_PARAMETERS = {
    "v1": 10_708_032,
    "v2": 11_330_304,
    "v3": 11_341_000,
    "v3_attention": 15_131_843,
    "v4": 11_330_306,
    "v5": 14_771_458,
    "v2_mdd": 11_332_610,
    "v2_rstr": 14_769_152,
    "inpaintnet": 520_610,
}


def heatmap_model(arch: str, **config: object) -> HeatmapModel:
    model = build(arch, {"width": WIDTH, "input_height": 32, "input_width": 48, **config})
    assert isinstance(model, HeatmapModel)
    return model.eval()


def window(model: HeatmapModel, batch: int = 1, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(batch, model.spec.pictures, 3, height, width)


def count(arch: str, **config: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(arch, config).parameters())


@pytest.mark.parametrize(("arch", "parameters"), PUBLISHED_PARAMETERS.items())
def test_parameters_are_those_of_the_published_model(arch: str, parameters: int) -> None:
    assert count(arch) == parameters


def test_attention_modes_have_the_same_parameters() -> None:
    assert count("v5", attention="joint") == count("v5", attention="factorized") == 14_771_458


def test_every_model_is_listed() -> None:
    assert list(PUBLISHED_PARAMETERS) == list(BUILDERS)


@pytest.mark.parametrize("arch", HEATMAP_ARCHS)
def test_window_in_heatmaps_out(arch: str) -> None:
    model = heatmap_model(arch)
    heatmaps = model(window(model, batch=2))
    assert heatmaps.shape == (2, len(model.spec.targets), 32, 48)
    assert heatmaps.dtype == torch.float32
    assert heatmaps.min() >= 0
    assert heatmaps.max() <= 1
    assert arch_of(model) == arch
    assert model.source


@pytest.mark.parametrize("arch", HEATMAP_ARCHS)
def test_published_window(arch: str) -> None:
    with torch.device("meta"):
        model = build(arch)
        spec = model.spec
        assert (spec.height, spec.width) == ((360, 640) if arch == "v1" else (288, 512))
        heatmaps = model(torch.empty(1, spec.pictures, 3, spec.height, spec.width))  # type: ignore[operator]
    assert heatmaps.shape == (1, len(spec.targets), spec.height, spec.width)


@pytest.mark.parametrize("arch", HEATMAP_ARCHS)
def test_models_run_in_double_precision_and_under_bfloat16(arch: str) -> None:
    torch.manual_seed(0)
    model = heatmap_model(arch)
    frames = window(model)
    single = model(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(frames).dtype == torch.float32
    double = model.double()(frames.double())
    assert double.dtype == torch.float64
    if arch != "v1":  # an argmax may jump
        assert torch.allclose(single.double(), double, atol=1e-4)


@pytest.mark.parametrize("arch", HEATMAP_ARCHS)
def test_windows_of_the_wrong_kind_are_refused(arch: str) -> None:
    model = heatmap_model(arch)
    with pytest.raises(InputError, match=r"takes \[B, "):
        model(torch.rand(1, model.spec.pictures + 1, 3, 32, 48))
    with pytest.raises(InputError, match="multiples of"):
        model(window(model, height=30))


@pytest.mark.parametrize("arch", BUILDERS)
def test_configs_are_frozen_and_make_the_same_model_again(arch: str) -> None:
    model = build(arch, {"width": 0.25})
    again = build(arch, dataclasses.asdict(model.config))  # type: ignore[call-overload]
    assert again.config == model.config
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.config.width = 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize("width", [0, -1, 0.3, 1 / 128])
def test_widths_without_whole_channels_are_refused(width: float) -> None:
    for arch in BUILDERS:
        with pytest.raises(InputError, match="channels"):
            build(arch, {"width": width})


@pytest.mark.parametrize(
    ("arch", "config", "message"),
    [
        ("v6", {}, "unknown architecture 'v6'.*v5"),
        ("v5", {"depth": 4}, "v5 has no option depth; it has width"),
        ("v5", {"attention": "sparse"}, "attention must be one of factorized, joint"),
        ("v4", {"fusion": "c"}, "fusion must be one of a, b"),
        ("v5", {"input_height": 280}, "input_height must be a multiple of 16"),
        ("v2", {"width": "wide"}, "v2 cannot be built"),
        ("v3", {"frames": 0}, "frames must be 1 or more"),
        ("inpaintnet", {"length": 0}, "length must be 1 or more"),
    ],
)
def test_configs_that_make_no_sense_are_refused(
    arch: str, config: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(arch, config)


def test_arch_of_a_stranger() -> None:
    with pytest.raises(InputError, match="Linear is not one of"):
        arch_of(nn.Linear(1, 1))


def test_block_order() -> None:
    """A negative sum: ReLU then BatchNorm keeps the shift, BatchNorm then ReLU adds it first."""
    x = torch.full((1, 1, 3, 3), -1.0)
    for normalise, expected in (("after", 5.0), ("before", 4.0)):
        block = ConvBlock(1, 1, normalise, kernel=1).eval()  # type: ignore[arg-type]
        nn.init.ones_(block.conv.weight)
        nn.init.constant_(block.norm.bias, 5.0)
        assert block(x).mean().item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("fusion", "expected"), [("a", [10, 1, 3]), ("b", [1, 2, 3])])
def test_v4_gates(fusion: str, expected: list[float]) -> None:
    draft = torch.full((1, 3, 2, 2), 10.0)
    first, second = torch.full((1, 1, 2, 2), 0.1), torch.full((1, 1, 2, 2), 0.3)
    gated = gate(draft, first, second, fusion)  # type: ignore[arg-type]
    assert gated[0, :, 1, 1].tolist() == pytest.approx(expected)


def test_v4_does_not_tell_directions_apart() -> None:
    model = TrackNetV4(V4Config(width=WIDTH))
    brighter = torch.zeros(1, 3, 3, 8, 8)
    brighter[:, 1] = 0.5
    change = model.motion.differences(brighter)
    assert torch.equal(change.into_current, -change.into_following)
    assert torch.equal(
        model.motion.weight(change.into_current), model.motion.weight(change.into_following)
    )


def test_v1_answers_with_the_likeliest_grey_level() -> None:
    model = heatmap_model("v1")
    assert isinstance(model, TrackNetV1)
    frames = window(model)
    scores = model.logits(frames)
    assert scores.shape == (1, 256, 32, 48)
    assert torch.equal(model(frames)[:, 0] * 255, scores.argmax(1).float())
    assert model.spec.targets == (2,)


def test_v3_takes_the_background_first() -> None:
    model = heatmap_model("v3")
    assert isinstance(model, TrackNetV3)
    assert model.spec.background
    frames = window(model)
    stacked: list[Tensor] = []
    model.unet.register_forward_pre_hook(lambda _, args: stacked.append(args[0]))
    assert model(frames).shape == (1, 8, 32, 48)
    assert torch.equal(stacked[0][:, :3], frames[:, 0])
    assert stacked[0].shape[1] == 27


def test_v3_without_background() -> None:
    model = heatmap_model("v3", background=False, frames=3)
    assert model.spec.pictures == 3
    assert model(window(model)).shape == (1, 3, 32, 48)


def test_channel_attention_weighs_whole_channels() -> None:
    x = torch.rand(1, 16, 4, 4) + 0.1
    ratio = ChannelAttention(16)(x) / x
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), atol=1e-6)
    assert (ratio > 0).all()
    assert (ratio < 1).all()


@pytest.mark.parametrize("length", [16, 5])
def test_inpaintnet_shapes(length: int) -> None:
    trajectory = InpaintNet()(torch.rand(2, length, 2), torch.ones(2, length, 1))
    assert trajectory.shape == (2, length, 2)
    assert trajectory.min() >= 0
    assert trajectory.max() <= 1


@pytest.mark.parametrize("bias", [False, True])
def test_channels_of_zeros_change_nothing(bias):
    """What a GPU gets, see `pipeline.models.blocks._aligned`."""
    torch.manual_seed(0)
    block = ConvBlock(13, 8, "after", bias=bias)
    x = torch.rand(2, 13, 9, 12)
    torch.testing.assert_close(_with_zeros(x, block.conv, 3), block.conv(x))
