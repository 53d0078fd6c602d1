"""Linking against every choice there is, by cases, and what becomes of it in a table."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracknet.jobs.rows import candidates_of
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.tracking.choose import choose_balls
from tracknet.pipeline.tracking.engine import DetectorSettings
from tracknet.pipeline.tracking.link import Candidates, LinkSettings, bridge, fixtures, link
from tracknet.schemas.tables import STAGED

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


LAMP = (300.3, 40.6, 0.95)


@pytest.mark.parametrize(
    ("frames", "present", "is_one"),
    [
        pytest.param(100, 100, True, id="always there"),
        pytest.param(100, 60, True, id="in most frames"),
        pytest.param(100, 40, False, id="in fewer than half of the frames"),
        pytest.param(50, 50, False, id="a clip too short to tell"),
        pytest.param(1200, 350, True, id="in half of the frames around, of a long video"),
    ],
)
def test_what_always_shines_at_one_place_is_no_ball(frames, present, is_one):
    """Beside it a ball flies that is fainter, and is seen in every second frame."""
    wobble = np.random.default_rng(0).uniform(-0.9, 0.9, (frames, 2))
    ball = [(200 + t % 90, 100 + t % 7, 0.8) for t in range(frames)]
    seen = [
        [(LAMP[0] + dx, LAMP[1] + dy, LAMP[2])] * (t < present) + [ball[t]] * (t % 2)
        for t, (dx, dy) in enumerate(wobble)
    ]
    found = fixtures(Candidates.of(seen), LinkSettings())
    lamps = np.array([x > 299 for frame in seen for x, _, _ in frame])
    assert not found[~lamps].any()
    assert found[lamps].all() == is_one
    assert found[lamps].any() == is_one
    chosen = link(Candidates.of(seen), LinkSettings(), 0.5)
    assert (chosen >= 0).any()
    assert lamps[chosen[chosen >= 0]].any() != is_one


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
    balls = choose_balls(*candidates_of(table), (1024, 576), settings)
    nothing = [one is None for one in x]
    assert [None if np.isnan(place) else place for place in balls.xy[:, 0]] == x
    assert balls.seen.tolist() == [not none for none in nothing]
    assert balls.decoded.tolist() == [frame is not None for frame in FRAMES]
    assert np.isnan(balls.score).tolist() == nothing


def track(*places):
    return np.array([(np.nan, np.nan) if place is None else place for place in places], float)


FLIGHT = [(8 * t, 50 - 12 * t + t * t) for t in range(9)]


@pytest.mark.parametrize(
    ("lost", "filled"),
    [
        pytest.param({4}, {4}, id="a frame"),
        pytest.param({3, 4, 5}, {3, 4, 5}, id="three frames"),
        pytest.param({3, 4, 5, 6}, set(), id="longer than the gap"),
        pytest.param({0, 8}, set(), id="the ends"),
        pytest.param({1, 3, 4}, {3, 4}, id="one sighting before the first gap"),
        pytest.param({2, 5}, {2, 5}, id="two gaps"),
        pytest.param(set(range(9)), set(), id="never seen"),
    ],
)
def test_gaps_of_a_flight(lost, filled):
    seen = track(*(None if t in lost else place for t, place in enumerate(FLIGHT)))
    found = bridge(seen, gap=4)
    kept = sorted(filled | set(range(9)) - lost)
    np.testing.assert_allclose(found[kept], np.array(FLIGHT, float)[kept], atol=1e-6)
    assert np.isnan(found[sorted(lost - filled)]).all()


def test_no_bridge_behind_a_hit():
    seen = track((0, 0), (20, 0), (40, 0), None, (40, 30), (20, 30), (0, 30))
    np.testing.assert_array_equal(bridge(seen, gap=4), seen)


def test_a_bridge_in_a_table():
    frames = [[(2 * x, 2 * y, 0.9)] for x, y in FLIGHT]
    frames[3], frames[4] = [], None
    balls = choose_balls(
        *candidates_of(staged(frames)), (1024, 576), DetectorSettings(link=SETTINGS)
    )
    assert balls.seen[2:6].tolist() == [True, False, False, True]
    assert balls.bridged[2:6].tolist() == [False, True, False, False]
    np.testing.assert_allclose(balls.xy[3], [48, 46], rtol=1e-6)
    assert np.isnan(balls.score[3])
    assert np.isnan(balls.xy[4]).all()
    assert not balls.decoded[4]


def test_a_bridge_ends_where_the_picture_does():
    flight = [(8 * t, 3 * (t - 4) ** 2 - 5) for t in range(9)]  # above the picture at 3, 4 and 5
    frames = [[] if 2 <= t <= 6 else [(2 * x, 2 * y, 0.9)] for t, (x, y) in enumerate(flight)]
    settings = DetectorSettings(link=LinkSettings(gap=7))
    balls = choose_balls(*candidates_of(staged(frames)), (1024, 576), settings)
    assert np.flatnonzero(balls.bridged).tolist() == [2, 6]
    assert np.isnan(balls.xy[[3, 4, 5]]).all()
