"""Windows, shards and chunks: which frames go together, as arithmetic on absolute frame indices.

A *window* is the handful of consecutive frames that a model sees at once.  A *shard* is a run of
frames that one decode task owns; it starts where a decoder can start (a keyframe).  A *chunk* is
the piece of a shard that travels to the model in one message, with the extra frames (the *halo*)
that its windows need.

Everything is laid on the absolute frame index of the video and none of it depends on what was
decoded before, so the windows of frame 1000 are the same however the video was cut:

>>> spec = WindowSpec(frames=3, targets=(0, 1, 2))
>>> [w.frames for w in windows_for(range(0, 7), n_frames=7, spec=spec, stride=3)]
[(0, 1, 2), (3, 4, 5), (4, 5, 6)]
>>> [w.emits for w in windows_for(range(0, 7), n_frames=7, spec=spec, stride=3)]
[((0, 0), (1, 1), (2, 2)), ((0, 3), (1, 4), (2, 5)), ((2, 6),)]

This module knows nothing of pixels, files or processes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import WindowSpec


@dataclass(frozen=True)
class Window:
    """One forward pass: the frames the model sees and the frames it answers for.

    Attributes:
        frames: absolute frame indices, length T.  At the ends of a clip that is shorter than the
            window (or, for a model that only looks back, at its start) the nearest frame stands
            in for one that does not exist.
        emits: `(output, frame)` pairs: output channel `output` is a heatmap for `frame`.
    """

    frames: tuple[int, ...]
    emits: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Shard:
    """A run of frames that one decode task owns.

    Attributes:
        owned: the frames it answers for; the shards of a video tile it without gaps.
        needed: the frames to decode: the owned ones and the halo of their windows.
    """

    owned: range
    needed: range


@dataclass(frozen=True)
class Chunk:
    """The piece of a shard that goes to the model in one message.

    Attributes:
        owned: frames that this chunk answers for.
        needed: frames that travel: the owned ones and the halo of their windows.
    """

    owned: range
    needed: range


def check_stride(spec: WindowSpec, stride: int) -> None:
    """Raise `InputError` unless windows `stride` frames apart leave no frame without a heatmap.

    >>> check_stride(WindowSpec(frames=3, targets=(0, 1, 2)), 4)
    Traceback (most recent call last):
    tracknet.pipeline.errors.InputError: stride 4: this model answers for 3 frame(s) per window, \
