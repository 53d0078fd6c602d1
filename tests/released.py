"""Released checkpoints of random numbers, and what their models compute, in float64.

The functions `released_*` and `v3_*` are written from the papers and the released key layouts,
with tensors and torch.nn.functional only, so that nothing of `pipeline.models` checks itself.
Checkpoints are seeded random arrays under the released keys.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

HEIGHT, WIDTH_PX = 32, 48
PATCHES = (HEIGHT // 16) * (WIDTH_PX // 16)
SIZE = {"input_height": HEIGHT, "input_width": WIDTH_PX}

# Blocks 1 to 17 of the released U-Net: channels in and out, at width 1.
BLOCKS = [
    *((0, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)),
    *((256, 512), (512, 512), (512, 512)),
    *((768, 256), (256, 256), (256, 256), (384, 128), (128, 128), (192, 64), (64, 64)),
]
V3_BLOCKS = [
    *("down_block_1.conv_1", "down_block_1.conv_2", "down_block_2.conv_1", "down_block_2.conv_2"),
    *("down_block_3.conv_1", "down_block_3.conv_2", "down_block_3.conv_3"),
    *("bottleneck.conv_1", "bottleneck.conv_2", "bottleneck.conv_3"),
    *("up_block_1.conv_1", "up_block_1.conv_2", "up_block_1.conv_3"),
    *("up_block_2.conv_1", "up_block_2.conv_2", "up_block_3.conv_1", "up_block_3.conv_2"),
]


class Arrays:
    """Makes seeded arrays of the sizes that keep activations near 1."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def kernel(self, *shape: int) -> Tensor:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return torch.tensor(self.random.normal(0, scale, shape), dtype=torch.float32)

    def around(self, centre: float, *shape: int) -> Tensor:
        return torch.tensor(
            self.random.uniform(centre - 0.3, centre + 0.3, shape), dtype=torch.float32
        )

    def norm(self, key: str, channels: int) -> State:
        return {
            f"{key}.weight": self.around(1, channels),
            f"{key}.bias": self.around(0, channels),
            f"{key}.running_mean": self.around(0, channels),
            f"{key}.running_var": self.around(1, channels),
            f"{key}.num_batches_tracked": torch.tensor(100),
        }


def released_block_key(number: int) -> str:
    return f"{'backbone' if number <= 10 else 'neck'}.conv{number}.conv"


def unet_arrays(arrays: Arrays, inputs: int, key: Callable[[int], tuple[str, str]]) -> State:
    state: State = {}
    for number, (before, after) in enumerate(BLOCKS, start=1):
        conv, norm = key(number)
        state[f"{conv}.weight"] = arrays.kernel(after, before or inputs, 3, 3)
        state |= arrays.norm(norm, after)
    return state


def released_unet_arrays(arrays: Arrays, inputs: int) -> State:
    return unet_arrays(
        arrays, inputs, lambda n: (f"{released_block_key(n)}.0", f"{released_block_key(n)}.2")
    )


def refinement_arrays(arrays: Arrays, draft_key: str) -> State:
    state = {
        draft_key: arrays.kernel(3, 64, 1, 1),
        "head.embed_conv.weight": arrays.kernel(256, 1, 16, 16),
        "head.embed_conv.bias": arrays.around(0, 256),
        "head.spatial_pos_embed": arrays.around(0, 1, PATCHES, 256),
        "head.time_embed": arrays.around(0, 1, 3, 256),
        "head.decoder_head.0.weight": arrays.kernel(256, 256, 1, 1),
        "head.decoder_head.0.bias": arrays.around(0, 256),
    }
    for layer in (f"head.transformer_encoder.layers.{i}" for i in range(4)):
        for name, rows, columns in (
            ("self_attn.in_proj_", 768, 256),
            ("self_attn.out_proj.", 256, 256),
            ("linear1.", 1024, 256),
            ("linear2.", 256, 1024),
        ):
            state[f"{layer}.{name}weight"] = arrays.kernel(rows, columns)
            state[f"{layer}.{name}bias"] = arrays.around(0, rows)
        for name in ("norm1", "norm2"):
            state[f"{layer}.{name}.weight"] = arrays.around(1, 256)
            state[f"{layer}.{name}.bias"] = arrays.around(0, 256)
    return state


def v5_checkpoint() -> State:
    arrays = Arrays(5)
    motion = {
        "mdd.a": torch.tensor(0.3),
        "mdd.b": torch.tensor(0.1),
        "mdd.R_WEIGHT": torch.tensor(0.299).view(1, 1, 1, 1),
        "mdd.G_WEIGHT": torch.tensor(0.587).view(1, 1, 1, 1),
        "mdd.B_WEIGHT": torch.tensor(0.114).view(1, 1, 1, 1),
    }
    head = refinement_arrays(arrays, "head.draft_head.weight")
    return motion | released_unet_arrays(arrays, 13) | head


