"""TrackNetV2: three frames in, three heatmaps out, one U-Net.

Sun, Lin, Chuang, Hsu, Yu, Chung, Ik: TrackNetV2: Efficient Shuttlecock Tracking Network,
ICPAI 2020.  Built as the authors of TrackNetV5 built their baseline (V5 paper, figure 2); V4 and
V5 start from this backbone too and take it from here.

>>> model = TrackNetV2(V2Config(width=1 / 16))
>>> model(torch.rand(1, 3, 3, 32, 64)).shape
torch.Size([1, 3, 32, 64])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tracknet.pipeline.models.blocks import (
    UNET_CHANNELS,
    HeatmapConfig,
    HeatmapModel,
    UNet,
    scaled,
)


@dataclass(frozen=True)
class V2Config(HeatmapConfig):
    """Options of TrackNetV2, and of every model on its U-Net.

    Attributes:
        head_bias: None gives the paper's 1x1 head, which has no bias.  A number gives the head a
            bias that starts there: about -3 lets a training from scratch begin with "no ball
            anywhere", which is right for 99.9 % of the pixels.
    """

    head_bias: float | None = None


def v2_unet(inputs: int, config: V2Config) -> UNet:
    """The U-Net as the released V2, V4 and V5 build it."""
    return UNet(inputs, width=config.width, normalise="after", upsample="bilinear")


def v2_head(heatmaps: int, config: V2Config) -> nn.Conv2d:
    """The 1x1 convolution from the U-Net's features to one logit per heatmap and pixel."""
    head = nn.Conv2d(
        scaled(UNET_CHANNELS[0], config.width), heatmaps, 1, bias=config.head_bias is not None
    )
    if head.bias is not None and config.head_bias is not None:
        nn.init.constant_(head.bias, config.head_bias)
    return head


class TrackNetV2(HeatmapModel):
    """Frames t-1, t and t+1, stacked on the channel axis, to their three heatmaps."""

    source: ClassVar[str] = "Sun et al., TrackNetV2, ICPAI 2020"

    def __init__(self, config: V2Config | None = None) -> None:
        super().__init__()
        self.config: V2Config = config or V2Config()
        self.spec = self.config.window(frames=3, targets=(0, 1, 2))
        self.unet = v2_unet(9, self.config)
        self.head = v2_head(3, self.config)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 3, H, W]`."""
        self.check(frames)
        return self.head(self.unet(torch.flatten(frames, 1, 2)))
