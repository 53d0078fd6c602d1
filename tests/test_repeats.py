"""Repeats are found after encoding, and windows are laid over frames that differ."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.videos import draw_frame
from tracknet.pipeline.decoding.probe import decode_all
from tracknet.pipeline.pictures.encode import VideoWriter
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.repeats import repeats
from tracknet.pipeline.tracking.windows import windows_for, without_repeats

V5 = WindowSpec(3, (0, 1, 2))
LOOKS_BACK = WindowSpec(3, (2,))


@pytest.mark.parametrize(
    ("n_frames", "known", "expected"),
    [
        (12, set(), [((0, 1, 2), [0, 1, 2]), ((3, 4, 5), [3, 4, 5])]),
        (12, {1}, [((0, 2, 3), [0, 0, 2]), ((3, 4, 5), [3, 4, 5])]),
        (12, {2, 3}, [((0, 1, 4), [0, 1, 1]), ((3, 4, 5), [3, 4, 5])]),
        # The first frame of a window stands for itself, whatever it repeats.
        (12, {3}, [((0, 1, 2), [0, 1, 2]), ((3, 4, 5), [3, 4, 5])]),
        # Every second frame, as in 60 frames/s made of 30.
        (12, {1, 3, 5, 7, 9, 11}, [((0, 2, 4), [0, 0, 2]), ((3, 4, 6), [3, 4, 4])]),
        # A still picture, and the end of a video: nothing to look at instead.
        (12, set(range(1, 12)), [((0, 1, 2), [0, 1, 2]), ((3, 4, 5), [3, 4, 5])]),
        (6, {4}, [((0, 1, 2), [0, 1, 2]), ((3, 4, 5), [3, 4, 5])]),
    ],
)
def test_windows_over_frames_that_differ(n_frames, known, expected):
    windows = windows_for(range(6), n_frames, V5, 3)
    found = [without_repeats(window, known, V5, n_frames) for window in windows]
    shown = [(w.frames, [w.frames[output] for output, _ in w.emits]) for w in found]
    assert shown == expected
    assert [frame for w in found for _, frame in w.emits] == list(range(6))


@given(n_frames=st.integers(1, 40), known=st.sets(st.integers(1, 39)), stride=st.integers(1, 3))
def test_every_frame_keeps_its_answers_and_gets_its_own_picture(n_frames, known, stride):
    for window in windows_for(range(n_frames), n_frames, V5, stride):
        found = without_repeats(window, known, V5, n_frames)
        assert [frame for _, frame in found.emits] == [frame for _, frame in window.emits]
        assert len(found.frames) == 3
        assert found.frames[-1] < min(n_frames, window.frames[-1] + 1 + V5.ahead)
        for output, frame in found.emits:
            shown = found.frames[output]
            assert shown == frame or known.issuperset(range(shown + 1, frame + 1))


def test_models_that_answer_for_one_frame_see_frames_as_they_come():
    for window in windows_for(range(9), 9, LOOKS_BACK, 1):
        assert without_repeats(window, {3, 6}, LOOKS_BACK, 9) is window


def test_repeats_are_found_after_encoding(tmp_path):
    order = [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9, 10]
    path = tmp_path / "pulled.mp4"
    with VideoWriter(path, 1280, 720, time_base=Fraction(1, 30)) as video:
        for pts, number in enumerate(order):
            video.write(draw_frame(number, 1280, 720), pts)
    scaled = (frame.reformat(512, 288, "rgb24") for frame in decode_all(path))
    pictures = np.stack([frame.to_ndarray() for frame in scaled])
    expected = [False, *(a == b for a, b in pairwise(order))]
    assert repeats(pictures).tolist() == expected
    assert not np.array_equal(pictures[4], pictures[5])  # encoded again


def test_a_faint_ball_that_moves_makes_frames_differ():
    haze = np.full((20, 72, 128, 3), 60, np.uint8)
    haze[:, 36:] = 90
    still = haze.copy()
    noise = np.random.default_rng(0).integers(0, 2, still.shape).astype(np.uint8)
    assert repeats(still + noise)[1:].all()
    for i, picture in enumerate(haze):
        picture[20:24, 5 * i : 5 * i + 4] += 15  # fainter than what encoding does to full contrast
    assert not repeats(haze).any()
