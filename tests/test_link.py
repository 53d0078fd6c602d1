"""Linking against every choice there is, by cases, and what becomes of it in a table."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.commit import choose_balls
from pipeline.engine import DetectorSettings
from pipeline.errors import InputError
from pipeline.link import Candidates, LinkSettings, link
from schemas.tables import STAGED

SETTINGS = LinkSettings(gap=3, reach=20, gap_cost=0.5, start_cost=1, floor=0.4)


def log_odds(p):
    return np.log(p / (1 - p))


def worth(frames, choice, threshold):
    """The sum of the module's docstring, term by term."""
    total, last = 0.0, None
    for frame, index in enumerate(choice):
        if index is None:
            continue
        x, y, score = frames[frame][index]
        total += np.clip(log_odds(score) - log_odds(threshold), -5, 5)
        step = -np.inf
        if last is not None and frame - last[0] <= SETTINGS.gap:
            span = frame - last[0]
            distance = np.hypot(x - last[1], y - last[2])
            step = -((distance / (SETTINGS.reach * span)) ** 2) - SETTINGS.gap_cost * (span - 1)
        total += max(step, -SETTINGS.start_cost)
        last = frame, x, y
    return total


def choice_of(frames, threshold=0.5, settings=SETTINGS):
    """The number of the chosen candidate within its frame, None for none."""
    found = Candidates.of(frames)
    chosen = link(found, settings, threshold)
    return [
        None if index < 0 else int(index - found.offsets[frame])
        for frame, index in enumerate(chosen)
    ]


spot = st.tuples(
    st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.21, 0.35, 0.5, 0.6, 0.8, 0.99])
)


@given(st.lists(st.lists(spot, max_size=2), max_size=6), st.sampled_from([0.3, 0.5]))
def test_no_choice_is_worth_more(frames, threshold):
    every = product(*([None, *range(len(frame))] for frame in frames))
    best = max(worth(frames, choice, threshold) for choice in every)
    assert worth(frames, choice_of(frames, threshold), threshold) == pytest.approx(best)


CLEAR, FAINT = 0.9, 0.45


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param([], [], id="no frame"),
        pytest.param([[], []], [None, None], id="nothing seen"),
        pytest.param([[(5, 5, CLEAR)]], [0], id="a clear ball alone"),
        pytest.param([[(5, 5, 0.6)]], [None], id="a lone flash"),
        pytest.param(
            [[(0, 0, CLEAR)], [(9, 0, FAINT)], [(18, 0, CLEAR)]], [0, 0, 0], id="faint on the way"
        ),
        pytest.param(
            [[(0, 0, CLEAR)], [(90, 99, FAINT)], [(18, 0, CLEAR)]],
            [0, None, 0],
            id="faint far from the way",
        ),
        pytest.param(
            [[(0, 0, CLEAR)], [(99, 9, 0.8), (9, 0, 0.7)], [(18, 0, CLEAR)]],
            [0, 1, 0],
            id="the brighter one is not the ball",
        ),
        pytest.param(
            [[(0, 0, CLEAR)], [], [], [(30, 0, 0.7)], [(40, 0, CLEAR)]],
            [0, None, None, 0, 0],
            id="on over a gap",
        ),
        pytest.param(
            [[(0, 0, CLEAR)], [], [], [], [(5, 0, FAINT)]],
            [0, None, None, None, None],
            id="too long a gap",
        ),
    ],
)
def test_cases(frames, expected):
    assert choice_of(frames) == expected


@pytest.mark.parametrize("wrong", [{"floor": 0}, {"floor": 1.1}, {"gap": 0}, {"reach": 0}])
def test_impossible_settings(wrong):
    with pytest.raises(InputError):
        LinkSettings(**wrong)


def staged(frames):
    rows = [
        {
            "frame": i,
            "decoded": frame is not None,
            "candidates": [{"x_px": x, "y_px": y, "score": p} for x, y, p in frame or []],
        }
        for i, frame in enumerate(frames)
    ]
    return pa.Table.from_pylist(rows, STAGED)


# Twice the network's width: distances count half.
FRAMES = [[(0, 0, 0.9)], None, [(99, 9, 0.8), (9, 0, 0.75)], [], [(36, 0, 0.7)]]


@pytest.mark.parametrize(
    ("settings", "x"),
    [
        (DetectorSettings(link=SETTINGS), [0, None, 9, None, 36]),
        (DetectorSettings(link=None), [0, None, 99, None, 36]),
    ],
)
def test_balls_of_a_table(settings, x):
    # Two pieces, as shards are read back.
    table = pa.concat_tables([staged(FRAMES)[:2], staged(FRAMES)[2:]])
    rows = choose_balls(table, 1024, settings)
    assert rows["x_px"].to_pylist() == x
    expected = ["detected", "undecodable", "detected", "absent", "detected"]
    assert rows["status"].to_pylist() == expected
    assert [score is None for score in rows["score"].to_pylist()] == [one is None for one in x]
