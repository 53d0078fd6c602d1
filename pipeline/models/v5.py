"""TrackNetV5: signed motion in front of the U-Net, a residual transformer behind it.

Tang, Chen, Jiang, Li, Guo: TrackNetV5: Residual-Driven Spatio-Temporal Refinement and Motion
Direction Decoupling for Fast Object Tracking, 2025.  This file follows section 3 of the paper:
MDD (3.2), the gated draft and the R-STR head (3.3), the model (3.1), and the two ablations of
section 4.3.  Where the text is open, the released code decides; comments say where.

Shapes: B windows, T = 3 frames, H and W pixels, N patches in a frame, D token features.

>>> model = TrackNetV5(V5Config(width=1 / 16))
>>> model(torch.rand(1, 3, 3, 32, 64)).shape
torch.Size([1, 3, 32, 64])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracknet.pipeline.models.blocks import (
    HeatmapModel,
    MotionAttention,
    check_choice,
    scaled,
)
from tracknet.pipeline.models.v2 import V2Config, v2_head, v2_unet

Attention = Literal["factorized", "joint"]

FRAMES = 3
ALPHA, BETA = 0.2, 0.15  # initial values in the released code
CONTEXT_DROPOUT = 0.1  # rho of Stochastic Context Masking
PATCH = 16
TOKEN_FEATURES, HEADS, LAYERS = 256, 2, 4
LAYER_DROPOUT = 0.1
EMBEDDING_STD = 0.02

SOURCE = "Tang et al., TrackNetV5, 2025"


@dataclass(frozen=True)
class V5Config(V2Config):
    """Options of TrackNetV5, and of the ablation V2 + R-STR.

    Attributes:
        attention: "factorized" is what the paper describes: layers attend within a frame and
            across the frames in turn.  "joint" is what the released code does: every layer
            attends over all tokens of all frames.  Both have the same parameters, and neither
            was ahead over three seeds (README), so the default is the one that computes less.
        context_dropout: share of the draft's logits that Stochastic Context Masking hides in
            training (the paper's rho).  What is hidden must come out of the residual alone, which
            therefore learns to say "no ball" first; 0 starts where the draft stands.
    """

    attention: Attention = "factorized"
    context_dropout: float = CONTEXT_DROPOUT

    stride: ClassVar[int] = PATCH

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("attention", self.attention, Attention)
        if not 0 <= self.context_dropout < 1:
            raise ValueError(f"context_dropout {self.context_dropout}: must lie in [0, 1)")


class Polarity(NamedTuple):
    """Attention maps of the signed motion, `[B, 1, H, W]` in [0, 1], in the paper's order."""

    brighten_prev: Tensor  # t-1 -> t: where the ball arrives
    darken_prev: Tensor  # t-1 -> t: where the ball leaves
    brighten_next: Tensor  # t -> t+1: where the ball arrives
    darken_next: Tensor  # t -> t+1: where the ball leaves


class MDD(MotionAttention):
    """Motion Direction Decoupling (section 3.2)."""

    def __init__(self) -> None:
        super().__init__(ALPHA, BETA)

    def forward(self, frames: Tensor) -> Polarity:
        """`[B, 3, 3, H, W]` RGB in [0, 1] -> the four polarity maps (equations 1 to 3)."""
        change = self.differences(frames)
        return Polarity(
            brighten_prev=self.weight(F.relu(change.into_current)),
            darken_prev=self.weight(F.relu(-change.into_current)),
            brighten_next=self.weight(F.relu(change.into_following)),
            darken_next=self.weight(F.relu(-change.into_following)),
        )


def interleave(frames: Tensor, motion: Polarity) -> Tensor:
    """Equation 4: `[B, 3, 3, H, W]` frames and their motion to the `[B, 13, H, W]` input."""
    previous, current, following = frames.unbind(1)
    return torch.cat(
        [
            previous,
            motion.brighten_prev,
            motion.darken_prev,
            current,
            motion.brighten_next,
            motion.darken_next,
            following,
        ],
        dim=1,
    )


def motion_aware(draft: Tensor, motion: Polarity) -> Tensor:
    """Draft_MDD: draft logits `[B, 3, H, W]` gated where something arrives.

    The released code leaves the first frame alone, for which no motion is known, and gates the
    other two by their brightening.  The product acts on logits: where nothing moves the gated
    logit is nearly 0, so it is the residual that says "no ball".
    """
    previous, current, following = draft.split(1, dim=1)
    return torch.cat(
        [previous, current * motion.brighten_prev, following * motion.brighten_next], dim=1
    )


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases and dropout on the attention weights."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[S, L, D]` -> `[S, L, D]`: each of S sequences attends over its own L tokens."""
        sequences, length, features = tokens.shape
        qkv = self.qkv(tokens).view(sequences, length, 3, HEADS, features // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attend = _attend_briefly if tokens.is_cuda and length <= FRAMES else _attend
        mixed = attend(query, key, value, LAYER_DROPOUT if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).reshape(sequences, length, features))


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)


