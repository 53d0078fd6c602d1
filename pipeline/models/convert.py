"""Turn checkpoints of other TrackNet code into weights files.

Two code bases have released checkpoints of these models: that of TrackNetV5 (with its V2, V4 and
R-STR baselines) and that of TrackNetV3 by Chen and Wang (with its InpaintNet).  This module knows
their state-dict layouts, and the wrappers people put around a state dict; it is the only place of
the project that opens other people's pickles, with PyTorch's restricted loader, which builds
tensors and plain containers and executes nothing.

    convert(Path("best_model.pth"), "v5", Path("v5.safetensors"))

The layouts are tables from our names to theirs, so that an error names the keys as the user's
file spells them.

>>> theirs("unet.decoder1.0.norm.bias", LAYOUTS["v5"].names)
'neck.conv11.conv.2.bias'
>>> theirs("unet.decoder1.0.norm.bias", LAYOUTS["v3"].names)
'up_block_1.conv_1.bn.bias'
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import build
from tracknet.pipeline.models.blocks import UNET_CHANNELS
from tracknet.pipeline.models.checkpoint import WeightsInfo, check_state, describe, save_model
from tracknet.pipeline.models.v3 import INPAINT_CHANNELS
from tracknet.pipeline.models.v5 import LAYERS

State = Mapping[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")

# Training scripts put NumPy scalars (a best accuracy) beside the weights; they are plain numbers.
_SCALAR = np.float64(0).__reduce__()[0]  # the function NumPy pickles a scalar with
NUMPY_SCALARS: list[Any] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)),
]

UNET_STAGES = {
    "encoder1": 2,
    "encoder2": 2,
    "encoder3": 3,
    "bottleneck": 3,
    "decoder1": 3,
    "decoder2": 2,
    "decoder3": 2,
}
ENCODER_BLOCKS = 10  # the released V5 code numbers its blocks 1 to 17; 1 to 10 are its backbone


@dataclass(frozen=True)
class Layout:
    """How one architecture is laid out in the checkpoints of one code base.

    Attributes:
        names: our module or tensor names to theirs.
        options: config that can be read off a checkpoint's tensors.
        synonyms: keys of older versions of the code base to those of `names`.
    """

    names: Mapping[str, str]
    options: Callable[[State], dict[str, Any]]
    synonyms: Mapping[str, str] = field(default_factory=dict)


def theirs(key: str, names: Mapping[str, str]) -> str:
    """Our state-dict key as the other code base spells it."""
    if key in names:
        return names[key]
    module, _, tensor = key.rpartition(".")
    return f"{names[module]}.{tensor}"


def _released_unet() -> dict[str, str]:
    """The U-Net of the released V5 code: in a block, 0 is the convolution and 2 the BatchNorm."""
    names, number = {}, 0
    for stage, blocks in UNET_STAGES.items():
        for block in range(blocks):
            number += 1
            part = "backbone" if number <= ENCODER_BLOCKS else "neck"
            names[f"unet.{stage}.{block}.conv"] = f"{part}.conv{number}.conv.0"
            names[f"unet.{stage}.{block}.norm"] = f"{part}.conv{number}.conv.2"
    return names


def _released_refinement() -> dict[str, str]:
    """The R-STR head of the released V5 code, around PyTorch's own encoder layers."""
    names = {
        "refine.head.embed": "head.embed_conv",
        "refine.head.place": "head.spatial_pos_embed",
        "refine.head.time": "head.time_embed",
        "refine.head.decode": "head.decoder_head.0",
    }
    for index in range(LAYERS):
        ours, released = f"refine.head.layers.{index}", f"head.transformer_encoder.layers.{index}"
        names |= {
            f"{ours}.attention.qkv.weight": f"{released}.self_attn.in_proj_weight",
            f"{ours}.attention.qkv.bias": f"{released}.self_attn.in_proj_bias",
            f"{ours}.attention.out": f"{released}.self_attn.out_proj",
            f"{ours}.expand": f"{released}.linear1",
            f"{ours}.contract": f"{released}.linear2",
            f"{ours}.norm1": f"{released}.norm1",
            f"{ours}.norm2": f"{released}.norm2",
        }
    return names


