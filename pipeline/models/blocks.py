"""What several TrackNets are made of: configs, convolution blocks, the U-Net, motion attention.

The models differ in three places only: what they feed to the U-Net, in which order a block
convolves, activates and normalises, and what they do with the U-Net's 64 channels.  This module
holds the rest.  It knows nothing of windows on a video, of files or of training.

Shapes are written with one letter per axis: B windows, T pictures in a window, C channels,
H and W picture rows and columns.

>>> net = UNet(9, width=1 / 16, normalise="after", upsample="bilinear")
>>> net(torch.zeros(1, 9, 32, 64)).shape
torch.Size([1, 4, 32, 64])
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import WindowSpec

Normalise = Literal["before", "after"]
Upsample = Literal["bilinear", "nearest"]

UNET_CHANNELS = (64, 128, 256, 512)
UNET_STRIDE = 8  # three poolings: height and width must be multiples of it

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of R, G and B
SLOPE, SLOPE_RANGE, OFFSET_RANGE = 5.0, 0.45, 0.6  # constants of equation 3
EPSILON = 1e-6


def scaled(channels: int, width: float) -> int:
    """`channels * width` as a whole number.

    Raises:
        InputError: the product is not a whole number above 0.

    >>> scaled(64, 1 / 16)
    4
    """
    exact = channels * width
    if exact < 1 or exact != int(exact):
        raise InputError(
            f"width {width:g} turns {channels} channels into {exact:g}; "
            f"use a multiple of 1/{UNET_CHANNELS[0]}, such as 1, 0.5, 0.25 or 0.0625"
        )
    return int(exact)


def check_choice(field: str, value: str, choices: object) -> None:
    """Raise InputError unless `value` is one of the strings of the Literal type `choices`."""
    if value not in get_args(choices):
        raise InputError(f"{field} must be one of {', '.join(get_args(choices))}, not {value!r}")


@dataclass(frozen=True)
class HeatmapConfig:
    """What every heatmap model can be asked for; it is saved with the weights.

    Attributes:
        width: multiplies the channels of every layer; 1 is the published model.
        input_height, input_width: size in pixels the model is made for.

    Raises:
        InputError: a width without whole channels, or a size the poolings do not divide.
    """

    width: float = 1.0
    input_height: int = WindowSpec.height
    input_width: int = WindowSpec.width

    stride: ClassVar[int] = UNET_STRIDE

    def __post_init__(self) -> None:
        scaled(UNET_CHANNELS[0], self.width)
        for field in ("input_height", "input_width"):
            pixels = getattr(self, field)
            if pixels < self.stride or pixels % self.stride:
                raise InputError(f"{field} must be a multiple of {self.stride}, not {pixels}")

    def window(self, frames: int, targets: tuple[int, ...], background: bool = False) -> WindowSpec:
        """The window of a model of this size."""
        return WindowSpec(frames, targets, self.input_height, self.input_width, background)


class HeatmapModel(nn.Module):
    """A model that answers a window of frames with one heatmap per target frame.

    Attributes:
        source: the paper (or report) the model comes from, one line.
        config: the frozen config it was built from.
        spec: the window it takes and the frames it answers for.
    """

    source: ClassVar[str]
    config: HeatmapConfig
    spec: WindowSpec

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, pictures, 3, H, W]` RGB in [0, 1] -> `[B, targets, H, W]` before the sigmoid."""
        raise NotImplementedError

    def forward(self, frames: Tensor) -> Tensor:
        """`[B, pictures, 3, H, W]` RGB in [0, 1] -> `[B, targets, H, W]` heatmaps in [0, 1].

        Heatmaps have the dtype of `frames`, also under autocast.

        Raises:
            InputError: the window has the wrong number of pictures or a size that does not fit.
        """
        return torch.sigmoid(self.logits(frames).to(frames.dtype))

    def check(self, frames: Tensor) -> None:
        """Raise InputError unless `frames` is a window this model can take."""
        pictures, stride = self.spec.pictures, self.config.stride
        if frames.ndim != 5 or frames.shape[1:3] != (pictures, 3):
            raise InputError(
                f"{type(self).__name__} takes [B, {pictures}, 3, H, W], got {list(frames.shape)}"
            )
        height, width = frames.shape[3:]
        if height % stride or width % stride:
            raise InputError(
                f"{type(self).__name__} takes heights and widths that are multiples of {stride}, "
                f"got {height}x{width}"
            )


def window_spec(model: nn.Module) -> WindowSpec:
    """What a heatmap model takes and gives.

    Raises:
        InputError: the model makes no heatmaps, such as InpaintNet, which repairs trajectories.
    """
    spec = getattr(model, "spec", None)
    if not isinstance(spec, WindowSpec):
        raise InputError(
            f"{type(model).__name__} is not a heatmap model; track with the weights of one "
            "(`tracknet models` lists them)"
        )
    return spec


def to_frames(pictures: Tensor) -> Tensor:
    """What models take: uint8 `[B, P, H, W, 3]` -> float32 `[B, P, 3, H, W]` in [0, 1]."""
    return pictures.permute(0, 1, 4, 2, 3).contiguous().float().div(255)


