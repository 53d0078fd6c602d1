"""TrackNetV3: eight frames and a background to eight heatmaps, and a network that fills gaps.

Chen, Wang: TrackNetV3: Enhancing ShuttleCock Tracking with Augmentations and Trajectory
Rectification, MMAsia 2023.  The tracking module is the U-Net of V2 with BatchNorm before the ReLU
and nearest-neighbour upsampling; the median picture of the rally goes in front of the frames.
The rectification module, InpaintNet, sees only coordinates: it draws the trajectory through the
frames in which the shuttlecock was hidden.

>>> model = TrackNetV3(V3Config(width=1 / 16))
>>> model(torch.rand(1, 9, 3, 32, 64)).shape
torch.Size([1, 8, 32, 64])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models.blocks import (
    UNET_CHANNELS,
    HeatmapConfig,
    HeatmapModel,
    UNet,
    scaled,
)

SOURCE = "Chen and Wang, TrackNetV3, MMAsia 2023"

INPAINT_CHANNELS = (32, 64, 128, 256)


@dataclass(frozen=True)
class V3Config(HeatmapConfig):
    """Options of the tracking module.

    Attributes:
        frames: frames in a window, each of which gets a heatmap.
        background: the median picture of the clip stands in front of the frames.
    """

    frames: int = 8
    background: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise InputError(f"frames must be 1 or more, not {self.frames}")


class TrackNetV3(HeatmapModel):
    """The background and eight frames, stacked on the channel axis, to eight heatmaps."""

    source: ClassVar[str] = SOURCE

    def __init__(self, config: V3Config | None = None) -> None:
        super().__init__()
        self.config: V3Config = config or V3Config()
        frames = self.config.frames
        self.spec = self.config.window(frames, tuple(range(frames)), self.config.background)
        self.unet = UNet(
            3 * self.spec.pictures,
            width=self.config.width,
            normalise="before",
            upsample="nearest",
        )
        self.head = nn.Conv2d(scaled(UNET_CHANNELS[0], self.config.width), frames, 1)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 9, 3, H, W]`, background first -> `[B, 8, H, W]`."""
        self.check(frames)
        return self.head(self.unet(torch.flatten(frames, 1, 2)))


@dataclass(frozen=True)
class InpaintNetConfig:
    """Options of InpaintNet.

    Attributes:
        width: multiplies the channels of every layer; 1 is the published model.
        length: frames in a sequence it is trained on; it can be run on any length.
    """

    width: float = 1.0
    length: int = 16

    def __post_init__(self) -> None:
        scaled(INPAINT_CHANNELS[0], self.width)
        if self.length < 1:
            raise InputError(f"length must be 1 or more, not {self.length}")


def conv3(inputs: int, outputs: int) -> nn.Conv1d:
    """Convolution over three neighbouring frames; the length stays."""
    return nn.Conv1d(inputs, outputs, 3, padding=1)


class InpaintNet(nn.Module):
    """The rectification module: a U-Net over time, without pooling.

    >>> gap = torch.zeros(1, 16, 1)
    >>> InpaintNet()(torch.rand(1, 16, 2), gap).shape
    torch.Size([1, 16, 2])
    """

    source: ClassVar[str] = f"{SOURCE}, rectification"

    def __init__(self, config: InpaintNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or InpaintNetConfig()
        c1, c2, c3, c4 = (scaled(c, self.config.width) for c in INPAINT_CHANNELS)
        self.encoder1 = conv3(3, c1)
        self.encoder2 = conv3(c1, c2)
        self.encoder3 = conv3(c2, c3)
        self.bottleneck1 = conv3(c3, c4)
        self.bottleneck2 = conv3(c4, c4)
        self.decoder1 = conv3(c4 + c3, c3)
        self.decoder2 = conv3(c3 + c2, c2)
        self.decoder3 = conv3(c2 + c1, c1)
        self.head = conv3(c1, 2)

    def forward(self, coordinates: Tensor, mask: Tensor) -> Tensor:
        """Fill gaps in a trajectory.

        Args:
            coordinates: `[B, L, 2]`, x and y divided by the picture's width and height.
            mask: `[B, L, 1]`, 1 in the frames to fill, 0 elsewhere.

        Returns:
            `[B, L, 2]` coordinates in [0, 1]; the caller takes those of the masked frames.
        """
        x = torch.cat([coordinates, mask], dim=2).transpose(1, 2)
        skip1 = F.leaky_relu(self.encoder1(x))
        skip2 = F.leaky_relu(self.encoder2(skip1))
        skip3 = F.leaky_relu(self.encoder3(skip2))
        x = F.leaky_relu(self.bottleneck1(skip3))
        x = F.leaky_relu(self.bottleneck2(x))
        x = F.leaky_relu(self.decoder1(torch.cat([x, skip3], dim=1)))
        x = F.leaky_relu(self.decoder2(torch.cat([x, skip2], dim=1)))
        x = F.leaky_relu(self.decoder3(torch.cat([x, skip1], dim=1)))
        return torch.sigmoid(self.head(x)).transpose(1, 2)