def _v3_unet() -> dict[str, str]:
    """The tracking module of Chen and Wang."""
    names = {"head": "predictor"}
    for stage, blocks in UNET_STAGES.items():
        block_name = stage.replace("encoder", "down_block_").replace("decoder", "up_block_")
        for block in range(blocks):
            names[f"unet.{stage}.{block}.conv"] = f"{block_name}.conv_{block + 1}.conv"
            names[f"unet.{stage}.{block}.norm"] = f"{block_name}.conv_{block + 1}.bn"
    return names


def _width(state: State, key: str, published: int) -> dict[str, Any]:
    """The width of a model whose first convolution has `published` channels at width 1."""
    return {"width": state[key].shape[0] / published} if key in state else {}


def _released_options(state: State) -> dict[str, Any]:
    options = _width(state, "backbone.conv1.conv.0.weight", UNET_CHANNELS[0])
    if "head.draft_head.bias" in state:  # early versions of the released head have one
        options["head_bias"] = 0.0
    return options


def _joint_options(state: State) -> dict[str, Any]:
    """The released head attends over all tokens at once, whatever the paper says."""
    return {**_released_options(state), "attention": "joint"}


def _v3_options(state: State) -> dict[str, Any]:
    """Window length and background mode, from the channels that go in and out."""
    first, last = "down_block_1.conv_1.conv.weight", "predictor.weight"
    options = _width(state, first, UNET_CHANNELS[0])
    if first not in state or last not in state:
        return options
    channels, frames = state[first].shape[1], state[last].shape[0]
    if channels not in (3 * frames, 3 * frames + 3):
        raise WeightsError(
            f"{first} takes {channels} channels for {frames} frames; only the background modes '' "
            f"({3 * frames}) and 'concat' ({3 * frames + 3}) can be converted"
        )
    return {**options, "frames": frames, "background": channels == 3 * frames + 3}


def _inpaintnet_options(state: State) -> dict[str, Any]:
    return _width(state, "down_1.conv.weight", INPAINT_CHANNELS[0])


MDD_NAMES = {"mdd.alpha": "mdd.a", "mdd.beta": "mdd.b", "mdd.luminance": "mdd.luminance"}
LUMINANCE_KEYS = ("mdd.R_WEIGHT", "mdd.G_WEIGHT", "mdd.B_WEIGHT")

LAYOUTS: dict[str, Layout] = {
    "v2": Layout(
        _released_unet() | {"head": "head.conv.conv.0"},
        _released_options,
        {"head.head.conv.0.weight": "head.conv.conv.0.weight"},
    ),
    "v4": Layout(
        _released_unet()
        | {
            "head": "head.conv",
            "motion.alpha": "backbone.motion.a",
            "motion.beta": "backbone.motion.b",
            "motion.luminance": "backbone.motion.gray_scale",
        },
        _released_options,
    ),
    "v5": Layout(
        _released_unet() | _released_refinement() | MDD_NAMES | {"draft": "head.draft_head"},
        _joint_options,
    ),
    "v2_rstr": Layout(
        _released_unet() | _released_refinement() | {"draft": "head.draft_head"},
        _joint_options,
        {"head.conv1.conv.0.weight": "head.draft_head.weight"},
    ),
    "v3": Layout(_v3_unet(), _v3_options),
    "inpaintnet": Layout(
        {
            "encoder1": "down_1.conv",
            "encoder2": "down_2.conv",
            "encoder3": "down_3.conv",
            "bottleneck1": "buttleneck.conv_1.conv",
            "bottleneck2": "buttleneck.conv_2.conv",
            "decoder1": "up_1.conv",
            "decoder2": "up_2.conv",
            "decoder3": "up_3.conv",
            "head": "predictor",
        },
        _inpaintnet_options,
    ),
}

