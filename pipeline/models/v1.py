"""TrackNetV1: the first one, which classifies every pixel into 256 grey levels.

Huang, Liao, Chen, Ik, Peng: TrackNet: A Deep Learning Network for Tracking High-Speed and Tiny
Objects in Sports Applications, 2019.  A VGG-16-like encoder, a decoder without skip connections,
and 256 classes per pixel, which are the grey levels of the heatmap.  It sees two frames back and
answers for the newest one only.

Here the frames are stacked from old to new, as in all models of this project; the blocks are
convolution (with bias), ReLU, BatchNorm, the last one too.

>>> model = TrackNetV1(V1Config(width=1 / 16))
>>> model(torch.rand(1, 3, 3, 32, 64)).shape
torch.Size([1, 1, 32, 64])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tracknet.pipeline.models.blocks import (
    UNET_CHANNELS,
    ConvBlock,
    HeatmapConfig,
    HeatmapModel,
    scaled,
    stage,
    upsampler,
)

LEVELS = 256


@dataclass(frozen=True)
class V1Config(HeatmapConfig):
    """Options of TrackNetV1, whose pictures are larger than those of its successors."""

    input_height: int = 360
    input_width: int = 640


class TrackNetV1(HeatmapModel):
    """Frames t-2, t-1 and t to the heatmap of frame t."""

    source: ClassVar[str] = "Huang et al., TrackNet, 2019"

    def __init__(self, config: V1Config | None = None) -> None:
        super().__init__()
        self.config: V1Config = config or V1Config()
        self.spec = self.config.window(frames=3, targets=(2,))
        c1, c2, c3, c4 = (scaled(c, self.config.width) for c in UNET_CHANNELS)
        self.upsample = upsampler("nearest")
        self.encoder1 = stage(9, c1, 2, "after", bias=True)
        self.encoder2 = stage(c1, c2, 2, "after", bias=True)
        self.encoder3 = stage(c2, c3, 3, "after", bias=True)
        self.bottleneck = stage(c3, c4, 3, "after", bias=True)
        self.decoder1 = stage(c4, c3, 3, "after", bias=True)
        self.decoder2 = stage(c3, c2, 2, "after", bias=True)
        self.decoder3 = stage(c2, c1, 2, "after", bias=True)
        self.head = ConvBlock(c1, LEVELS, "after", bias=True)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> scores `[B, 256, H, W]` of the grey levels, before a softmax."""
        self.check(frames)
        x = self.encoder1(torch.flatten(frames, 1, 2))
        x = self.encoder2(F.max_pool2d(x, 2))
        x = self.encoder3(F.max_pool2d(x, 2))
        x = self.bottleneck(F.max_pool2d(x, 2))
        x = self.decoder1(self.upsample(x))
        x = self.decoder2(self.upsample(x))
        return self.head(self.decoder3(self.upsample(x)))

    def forward(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 1, H, W]`: the likeliest grey level of each pixel, over 255."""
        level = self.logits(frames).argmax(dim=1, keepdim=True)
        return level.to(frames.dtype) / (LEVELS - 1)
