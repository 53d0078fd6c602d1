"""Every frame gets its windows, however the video is cut."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.windows import (
    check_stride,
    cut_chunks,
    cut_shards,
    needed_frames,
    windows_for,
)

V5 = WindowSpec(frames=3, targets=(0, 1, 2))
V1 = WindowSpec(frames=3, targets=(2,), height=360, width=640)
V3 = WindowSpec(frames=8, targets=tuple(range(8)), background=True)

specs_and_strides = st.sampled_from([(V5, 3), (V5, 1), (V5, 2), (V1, 1), (V3, 8), (V3, 1)])


@pytest.mark.parametrize(
    ("n_frames", "spec", "stride", "expected"),
    [
        (6, V5, 3, [(0, 1, 2), (3, 4, 5)]),
        (7, V5, 3, [(0, 1, 2), (3, 4, 5), (4, 5, 6)]),
        (4, V5, 1, [(0, 1, 2), (1, 2, 3)]),
        (2, V5, 3, [(0, 1, 1)]),
        (1, V5, 1, [(0, 0, 0)]),
        (3, V1, 1, [(0, 0, 0), (0, 0, 1), (0, 1, 2)]),
        (9, V3, 8, [tuple(range(8)), tuple(range(1, 9))]),
    ],
)
def test_windows_of_a_whole_clip(n_frames, spec, stride, expected):
    assert [w.frames for w in windows_for(range(n_frames), n_frames, spec, stride)] == expected


@given(n_frames=st.integers(1, 60), spec_stride=specs_and_strides)
def test_every_frame_is_answered_for(n_frames, spec_stride):
    spec, stride = spec_stride
    emitted = Counter(
        frame for w in windows_for(range(n_frames), n_frames, spec, stride) for _, frame in w.emits
    )
    assert set(emitted) == set(range(n_frames))
    if stride == len(spec.targets):
        assert set(emitted.values()) == {1}


@given(n_frames=st.integers(1, 60), spec_stride=specs_and_strides, data=st.data())
def test_windows_of_a_frame_do_not_depend_on_what_else_is_asked_for(n_frames, spec_stride, data):
    spec, stride = spec_stride
    first = data.draw(st.integers(0, n_frames - 1))
    stop = data.draw(st.integers(first + 1, n_frames))

    def seen_by(windows):
        return sorted((frame, w.frames, out) for w in windows for out, frame in w.emits)

    whole = seen_by(windows_for(range(n_frames), n_frames, spec, stride))
    part = seen_by(windows_for(range(first, stop), n_frames, spec, stride))
    assert part == [row for row in whole if first <= row[0] < stop]


@given(
    n_frames=st.integers(1, 400),
    spec_stride=specs_and_strides,
    keyframes=st.sets(st.integers(1, 399), max_size=12),
    seconds=st.sampled_from([0.5, 2.0, 100.0]),
    chunk_frames=st.sampled_from([24, 48]),
)
def test_shards_and_chunks_tile_the_video(n_frames, spec_stride, keyframes, seconds, chunk_frames):
    spec, stride = spec_stride
    keys = [(k, k / 30) for k in [0, *sorted(k for k in keyframes if k < n_frames)]]
    shards = cut_shards(keys, n_frames, seconds, spec, stride)
    owned = []
    for shard in shards:
        for chunk in cut_chunks(shard, n_frames, spec, stride, chunk_frames):
            assert set(chunk.needed) <= set(shard.needed)
            assert chunk.needed == needed_frames(chunk.owned, n_frames, spec, stride)
            owned.extend(chunk.owned)
    assert owned == list(range(n_frames))


def test_non_overlapping_windows_look_ahead_only():
    shards = cut_shards([(0, 0.0), (50, 2.0), (100, 4.0)], 150, 1.0, V5, 3)
    assert [s.owned for s in shards] == [range(51), range(51, 102), range(102, 150)]
    assert [s.needed for s in shards] == [range(54), range(51, 105), range(102, 150)]


@pytest.mark.parametrize("stride", [0, 4])
def test_stride_that_skips_frames_is_refused(stride):
    with pytest.raises(InputError, match="between 1 and 3"):
        check_stride(V5, stride)


def test_targets_must_be_consecutive():
    with pytest.raises(ValueError, match="not consecutive"):
        WindowSpec(frames=3, targets=(0, 2))