# What a checkpoint may leave out: counters that evaluation ignores, and constants.
OPTIONAL = ("num_batches_tracked", "luminance")


def convert(
    src: Path, arch: str, dst: Path, config: Mapping[str, Any] | None = None
) -> WeightsInfo:
    """Write the weights file of a released checkpoint.

    Args:
        src: a checkpoint as `torch.save` writes it; the state dict may be wrapped, its keys may
            carry `module.`, and optimizer states may lie beside it.
        arch: a key of LAYOUTS.
        dst: the safetensors file to write; replaced if it is there.
        config: options that cannot be read off the tensors, such as the size of the pictures.

    Raises:
        InputError: no converter for `arch`, or an option it does not have.
        WeightsError: not a checkpoint, one that holds more than tensors and plain values, or
            tensors that do not fit; the message names the keys.
    """
    if arch not in LAYOUTS:
        raise InputError(f"no converter for {arch!r}; there are {', '.join(LAYOUTS)}")
    src = Path(src)
    state = find_state(read_checkpoint(src), src.name)
    model = _fit(state, arch, src.name, config or {})
    record = {
        "converted_from": src.name,
        "layout": arch,
        "sha256": hashlib.sha256(src.read_bytes()).hexdigest(),
    }
    save_model(model, dst, training=record)
    return describe(dst)


def read_checkpoint(src: Path) -> object:
    """What `torch.save` wrote to `src`, if that is tensors, containers, numbers and text.

    Raises:
        WeightsError: no such file, a broken one, or one with other objects in it.
    """
    if not src.is_file():
        raise WeightsError(f"no such file: {src}")
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            return torch.load(src, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{src} is not a checkpoint of tensors and plain values ({reason}). Files that hold "
            "other objects are not opened, because that would run code from them; save the "
            "model's state_dict() alone and convert that."
        ) from error


def find_state(checkpoint: object, name: str) -> dict[str, Tensor]:
    """The state dict within a checkpoint, without wrappers and without common key prefixes.

    >>> find_state({"epoch": 3, "model": {"module.a": torch.zeros(1)}}, "x.pt")
    {'a': tensor([0.])}
    """
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise WeightsError(f"{name} holds no state dict but a {type(checkpoint).__name__}")
    for wrapper in WRAPPERS:
        if isinstance(checkpoint.get(wrapper), Mapping):
            return find_state(checkpoint[wrapper], name)
    foreign = sorted(str(k) for k, value in checkpoint.items() if not isinstance(value, Tensor))
    if foreign:
        raise WeightsError(
            f"{name} holds no state dict: {', '.join(foreign[:8])} are not tensors, and none of "
            f"{', '.join(WRAPPERS)} is there"
        )
    state = dict(checkpoint)
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _fit(state: State, arch: str, name: str, config: Mapping[str, Any]) -> nn.Module:
    """The model of `arch` with the tensors of `state`."""
    layout = LAYOUTS[arch]
    state = _merge_luminance({layout.synonyms.get(key, key): state[key] for key in state})
    model = build(arch, {**layout.options(state), **config})
    fresh = model.state_dict()
    names = {key: theirs(key, layout.names) for key in fresh}
    defaults = {names[key]: fresh[key] for key in fresh if key.endswith(OPTIONAL)}
    complete = {**defaults, **state}
    expected = {names[key]: tensor for key, tensor in fresh.items()}
    check_state(complete, expected, f"{name} as {arch}")
    model.load_state_dict({key: complete[names[key]] for key in fresh})
    return model


def _merge_luminance(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The three luminance weights of the released MDD, `[1, 1, 1, 1]` each, as one vector."""
    if not all(key in state for key in LUMINANCE_KEYS):
        return state
    merged = torch.cat([state[key].flatten() for key in LUMINANCE_KEYS])
    return {key: state[key] for key in state if key not in LUMINANCE_KEYS} | {
        MDD_NAMES["mdd.luminance"]: merged
    }
