"""TrackNetV4: the U-Net of V2, its output gated by where the picture changes.

Raj, Wang, Gedeon: TrackNetV4: Enhancing Fast Sports Object Tracking with Motion Attention Maps,
2024.  Built as the authors of TrackNetV5 built their baseline: grey values are differenced, the
absolute difference is mapped to an attention in [0, 1] (equation 2 of the V5 paper), and the
attention multiplies the logits, so that a pixel without motion ends near p = 0.5, not 0.

>>> model = TrackNetV4(V4Config(width=1 / 16, fusion="b"))
>>> model(torch.rand(1, 3, 3, 32, 64)).shape
torch.Size([1, 3, 32, 64])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tracknet.pipeline.models.blocks import (
    HeatmapModel,
    MotionAttention,
    check_choice,
)
from tracknet.pipeline.models.v2 import V2Config, v2_head, v2_unet

Fusion = Literal["a", "b"]

ALPHA, BETA = 0.1, 0.0  # initial values in the released code


@dataclass(frozen=True)
class V4Config(V2Config):
    """Options of TrackNetV4.

    Attributes:
        fusion: which attention gates which heatmap.  "a": t-1 stays as it is, t is gated by the
            motion from t-1 to t, t+1 by the motion from t to t+1.  "b": t-1 is gated by the first
            motion, t by the mean of both, t+1 by the second.
    """

    fusion: Fusion = "a"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fusion", self.fusion, Fusion)


def gate(draft: Tensor, into_current: Tensor, into_following: Tensor, fusion: Fusion) -> Tensor:
    """Multiply the three draft logits by the motion attention.

    Args:
        draft: `[B, 3, H, W]` logits of t-1, t, t+1.
        into_current, into_following: `[B, 1, H, W]` attention of t-1 -> t and of t -> t+1.
    """
    previous, current, following = draft.split(1, dim=1)
    if fusion == "b":
        previous = previous * into_current
        current = current * (into_current + into_following) / 2
    else:
        current = current * into_current
    return torch.cat([previous, current, following * into_following], dim=1)


class TrackNetV4(HeatmapModel):
    """Three frames to three heatmaps, gated by the absolute motion between the frames."""

    source: ClassVar[str] = "Raj et al., TrackNetV4, 2024"

    def __init__(self, config: V4Config | None = None) -> None:
        super().__init__()
        self.config: V4Config = config or V4Config()
        self.spec = self.config.window(frames=3, targets=(0, 1, 2))
        self.motion = MotionAttention(ALPHA, BETA)
        self.unet = v2_unet(9, self.config)
        self.head = v2_head(3, self.config)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 3, H, W]`, gated."""
        self.check(frames)
        change = self.motion.differences(frames)
        draft = self.head(self.unet(torch.flatten(frames, 1, 2)))
        return gate(
            draft,
            self.motion.weight(change.into_current),
            self.motion.weight(change.into_following),
            self.config.fusion,
        )
