"""The network: how likely each frame of a path is a hit, a bounce, or neither.

It sees positions, velocities and gaps, and no picture: at a hit and at a bounce the path has a
kink, and what comes before and behind it tells one from the other.  Dilated convolutions over time
(WaveNet, van den Oord et al. 2016) see 64 frames to either side.

A weights file is safetensors, as `pipeline.models.checkpoint` writes them: tensors and text, and
nothing that could be executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor, nn
from torch.nn import functional as F

from tracknet.pipeline.errors import WeightsError
from tracknet.schemas.files import whole_file

KINDS = ("hit", "bounce")
WIDTH = 512  # px; positions are scaled to pictures of this width, as in `pipeline.tracking`
FPS = 30.0  # velocities are per 1/30 s, whatever the frame rate
LONGEST_GAP = 20  # frames; a longer one ends a piece of path
SHIPPED = Path(__file__).parent / "weights"

_ARCH = "events"
_FEATURES = 15
_WIDTH = 38
_KERNEL = 5
_DILATIONS = (1, 2, 4, 8, 16)
_DROPOUT = 0.1


class EventNet(nn.Module):
    """`[B, 15, T]` features -> `[B, 3, T]` logits of neither, hit, bounce.

    Attributes:
        same_kind: float32 [2], kept with the weights; see `order.same_kind_odds`.  0, as in files
            that lack it, where the order of events does not matter.
    """

    same_kind: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv1d(_FEATURES, _WIDTH, _KERNEL, padding=_KERNEL // 2)
        self.blocks = nn.Sequential(*(_Block(dilation) for dilation in _DILATIONS))
        self.end = nn.Conv1d(_WIDTH, 1 + len(KINDS), 1)
        self.register_buffer("same_kind", torch.zeros(len(KINDS)))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.end(F.gelu(self.blocks(self.start(features))))
        return logits


class _Block(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        reach = dilation * (_KERNEL // 2)
        self.wide = nn.Conv1d(_WIDTH, _WIDTH, _KERNEL, dilation=dilation, padding=reach)
        self.norm = nn.BatchNorm1d(_WIDTH)
        self.mix = nn.Conv1d(_WIDTH, _WIDTH, 1)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.dropout(self.mix(F.gelu(self.norm(self.wide(x)))))
        return x + added


def centred(xy: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Pixels of a picture of `size` (width, height) -> px of one 512 wide, from its centre."""
    return (xy - (np.array(size) - 1) / 2) * (WIDTH / size[0])


def without_repeats(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where a ball is exactly where it was in the frame before.

    There the picture was repeated, as in videos whose frame rate was raised.
    """
    path = xy.copy()
    path[1:][(xy[1:] == xy[:-1]).all(1)] = np.nan
    return path


def features(path: NDArray[np.float64], fps: float) -> NDArray[np.float32]:
    """What the network sees of a path.

    Args:
        path: [N, 2], `centred`; NaN where no ball was seen, but at least one was.
        fps: frames per second.

    Returns:
        [15, N]: seen or not; frames to the nearest sighting before and behind; position;
        velocities from the frame before and to the next, plain and limited; change of velocity.
    """
    frames, seen = np.arange(len(path)), np.flatnonzero(~np.isnan(path[:, 0]))
    place = np.stack([np.interp(frames, seen, path[seen, axis]) for axis in (0, 1)])
    before = frames - seen[np.maximum(np.searchsorted(seen, frames, "right") - 1, 0)]
    behind = seen[np.minimum(np.searchsorted(seen, frames), len(seen) - 1)] - frames
    rate = fps / FPS
    came = np.diff(place, axis=1, prepend=place[:, :1]) * rate
    goes = np.diff(place, axis=1, append=place[:, -1:]) * rate
    rows = [
        np.stack([before == 0, np.abs(before) / 10, np.abs(behind) / 10]),
        np.clip(place / [[WIDTH / 2], [WIDTH / 4]], -2, 2),
        came / 10,
        goes / 10,
        np.tanh(came / 2),
        np.tanh(goes / 2),
        np.tanh((goes - came) / 1.5),
    ]
    return np.concatenate(rows).astype(np.float32)


@torch.inference_mode()
def probabilities(net: nn.Module, path: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """How likely each frame is a hit and a bounce; the mean of the path and its mirror image.

    Pieces of path that are more than `LONGEST_GAP` frames apart do not influence each other.
    Above 45 frames per second every second frame (or third, ...) is a path of its own, so that the
    network always sees about 30 frames per second.

    Args:
        net: an `EventNet` in eval mode.
        path: [N, 2], `centred`; NaN where no ball was seen.
        fps: frames per second.

    Returns:
        [2, N] in [0, 1], of hit and bounce; 0 outside of the pieces, above 0 within.
    """
    found = np.zeros((len(KINDS), len(path)))
    step = max(1, round(fps / FPS))
    for first in range(step):
        every = path[first::step]
        for piece in pieces(every):
            seen = [features(every[piece] * mirror, fps / step) for mirror in ((1, 1), (-1, 1))]
            logits = net(torch.from_numpy(np.stack(seen))).mean(0)
            found[:, first::step][:, piece] = torch.softmax(logits, 0)[1:].numpy()
    return found


def pieces(path: NDArray[np.float64], longest_gap: int = LONGEST_GAP) -> list[slice]:
    """From the first to the last sighting of each piece of path.

    Args:
        path: [N, 2]; NaN where no ball was seen.
        longest_gap: frames; a longer one ends a piece.
    """
    seen = np.flatnonzero(~np.isnan(path[:, 0]))
    if not len(seen):
        return []
    cuts = np.flatnonzero(np.diff(seen) > longest_gap)
    firsts, lasts = seen[np.r_[0, cuts + 1]], seen[np.r_[cuts, len(seen) - 1]]
    return [slice(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]


def save_net(net: nn.Module, path: Path, training: Mapping[str, Any]) -> None:
    """Write a network to a weights file, whole or not at all; `training` is kept as JSON."""
    metadata = {"format_version": "1", "arch": _ARCH, "training": json.dumps(dict(training))}
    with whole_file(path) as aside:
        aside.write_bytes(safetensors_torch.save(dict(net.state_dict()), metadata))


def load_net(name_or_path: str | Path) -> EventNet:
    """A network in eval mode.

    Args:
        name_or_path: "tennis" or "badminton", which come with the package, or a weights file.

    Raises:
        WeightsError: no such file, or it holds no event network.
    """
    shipped = SHIPPED / f"{name_or_path}.safetensors"
    path = shipped if shipped.is_file() else Path(name_or_path)
    net = EventNet()
    try:
        known = {"same_kind": net.same_kind}
        net.load_state_dict(known | safetensors_torch.load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} holds no event network: {error}") from error
    return net.eval()
