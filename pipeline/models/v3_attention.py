"""TrackNetV3 with attention: the unpublished one, reference [4] of the V5 paper.

TrackNetV3: Beyond TrackNetV2 and First TrackNet Using Attention, 2023.  Known from its report and
its public code.  Every encoder stage works on three scales at once, and channel attention weighs
the skip connections and the decoder's features; it is about three times as slow as V2.

>>> model = TrackNetV3Attention(HeatmapConfig(width=1 / 16))
>>> model(torch.rand(1, 3, 3, 32, 64)).shape
torch.Size([1, 3, 32, 64])
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracknet.pipeline.models.blocks import (
    UNET_CHANNELS,
    ConvBlock,
    HeatmapConfig,
    HeatmapModel,
    scaled,
    stage,
    upsampler,
)

REDUCTION = 16


class ChannelAttention(nn.Module):
    """Weigh channels by their mean and their maximum over the picture.

    This is the channel half of CBAM (Woo et al., ECCV 2018); the public code leaves the spatial
    half out of its forward pass, so it is not built here.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, C, H, W]`."""
        mean = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True))))
        maximum = self.excite(F.relu(self.squeeze(x.amax(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(mean + maximum)


class MultiScaleBlock(nn.Module):
    """Three branches that start with 1x1, 3x3 and 5x5, fused, plus the 3x3 branch as residual."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow, self.middle, self.broad = (
            nn.Sequential(
                ConvBlock(inputs, outputs, "before", kernel=kernel, bias=True),
                ConvBlock(outputs, outputs, "before", bias=True),
            )
            for kernel in (1, 3, 5)
        )
        self.fuse = ConvBlock(3 * outputs, outputs, "before", bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, H, W]` -> `[B, outputs, H, W]`."""
        middle = self.middle(x)
        return middle + self.fuse(torch.cat([self.narrow(x), middle, self.broad(x)], dim=1))


class TrackNetV3Attention(HeatmapModel):
    """Frames t-1, t and t+1 to their three heatmaps."""

    source: ClassVar[str] = "TrackNetV3: Beyond TrackNetV2, unpublished report, 2023"

    def __init__(self, config: HeatmapConfig | None = None) -> None:
        super().__init__()
        self.config = config or HeatmapConfig()
        self.spec = self.config.window(frames=3, targets=(0, 1, 2))
        c1, c2, c3, c4 = (scaled(c, self.config.width) for c in UNET_CHANNELS)
        self.upsample = upsampler("nearest")
        self.encoder1 = MultiScaleBlock(9, c1)
        self.encoder2 = MultiScaleBlock(c1, c2)
        self.encoder3 = MultiScaleBlock(c2, c3)
        self.bottleneck = stage(c3, c4, 3, "before", bias=True)
        self.decoder1 = stage(c4 + c3, c3, 2, "before", bias=True)
        self.decoder2 = stage(c3 + c2, c2, 2, "before", bias=True)
        self.decoder3 = stage(c2 + c1, c1, 2, "before", bias=True)
        self.skip1, self.skip2, self.skip3 = (ChannelAttention(c) for c in (c1, c2, c3))
        self.focus1, self.focus2, self.focus3 = (ChannelAttention(c) for c in (c3, c2, c1))
        self.head = nn.Conv2d(c1, 3, 1)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 3, H, W]`."""
        self.check(frames)
        skip1 = self.encoder1(torch.flatten(frames, 1, 2))
        skip2 = self.encoder2(F.max_pool2d(skip1, 2))
        skip3 = self.encoder3(F.max_pool2d(skip2, 2))
        x = self.bottleneck(F.max_pool2d(skip3, 2))
        x = self.decoder1(torch.cat([self.upsample(x), self.skip3(skip3)], dim=1))
        x = self.decoder2(torch.cat([self.upsample(self.focus1(x)), self.skip2(skip2)], dim=1))
        x = self.decoder3(torch.cat([self.upsample(self.focus2(x)), self.skip1(skip1)], dim=1))
        return self.head(self.focus3(x))