def _attend_briefly(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """The same for a handful of tokens `[S, heads, L, features]`.

    Attention kernels of GPUs work on tiles of 64 tokens: with 3, nineteen twentieths are wasted.
    """
    query = query / query.shape[-1] ** 0.5
    scores = (query.unsqueeze(3) * key.unsqueeze(2)).sum(-1)
    weights = F.dropout(scores.float().softmax(-1), dropout, training=dropout > 0)
    return (weights.unsqueeze(4) * value.unsqueeze(2)).sum(3).to(value.dtype)


class EncoderLayer(nn.Module):
    """Post-norm transformer encoder layer: attention, then a ReLU network of 4 D features.

    Same mathematics and parameters as `torch.nn.TransformerEncoderLayer`; written out because
    that one takes a fused path in evaluation, which exporters and counters cannot look into.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.attention = SelfAttention(features)
        self.expand = nn.Linear(features, 4 * features)
        self.contract = nn.Linear(4 * features, features)
        self.norm1 = nn.LayerNorm(features)
        self.norm2 = nn.LayerNorm(features)
        self.dropout = nn.Dropout(LAYER_DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[S, L, D]` -> `[S, L, D]`."""
        tokens = self.norm1(tokens + self.dropout(self.attention(tokens)))
        hidden = self.dropout(F.relu(self.expand(tokens)))
        return self.norm2(tokens + self.dropout(self.contract(hidden)))


class TSATTHead(nn.Module):
    """Estimates the residual of three draft heatmaps (section 3.3.2).

    Each draft is cut into 16x16 patches, each patch becomes a token that knows its place and its
    frame, four encoder layers mix the tokens, and PixelShuffle lays them out as pixels again.

    The embedding of the place is learned for the configured size.  At another size (crops in
    training) its grid is resampled bilinearly over the picture, so it then tells the place within
    the crop; at the configured size it is used as it is.
    """

    def __init__(self, config: V5Config) -> None:
        super().__init__()
        features = scaled(TOKEN_FEATURES, config.width)
        self.attention = config.attention
        self.grid = (config.input_height // PATCH, config.input_width // PATCH)
        self.embed = nn.Conv2d(1, features, PATCH, stride=PATCH)
        self.place = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], features))
        self.time = nn.Parameter(torch.empty(1, FRAMES, features))
        self.layers = nn.ModuleList(EncoderLayer(features) for _ in range(LAYERS))
        self.decode = nn.Conv2d(features, PATCH * PATCH, 1)
        nn.init.normal_(self.place, std=EMBEDDING_STD)
        nn.init.normal_(self.time, std=EMBEDDING_STD)

    def forward(self, draft: Tensor) -> Tensor:
        """Draft logits `[B, 3, H, W]` -> residual logits `[B, 3, H, W]`."""
        batch, _, height, width = draft.shape
        rows, columns = height // PATCH, width // PATCH
        patches = self.embed(draft.reshape(batch * FRAMES, 1, height, width))
        tokens = patches.flatten(2).transpose(1, 2).unflatten(0, (batch, FRAMES))
        tokens = tokens + self.place_embedding(rows, columns).unsqueeze(1) + self.time.unsqueeze(2)
        tokens = self.attend(tokens)
        features = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, (rows, columns))
        residual = F.pixel_shuffle(self.decode(features), PATCH)
        return residual.reshape(batch, FRAMES, height, width)

    def place_embedding(self, rows: int, columns: int) -> Tensor:
        """`[1, rows * columns, D]`: the learned grid, resampled if it has another size."""
        if (rows, columns) == self.grid:
            return self.place
        grid = self.place.transpose(1, 2).unflatten(2, self.grid)
        resampled = F.interpolate(grid, (rows, columns), mode="bilinear", align_corners=False)
        return resampled.flatten(2).transpose(1, 2)

    def attend(self, tokens: Tensor) -> Tensor:
        """Run the encoder layers over tokens `[B, T, N, D]`."""
        if self.attention == "joint":
            together = tokens.flatten(1, 2)
            for layer in self.layers:
                together = layer(together)
            return together.unflatten(1, tokens.shape[1:3])
        for index, layer in enumerate(self.layers):
            tokens = within_frames(layer, tokens) if index % 2 == 0 else across(layer, tokens)
        return tokens


