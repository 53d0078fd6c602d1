"""What a heatmap model takes and gives; models state it, windows and engine follow it."""

from __future__ import annotations

from dataclasses import dataclass


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