def v2_rstr_checkpoint() -> State:
    arrays = Arrays(25)
    head = refinement_arrays(arrays, "head.conv1.conv.0.weight")
    return released_unet_arrays(arrays, 9) | head


def v2_checkpoint() -> State:
    arrays = Arrays(2)
    head = {"head.conv.conv.0.weight": arrays.kernel(3, 64, 1, 1)}
    return released_unet_arrays(arrays, 9) | head


def v4_checkpoint() -> State:
    arrays = Arrays(4)
    motion = {
        "backbone.motion.a": torch.tensor(0.2),
        "backbone.motion.b": torch.tensor(-0.1),
        "backbone.motion.gray_scale": torch.tensor([0.299, 0.587, 0.114]),
    }
    head = {"head.conv.weight": arrays.kernel(3, 64, 1, 1)}
    return motion | released_unet_arrays(arrays, 9) | head


def v3_checkpoint() -> State:
    arrays = Arrays(3)
    state = unet_arrays(
        arrays, 27, lambda n: (f"{V3_BLOCKS[n - 1]}.conv", f"{V3_BLOCKS[n - 1]}.bn")
    )
    return state | {
        "predictor.weight": arrays.kernel(8, 64, 1, 1),
        "predictor.bias": arrays.around(0, 8),
    }


INPAINT_LAYERS = {
    "down_1.conv": (3, 32),
    "down_2.conv": (32, 64),
    "down_3.conv": (64, 128),
    "buttleneck.conv_1.conv": (128, 256),
    "buttleneck.conv_2.conv": (256, 256),
    "up_1.conv": (384, 128),
    "up_2.conv": (192, 64),
    "up_3.conv": (96, 32),
    "predictor": (32, 2),
}


def inpaintnet_checkpoint() -> State:
    arrays = Arrays(16)
    state: State = {}
    for key, (inputs, outputs) in INPAINT_LAYERS.items():
        state |= {
            f"{key}.weight": arrays.kernel(outputs, inputs, 3),
            f"{key}.bias": arrays.around(0, outputs),
        }
    return state


CHECKPOINTS: dict[str, Callable[[], State]] = {
    "v2": v2_checkpoint,
    "v4": v4_checkpoint,
    "v5": v5_checkpoint,
    "v2_rstr": v2_rstr_checkpoint,
    "v3": v3_checkpoint,
    "inpaintnet": inpaintnet_checkpoint,
}


# The equations again.


