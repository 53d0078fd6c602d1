"""Decoded clips with their labels, and the one windowed dataset that training draws from.

    clips = [load_clip(clip, cache, width=512, height=288) for clip in by_split(all_clips, "train")]
    dataset = WindowedDataset(clips, model.spec)
    sample = dataset[0]        # pictures uint8 [3, 288, 512, 3], ball positions in model px

A training window is any run of T consecutive frames; windows overlap.  A position that is NaN means
"no position": whether the ball is *absent* or the frame *unlabelled* stands in `labelled`, and an
unlabelled frame neither trains nor counts.  A window in which no target frame is labelled is left
out.

This module knows nothing of crops, masks or losses, and draws nothing at random but `paper_split`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracknet.pipeline.datasets.cache import cached_frames
from tracknet.pipeline.datasets.clips import Clip
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.scoring.labels import read_labels
from tracknet.pipeline.spec import Box, WindowSpec, fit
from tracknet.pipeline.tracking.repeats import repeats

UNLABELLED = -1
BACKGROUND_FRAMES = 60
SLOW_PX = 1.5
"""Model px per frame; a ball on average slower than this through a window is slow."""


@dataclass(frozen=True)
class LabelledClip:
    """A decoded clip and what is known of the ball in each of its frames.

    Attributes:
        clip: which clip.
        frames: uint8 [N, H, W, 3], RGB at network size, usually mapped from disk.
        visibility: int8 [N]: -1 unlabelled, 0 absent, 1 clear, 2 hard to see, 3 occluded.
        xy_source: float64 [N, 2], source px; NaN where no ball is known.
    """

    clip: Clip
    frames: NDArray[np.uint8]
    visibility: NDArray[np.int8]
    xy_source: NDArray[np.float64]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """[N], True where there is a label."""
        return self.visibility != UNLABELLED

    @cached_property
    def xy(self) -> NDArray[np.float32]:
        """[N, 2], model px, pixel centres at integers, the picture lying as `spec.fit` says."""
        box = self.box
        scale = np.divide((box.width, box.height), self.clip.size)
        return ((self.xy_source + 0.5) * scale - 0.5 + (box.left, box.top)).astype(np.float32)

    @property
    def box(self) -> Box:
        """Where the picture lies in the network's input; black is around it."""
        height, width = self.frames.shape[1:3]
        return fit(self.clip.size, (width, height))

    @cached_property
    def repeats(self) -> NDArray[np.bool_]:
        """[N], True where a frame repeats the previous one, see `pipeline.tracking.repeats`."""
        return repeats(self.frames)

    @cached_property
    def background(self) -> NDArray[np.uint8]:
        """[H, W, 3], the median of frames spread over the clip (TrackNetV3's extra picture)."""
        spread = np.linspace(0, len(self.frames) - 1, BACKGROUND_FRAMES).round().astype(int)
        return np.median(self.frames[np.unique(spread)], axis=0).astype(np.uint8)


def load_clip(clip: Clip, cache: Path, *, width: int, height: int) -> LabelledClip:
    """Decode (or find in the cache) and label a clip.

    Args:
        clip: which clip.
        cache: folder of decoded clips, see `pipeline.datasets.cache`.
        width, height: network size, px.

    Raises:
        LabelError: its labels are broken or do not fit its frames.
        VideoError: its frames cannot be decoded.
    """
    visibility, xy_source = clip_labels(clip)
    frames = cached_frames(clip, cache, width=width, height=height)
    return LabelledClip(clip, frames, visibility, xy_source)


def clip_labels(clip: Clip) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """What is known of the ball in each frame of a clip.

    Returns:
        visibility [N] and xy_source [N, 2], see `LabelledClip`.

    Raises:
        LabelError: the labels are broken or do not fit the frames.
    """
    visibility = np.full(clip.frames, UNLABELLED, np.int8)
    xy_source = np.full((clip.frames, 2), np.nan)
    for label in read_labels(clip.labels, n_frames=clip.frames, size=clip.size):
        visibility[label.frame] = label.visibility
        if label.x_px is not None and label.y_px is not None:
            xy_source[label.frame] = label.x_px, label.y_px
    return visibility, xy_source


@dataclass(frozen=True)
class Sample:
    """One window, not augmented.

    Attributes:
        pictures: uint8 [P, H, W, 3]; the T frames, behind the background where the model wants one.
        labelled: bool [T].
        xy: float32 [T, 2], model px; NaN where no ball is known.
        xy_source: float64 [T, 2], source px from the corner of the source with its black.
        source_size: (width, height) of the source with the black around it, px.
    """

    pictures: NDArray[np.uint8]
    labelled: NDArray[np.bool_]
    xy: NDArray[np.float32]
    xy_source: NDArray[np.float64]
    source_size: tuple[int, int]


