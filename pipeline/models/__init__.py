"""The TrackNet family: one file a paper, and a plain table from names to models.

`build` makes a model from a name and a mapping of options, which is how weights files describe
themselves.  Code that knows which model it wants imports its class and config instead.

>>> model = build("v5", {"width": 0.0625, "attention": "joint"})
>>> model.config.attention, model.spec.frames, model.spec.targets
('joint', 3, (0, 1, 2))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from torch import nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models.blocks import HeatmapConfig
from tracknet.pipeline.models.v1 import TrackNetV1, V1Config
from tracknet.pipeline.models.v2 import TrackNetV2, V2Config
from tracknet.pipeline.models.v3 import InpaintNet, InpaintNetConfig, TrackNetV3, V3Config
from tracknet.pipeline.models.v3_attention import TrackNetV3Attention
from tracknet.pipeline.models.v4 import TrackNetV4, V4Config
from tracknet.pipeline.models.v5 import TrackNetV5, V2WithMDD, V2WithRSTR, V5Config


class Builder(NamedTuple):
    """How to make a model: its class, and the class of its options."""

    model: type[nn.Module]
    config: type[Any]


BUILDERS: dict[str, Builder] = {
    "v1": Builder(TrackNetV1, V1Config),
    "v2": Builder(TrackNetV2, V2Config),
    "v3": Builder(TrackNetV3, V3Config),
    "v3_attention": Builder(TrackNetV3Attention, HeatmapConfig),
    "v4": Builder(TrackNetV4, V4Config),
    "v5": Builder(TrackNetV5, V5Config),
    "v2_mdd": Builder(V2WithMDD, V2Config),
    "v2_rstr": Builder(V2WithRSTR, V5Config),
    "inpaintnet": Builder(InpaintNet, InpaintNetConfig),
}


def build(arch: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """A model with fresh weights, in training mode.

    Args:
        arch: a key of BUILDERS.
        config: options by name; those left out have their published value.

    Raises:
        InputError: an unknown architecture or option, or a value the model cannot have.
    """
    if arch not in BUILDERS:
        raise InputError(f"unknown architecture {arch!r}; there are {', '.join(BUILDERS)}")
    builder, options = BUILDERS[arch], dict(config or {})
    known = [field.name for field in fields(builder.config)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"{arch} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    try:
        return builder.model(builder.config(**options))
    except (TypeError, ValueError) as error:
        raise InputError(f"{arch} cannot be built from {options}: {error}") from error


def arch_of(model: nn.Module) -> str:
    """The name under which `build` makes this model.

    Raises:
        InputError: the model is none of this family.

    >>> arch_of(build("v2", {"width": 0.0625}))
    'v2'
    """
    for arch, builder in BUILDERS.items():
        if type(model) is builder.model:
            return arch
    raise InputError(f"{type(model).__name__} is not one of {', '.join(BUILDERS)}")