def batch_norm(x: Tensor, s: State, key: str) -> Tensor:
    mean, var, gain, shift = (
        s[f"{key}.{name}"].view(1, -1, 1, 1)
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + shift


def unet(
    x: Tensor, block: Callable[[Tensor, int], Tensor], up: Callable[[Tensor], Tensor]
) -> Tensor:
    def run(x: Tensor, *numbers: int) -> Tensor:
        for number in numbers:
            x = block(x, number)
        return x

    skip1 = run(x, 1, 2)
    skip2 = run(F.max_pool2d(skip1, 2), 3, 4)
    skip3 = run(F.max_pool2d(skip2, 2), 5, 6, 7)
    x = run(F.max_pool2d(skip3, 2), 8, 9, 10)
    x = run(torch.cat([up(x), skip3], 1), 11, 12, 13)
    x = run(torch.cat([up(x), skip2], 1), 14, 15)
    return run(torch.cat([up(x), skip1], 1), 16, 17)


def released_unet(x: Tensor, s: State) -> Tensor:
    def block(x: Tensor, number: int) -> Tensor:
        key = released_block_key(number)
        return batch_norm(F.relu(F.conv2d(x, s[f"{key}.0.weight"], padding=1)), s, f"{key}.2")

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    return unet(x, block, up)


def motion_weight(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    k = 5.0 / (0.45 * torch.abs(torch.tanh(a)) + 1e-6)
    return 1 / (1 + torch.exp(-k * (x.abs() - 0.6 * torch.tanh(b))))


def grey_steps(frames: Tensor) -> tuple[Tensor, Tensor]:
    grey = torch.einsum("btchw,c->bthw", frames, torch.tensor([0.299, 0.587, 0.114]).double())
    return (grey[:, 1] - grey[:, 0]).unsqueeze(1), (grey[:, 2] - grey[:, 1]).unsqueeze(1)


def self_attention(x: Tensor, s: State, key: str) -> Tensor:
    q, k, v = (x @ s[f"{key}.in_proj_weight"].T + s[f"{key}.in_proj_bias"]).chunk(3, -1)
    heads = []
    for part in (slice(0, 128), slice(128, 256)):
        scores = q[..., part] @ k[..., part].transpose(1, 2) / 128**0.5
        heads.append(scores.softmax(-1) @ v[..., part])
    return torch.cat(heads, -1) @ s[f"{key}.out_proj.weight"].T + s[f"{key}.out_proj.bias"]


def layer_norm(x: Tensor, s: State, key: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * s[f"{key}.weight"] + s[f"{key}.bias"]


def released_residual(draft: Tensor, s: State) -> Tensor:
    rows, columns = HEIGHT // 16, WIDTH_PX // 16
    tokens = []
    for t in range(3):
        embedded = F.conv2d(
            draft[:, t : t + 1], s["head.embed_conv.weight"], s["head.embed_conv.bias"], stride=16
        )
        place = s["head.spatial_pos_embed"] + s["head.time_embed"][:, t : t + 1]
        tokens.append(embedded.flatten(2).transpose(1, 2) + place)
    x = torch.cat(tokens, 1)
    for layer in (f"head.transformer_encoder.layers.{i}" for i in range(4)):
        x = layer_norm(x + self_attention(x, s, f"{layer}.self_attn"), s, f"{layer}.norm1")
        hidden = F.relu(x @ s[f"{layer}.linear1.weight"].T + s[f"{layer}.linear1.bias"])
        hidden = hidden @ s[f"{layer}.linear2.weight"].T + s[f"{layer}.linear2.bias"]
        x = layer_norm(x + hidden, s, f"{layer}.norm2")
    pixels = x @ s["head.decoder_head.0.weight"][:, :, 0, 0].T + s["head.decoder_head.0.bias"]
    pixels = pixels.view(-1, 3, rows, columns, 16, 16).permute(0, 1, 2, 4, 3, 5)
    return pixels.reshape(-1, 3, HEIGHT, WIDTH_PX)


def released_v2(frames: Tensor, s: State) -> Tensor:
    return F.conv2d(released_unet(frames.flatten(1, 2), s), s["head.conv.conv.0.weight"]).sigmoid()


def released_v4(frames: Tensor, s: State) -> Tensor:
    draft = F.conv2d(released_unet(frames.flatten(1, 2), s), s["head.conv.weight"])
    a, b = s["backbone.motion.a"], s["backbone.motion.b"]
    gates = [motion_weight(step, a, b) for step in grey_steps(frames)]
    return (draft * torch.cat([torch.ones_like(gates[0]), *gates], 1)).sigmoid()


def released_v2_rstr(frames: Tensor, s: State) -> Tensor:
    draft = F.conv2d(released_unet(frames.flatten(1, 2), s), s["head.conv1.conv.0.weight"])
    return (draft + released_residual(draft, s)).sigmoid()


def released_v5(frames: Tensor, s: State) -> Tensor:
    before, after = grey_steps(frames)
    maps = [
        motion_weight(F.relu(step), s["mdd.a"], s["mdd.b"])
        for step in (before, -before, after, -after)
    ]
    x = torch.cat([frames[:, 0], *maps[:2], frames[:, 1], *maps[2:], frames[:, 2]], 1)
    draft = F.conv2d(released_unet(x, s), s["head.draft_head.weight"])
    draft = torch.cat([draft[:, :1], draft[:, 1:2] * maps[0], draft[:, 2:] * maps[2]], 1)
    return (draft + released_residual(draft, s)).sigmoid()


def v3_tracknet(frames: Tensor, s: State) -> Tensor:
    def block(x: Tensor, number: int) -> Tensor:
        key = V3_BLOCKS[number - 1]
        return F.relu(batch_norm(F.conv2d(x, s[f"{key}.conv.weight"], padding=1), s, f"{key}.bn"))

    def up(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    features = unet(frames.flatten(1, 2), block, up)
    return F.conv2d(features, s["predictor.weight"], s["predictor.bias"]).sigmoid()


def v3_inpaintnet(coordinates: Tensor, mask: Tensor, s: State) -> Tensor:
    def conv(x: Tensor, key: str) -> Tensor:
        return F.conv1d(x, s[f"{key}.weight"], s[f"{key}.bias"], padding=1)

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.01 * x)

    x1 = leaky(conv(torch.cat([coordinates, mask], 2).transpose(1, 2), "down_1.conv"))
    x2 = leaky(conv(x1, "down_2.conv"))
    x3 = leaky(conv(x2, "down_3.conv"))
    x = leaky(conv(leaky(conv(x3, "buttleneck.conv_1.conv")), "buttleneck.conv_2.conv"))
    for key, skip in (("up_1.conv", x3), ("up_2.conv", x2), ("up_3.conv", x1)):
        x = leaky(conv(torch.cat([x, skip], 1), key))
    return conv(x, "predictor").sigmoid().transpose(1, 2)


TRANSCRIPTIONS = {
    "v2": released_v2,
    "v4": released_v4,
    "v5": released_v5,
    "v2_rstr": released_v2_rstr,
    "v3": v3_tracknet,
    "inpaintnet": v3_inpaintnet,
}