class WindowedDataset:
    """Every trainable window of some clips, in order.

    Args:
        clips: decoded clips.
        spec: the window of the model.
        starts: `(clip index, first frame)` of each window; None: all of `all_windows`.
        skip_repeats: a window that begins at a frame takes the next frames that differ.

    Raises:
        InputError: there is no window.
    """

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        spec: WindowSpec,
        starts: Sequence[tuple[int, int]] | None = None,
        skip_repeats: bool = False,
    ) -> None:
        self.clips = list(clips)
        self.spec = spec
        self.skip_repeats = skip_repeats
        self.starts = all_windows(self.clips, spec) if starts is None else list(starts)
        if not self.starts:
            raise InputError(f"no window of {spec.frames} frames with a labelled target frame")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Sample:
        clip_index, first = self.starts[index]
        clip = self.clips[clip_index]
        window = self.window(clip, first)
        pictures = clip.frames[window]  # a view of the map: nothing is read before it is cropped
        if self.spec.background:
            pictures = np.concatenate([clip.background[None], pictures])
        box, (height, width) = clip.box, clip.frames.shape[1:3]
        scale = np.divide(clip.clip.size, (box.width, box.height))
        return Sample(
            pictures,
            clip.labelled[window],
            clip.xy[window],
            clip.xy_source[window] + scale * (box.left, box.top),
            (round(width * scale[0]), round(height * scale[1])),
        )

    def window(self, clip: LabelledClip, first: int) -> slice | NDArray[np.int64]:
        """Which frames of a clip make up the window that begins at `first`."""
        plain = slice(first, first + self.spec.frames)
        if not self.skip_repeats or not clip.repeats[first + 1 : plain.stop].any():
            return plain
        behind = slice(first + 1, plain.stop + self.spec.frames)
        distinct = np.append(first, first + 1 + np.flatnonzero(~clip.repeats[behind]))
        return distinct[: self.spec.frames] if len(distinct) >= self.spec.frames else plain

    def slow(self) -> NDArray[np.bool_]:
        """[len(self)], True for windows that show a slow ball (`SLOW_PX`) in every frame."""
        slow = np.zeros(len(self), np.bool_)
        for index, (clip, first) in enumerate(self.starts):
            xy = self.clips[clip].xy[self.window(self.clips[clip], first)]
            steps = np.linalg.norm(np.diff(xy, axis=0), axis=1)  # NaN where there is no ball
            slow[index] = steps.mean() < SLOW_PX
        return slow

    def balanced(
        self, power: float, emphasis: Mapping[str, float] | None = None, slow: float = 1.0
    ) -> NDArray[np.float64]:
        """How often each window should be drawn so that what is rare is not drowned.

        A sport with n windows gets a share in proportion to n ** power: 1 leaves things as they
        are, 0 gives each sport the same share.  `emphasis` multiplies the share of the sports it
        names.  Within its sport, a window with a slow ball counts `slow` times.

        Returns:
            float64 [len(self)], summing to 1.

        Raises:
            InputError: `emphasis` names a sport that has no window.
        """
        sports = np.array([self.clips[clip].clip.sport for clip, _ in self.starts])
        names, member, counts = np.unique(sports, return_inverse=True, return_counts=True)
        weight = np.where(self.slow(), slow, 1.0) if slow != 1 else np.ones(len(self))
        share = counts.astype(np.float64) ** power
        for sport, factor in (emphasis or {}).items():
            if sport not in names:
                raise InputError(f"no clip of {sport!r}; there are {', '.join(names)}")
            share[names == sport] *= factor
        return weight * (share / share.sum() / np.bincount(member, weight))[member]


def all_windows(clips: Sequence[LabelledClip], spec: WindowSpec) -> list[tuple[int, int]]:
    """`(clip index, first frame)` of every window with at least one labelled target frame."""
    return [
        (index, first)
        for index, clip in enumerate(clips)
        for first in range(len(clip.frames) - spec.frames + 1)
        if clip.labelled[first + spec.targets[0] : first + spec.targets[-1] + 1].any()
    ]


def paper_split(
    clips: Sequence[LabelledClip], spec: WindowSpec, *, share: float = 0.7, seed: int = 42
) -> tuple[WindowedDataset, WindowedDataset]:
    """The released split: the windows of all clips, shuffled with seed 42 and cut 7:3.

    It **leaks**: most validation frames have neighbours, or themselves, in training, and a frame
    is counted once for each window that holds it.  It is here to reproduce published figures; a
    number from it is no held-out number.
    """
    starts = all_windows(clips, spec)
    random.Random(seed).shuffle(starts)
    cut = int(share * len(starts))
    return WindowedDataset(clips, spec, starts[:cut]), WindowedDataset(clips, spec, starts[cut:])
