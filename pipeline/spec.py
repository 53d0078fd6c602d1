"""What a heatmap model takes and gives; models state it, windows and engine follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SAME_SHAPE = 0.02
"""Pictures whose shape differs by less from the network's fill it: 854x480, 1920x1088 are 16:9."""


class Box(NamedTuple):
    """A part of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def fit(picture: tuple[int, int], network: tuple[int, int]) -> Box:
    """Where a picture lies in a network's input: its shape kept, in the middle, black around it.

    Both sizes are (width, height); the picture's is that of its display.

    >>> fit((1280, 720), (512, 288))
    Box(left=0, top=0, width=512, height=288)
    >>> fit((540, 960), (512, 288))
    Box(left=175, top=0, width=162, height=288)
    """
    wide, high = network[0] / picture[0], network[1] / picture[1]
    if abs(wide / high - 1) < SAME_SHAPE:
        return Box(0, 0, *network)
    width = max(1, round(picture[0] * min(wide, high)))
    height = max(1, round(picture[1] * min(wide, high)))
    return Box((network[0] - width) // 2, (network[1] - height) // 2, width, height)


@dataclass(frozen=True)
class WindowSpec:
    """What a heatmap model takes and gives: a property of the model, never of the engine.

    Attributes:
        frames: T, consecutive frames in a window.
        targets: positions in the window that get a heatmap, ascending and consecutive:
            `(0, 1, 2)` for TrackNetV2/V4/V5, `(2,)` for TrackNetV1, which sees two frames back.
        height, width: network input size in pixels.
        background: the window's tensor carries one more picture in front, the video's median
            background (TrackNetV3).
    """

    frames: int
    targets: tuple[int, ...]
    height: int = 288
    width: int = 512
    background: bool = False

    def __post_init__(self) -> None:
        first, last = self.targets[0], self.targets[-1]
        if self.targets != tuple(range(first, last + 1)) or not 0 <= first <= last < self.frames:
            raise ValueError(
                f"targets {self.targets} are not consecutive positions of {self.frames} frames"
            )

    @property
    def ahead(self) -> int:
        """Frames behind a window that may take the place of repeats in it.

        As many as the window has, so that every second frame may be a repeat; none for a model that
        answers for some of its frames only, whose position in the window would change.
        """
        return self.frames if len(self.targets) == self.frames else 0

    @property
    def pictures(self) -> int:
        """Pictures in the input tensor: the frames, and the background where there is one."""
        return self.frames + self.background