class ConvBlock(nn.Module):
    """3x3 convolution without bias, ReLU and BatchNorm; the size of the picture stays.

    Args:
        normalise: "after" the ReLU, as in TrackNetV1, V2, V4 and V5, or "before" it, as in V3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        normalise: Normalise,
        *,
        kernel: int = 3,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        self.norm = nn.BatchNorm2d(outputs)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, H, W]` -> `[B, outputs, H, W]`."""
        x = _aligned(x, self.conv)
        if self.normalise == "before":
            return F.relu(self.norm(x))
        return self.norm(F.relu(x))


def _aligned(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A convolution, on a GPU of a multiple of 8 channels.

    Its tensor cores take nothing else: V5's first convolution, of 13 channels, took a seventh of
    the model's time on an H200, of 16 less than a thirtieth.
    """
    missing = -x.shape[1] % 8 if x.is_cuda else 0
    return _with_zeros(x, conv, missing) if missing else conv(x)


def _with_zeros(x: Tensor, conv: nn.Conv2d, channels: int) -> Tensor:
    """A convolution of `x` and some channels of zeros, which change nothing."""
    pad = (0, 0, 0, 0, 0, channels)
    return F.conv2d(F.pad(x, pad), F.pad(conv.weight, pad), conv.bias, padding=conv.padding)


def stage(
    inputs: int, outputs: int, blocks: int, normalise: Normalise, *, bias: bool = False
) -> nn.Sequential:
    """`blocks` convolution blocks in a row, the first of which changes the channels."""
    widths = [inputs] + [outputs] * blocks
    return nn.Sequential(*(ConvBlock(a, b, normalise, bias=bias) for a, b in pairwise(widths)))


def upsampler(mode: Upsample) -> nn.Upsample:
    """Twice the height and width.  Bilinear keeps the corner pixels in the corners."""
    return nn.Upsample(
        scale_factor=2, mode=mode, align_corners=True if mode == "bilinear" else None
    )


class UNet(nn.Module):
    """The encoder-decoder of TrackNetV2 (V5 paper, figure 2), which V3, V4 and V5 keep.

    Args:
        inputs: channels of the input.
        width: channel multiplier.
        normalise: order within a block, see ConvBlock.
        upsample: "bilinear" with aligned corners in the released V2, V4 and V5; "nearest" in V3.
    """

    def __init__(
        self, inputs: int, *, width: float, normalise: Normalise, upsample: Upsample
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = (scaled(c, width) for c in UNET_CHANNELS)
        self.upsample = upsampler(upsample)
        self.encoder1 = stage(inputs, c1, 2, normalise)
        self.encoder2 = stage(c1, c2, 2, normalise)
        self.encoder3 = stage(c2, c3, 3, normalise)
        self.bottleneck = stage(c3, c4, 3, normalise)
        self.decoder1 = stage(c4 + c3, c3, 3, normalise)
        self.decoder2 = stage(c3 + c2, c2, 2, normalise)
        self.decoder3 = stage(c2 + c1, c1, 2, normalise)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, H, W]` -> features `[B, 64 * width, H, W]`; H, W multiples of 8."""
        skip1 = self.encoder1(x)
        skip2 = self.encoder2(F.max_pool2d(skip1, 2))
        skip3 = self.encoder3(F.max_pool2d(skip2, 2))
        x = self.bottleneck(F.max_pool2d(skip3, 2))
        x = self.decoder1(self.join(x, skip3))
        x = self.decoder2(self.join(x, skip2))
        return self.decoder3(self.join(x, skip1))

    def join(self, below: Tensor, skip: Tensor) -> Tensor:
        """`[B, C, H / 2, W / 2]` and `[B, D, H, W]` -> `[B, C + D, H, W]`.

        In the precision of `skip`, whatever autocast has enlarged to.
        """
        return torch.cat([self.upsample(below).to(skip.dtype), skip], dim=1)


class FrameDifferences(NamedTuple):
    """Signed luminance differences within a window of three frames, `[B, 1, H, W]` each."""

    into_current: Tensor  # frame t minus frame t-1
    into_following: Tensor  # frame t+1 minus frame t


class MotionAttention(nn.Module):
    """Learnable map from a luminance difference to an attention weight (equations 2 and 3).

    One alpha and one beta serve all the maps of a model.  They start where the released code
    starts them; the luminance weights are constants, kept as a buffer because checkpoints of the
    released code carry them.
    """

    luminance: Tensor

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.beta = nn.Parameter(torch.tensor(beta))
        self.register_buffer("luminance", torch.tensor(LUMINANCE))

    def differences(self, frames: Tensor) -> FrameDifferences:
        """Differences between neighbours in `[B, 3, 3, H, W]`: three RGB frames."""
        red, green, blue = self.luminance
        grey = red * frames[:, :, 0] + green * frames[:, :, 1] + blue * frames[:, :, 2]
        previous, current, following = grey.unsqueeze(2).unbind(1)
        return FrameDifferences(current - previous, following - current)

    def weight(self, difference: Tensor) -> Tensor:
        """Attention in [0, 1] for a difference, whose sign does not count here."""
        slope = SLOPE / (SLOPE_RANGE * self.alpha.tanh().abs() + EPSILON)
        offset = OFFSET_RANGE * self.beta.tanh()
        return torch.sigmoid(slope * (difference.abs() - offset))


class FromBytes(nn.Module):
    """A model with the step from bytes to numbers in front."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model(to_frames(pictures))