so the stride must be between 1 and 3
    """
    if not 1 <= stride <= len(spec.targets):
        raise InputError(
            f"stride {stride}: this model answers for {len(spec.targets)} frame(s) per window, "
            f"so the stride must be between 1 and {len(spec.targets)}"
        )


def windows_for(owned: range, n_frames: int, spec: WindowSpec, stride: int) -> list[Window]:
    """The windows that together answer for the frames `owned` of a video of `n_frames`.

    Windows start at multiples of `stride` on the absolute index; one closing window ends with
    the video, so that a length that is no multiple of the window loses no frame.  With
    `stride == len(spec.targets)` each frame is emitted once (the closing window emits only what
    the regular ones left); with a smaller stride a frame is emitted by every window that covers
    it, to be averaged.

    Args:
        owned: frames asked for, within `0 <= frame < n_frames`.
        n_frames: frames of the whole video, at least 1.
        spec: the model's window.
        stride: frames between windows, see `check_stride`.

    Returns:
        Windows by ascending start; `emits` names owned frames only.
    """
    first_target, last_target = spec.targets[0], spec.targets[-1]
    lowest = -first_target
    closing = max(lowest, n_frames - 1 - last_target)
    regular_stop = lowest + (closing - lowest) // stride * stride  # the last regular start
    covered = regular_stop + last_target  # the last frame that a regular window emits

    low = max(lowest, owned.start - last_target)
    start = lowest + -(-(low - lowest) // stride) * stride
    starts = list(range(start, min(regular_stop, owned.stop - 1 - first_target) + 1, stride))
    closing_emits_from = 0
    if closing != regular_stop and closing + last_target >= owned.start:
        starts.append(closing)
        closing_emits_from = covered + 1 if stride == len(spec.targets) else 0

    windows = []
    for start in starts:
        emit_from = closing_emits_from if start == closing != regular_stop else 0
        emits = tuple(
            (output, start + target)
            for output, target in enumerate(spec.targets)
            if start + target in owned and start + target >= emit_from
        )
        if emits:
            frames = tuple(min(max(start + i, 0), n_frames - 1) for i in range(spec.frames))
            windows.append(Window(frames, emits))
    return windows


def without_repeats(
    window: Window, repeats: AbstractSet[int], spec: WindowSpec, n_frames: int
) -> Window:
    """The window over pictures that differ, or as it is where there are too few ahead.

    >>> spec = WindowSpec(3, (0, 1, 2))
    >>> (window,) = windows_for(range(3, 6), 100, spec, stride=3)
    >>> without_repeats(window, {4}, spec, 100)
    Window(frames=(3, 5, 6), emits=((0, 3), (0, 4), (1, 5)))

    Args:
        window: as `windows_for` lays it.
        repeats: frames whose picture repeats the previous one; known up to `spec.ahead` frames
            behind the window.
        spec: the model's window.
        n_frames: frames of the whole video.

    Returns:
        A window whose repeats gave way to frames behind it; a repeat is answered for by the output
        of its picture.
    """
    first, last = window.frames[0], window.frames[-1]
    if not spec.ahead or repeats.isdisjoint(window.frames[1:]):
        return window
    within = range(first + 1, min(n_frames, last + 1 + spec.ahead))
    distinct = (first, *(frame for frame in within if frame not in repeats))[: spec.frames]
    if len(distinct) < spec.frames:
        return window
    emits = tuple((bisect_right(distinct, frame) - 1, frame) for _, frame in window.emits)
    return Window(distinct, emits)


def needed_frames(owned: range, n_frames: int, spec: WindowSpec, stride: int) -> range:
    """The frames, owned and halo, that the windows of `owned` need.

    >>> needed_frames(range(3, 6), 100, WindowSpec(3, (0, 1, 2)), stride=1)
    range(1, 11)
    """
    windows = windows_for(owned, n_frames, spec, stride)
    stop = max(w.frames[-1] for w in windows) + 1 + spec.ahead
    return range(min(w.frames[0] for w in windows), min(stop, n_frames))


def cut_shards(
    keyframes: Sequence[tuple[int, float]],
    n_frames: int,
    seconds: float,
    spec: WindowSpec,
    stride: int,
) -> list[Shard]:
    """Cut a video into shards of at least `seconds` that start where decoding can start.

    Args:
        keyframes: `(frame, time in seconds)` of each keyframe, ascending; the first is frame 0.
        n_frames: frames of the video.
        seconds: wanted length; a shard ends at the first keyframe after it, so a video with one
            keyframe is one shard.
        spec, stride: how windows are laid; the halo decides from which keyframe to decode.

    Returns:
        Shards that tile `range(n_frames)`.  Owned ranges start where a window starts, so that
        with non-overlapping windows no frame is decoded or seen twice.
    """
    if seconds <= 0:
        raise InputError(f"shard length {seconds} s: must be positive")
    step = len(spec.targets)
    halo = spec.frames - 1 if stride < step or spec.frames > step else 0
    cuts, last_time = [0], keyframes[0][1]
    for frame, time_s in keyframes[1:]:
        start = -(-(frame + halo) // step) * step
        if time_s - last_time >= seconds and cuts[-1] < start < n_frames:
            cuts.append(start)
            last_time = time_s

    owned_ranges = [range(*cut) for cut in zip(cuts, [*cuts[1:], n_frames], strict=True)]
    return [Shard(owned, needed_frames(owned, n_frames, spec, stride)) for owned in owned_ranges]


def cut_chunks(
    shard: Shard, n_frames: int, spec: WindowSpec, stride: int, chunk_frames: int
) -> Iterator[Chunk]:
    """The chunks of a shard, cut at absolute multiples of `chunk_frames`."""
    first = shard.owned.start
    while first < shard.owned.stop:
        stop = min(shard.owned.stop, (first // chunk_frames + 1) * chunk_frames)
        owned = range(first, stop)
        yield Chunk(owned, needed_frames(owned, n_frames, spec, stride))
        first = stop