def within_frames(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Spatial attention: the N tokens of a frame see one another; `[B, T, N, D]`.

    Contiguous, because a window alone could be flattened without a copy, and a linear layer
    rounds strided input differently: a window's result must not depend on its batch.
    """
    return layer(tokens.flatten(0, 1).contiguous()).unflatten(0, tokens.shape[:2])


def across(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Temporal attention: the T tokens at a place see one another; `[B, T, N, D]`."""
    return within_frames(layer, tokens.transpose(1, 2)).transpose(1, 2)


class RSTR(nn.Module):
    """Residual-Driven Spatio-Temporal Refinement (section 3.3.1)."""

    def __init__(self, config: V5Config) -> None:
        super().__init__()
        self.mask = nn.Dropout(config.context_dropout)
        self.head = TSATTHead(config)

    def forward(self, draft: Tensor) -> Tensor:
        """Draft logits `[B, 3, H, W]` -> final logits: draft + residual.

        In training the masked draft is both what the head sees and what its residual is added
        to, as in the paper's first pair of equations; in evaluation nothing is masked.
        """
        draft = self.mask(draft)
        return draft + self.head(draft)


class TrackNetV5(HeatmapModel):
    """Three frames to three heatmaps: MDD, U-Net, gated draft, residual refinement."""

    source: ClassVar[str] = SOURCE

    def __init__(self, config: V5Config | None = None) -> None:
        super().__init__()
        self.config: V5Config = config or V5Config()
        self.spec = self.config.window(frames=FRAMES, targets=(0, 1, 2))
        self.mdd = MDD()
        self.unet = v2_unet(13, self.config)
        self.draft = v2_head(FRAMES, self.config)
        self.refine = RSTR(self.config)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 3, H, W]`; H and W multiples of 16."""
        self.check(frames)
        motion = self.mdd(frames)
        draft = self.draft(self.unet(interleave(frames, motion)))
        return self.refine(motion_aware(draft, motion))


class V2WithMDD(HeatmapModel):
    """Ablation: motion in front of the U-Net and on the draft, no transformer."""

    source: ClassVar[str] = f"{SOURCE}, table 4"

    def __init__(self, config: V2Config | None = None) -> None:
        super().__init__()
        self.config = config or V2Config()
        self.spec = self.config.window(frames=FRAMES, targets=(0, 1, 2))
        self.mdd = MDD()
        self.unet = v2_unet(13, self.config)
        self.draft = v2_head(FRAMES, self.config)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 3, H, W]`, gated."""
        self.check(frames)
        motion = self.mdd(frames)
        draft = self.draft(self.unet(interleave(frames, motion)))
        return motion_aware(draft, motion)


class V2WithRSTR(HeatmapModel):
    """Ablation: the U-Net of V2 and the transformer, no motion anywhere."""

    source: ClassVar[str] = f"{SOURCE}, table 5"

    def __init__(self, config: V5Config | None = None) -> None:
        super().__init__()
        self.config: V5Config = config or V5Config()
        self.spec = self.config.window(frames=FRAMES, targets=(0, 1, 2))
        self.unet = v2_unet(9, self.config)
        self.draft = v2_head(FRAMES, self.config)
        self.refine = RSTR(self.config)

    def logits(self, frames: Tensor) -> Tensor:
        """`[B, 3, 3, H, W]` -> `[B, 3, H, W]`; H and W multiples of 16."""
        self.check(frames)
        return self.refine(self.draft(self.unet(torch.flatten(frames, 1, 2))))
