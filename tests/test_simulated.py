"""Simulated rallies that event networks learn from: real flights, hits where the path turns."""

import numpy as np
import pytest

from tracknet.jobs.events import simulated_rallies
from tracknet.pipeline.events.model import without_repeats


@pytest.fixture(scope="module")
def rallies():
    return simulated_rallies(30, seed=0)


def test_the_same_seed_gives_the_same_rallies(rallies):
    again, other = simulated_rallies(2, seed=0), simulated_rallies(2, seed=1)
    for path, first in zip(again, rallies, strict=False):
        np.testing.assert_array_equal(path.xy, first.xy)
        assert path.events == first.events
    assert not np.array_equal(other[0].xy, rallies[0].xy)


def test_they_lie_in_the_picture_and_begin_with_a_serve(rallies):
    for path in rallies:
        assert len(path.xy) <= 300
        seen = path.xy[np.isfinite(path.xy[:, 0])]
        assert len(seen) > 0
        assert (seen >= 0).all()
        assert (seen <= np.array(path.size) - 1).all()
        frames = np.array([frame for frame, _ in path.events])
        assert (frames[:1] < 50).all()
        assert (np.diff(frames) > 8).all()


def test_shuttlecocks_turn_at_hits_and_nowhere_else_as_much(rallies):
    at_hits, elsewhere = [], []
    for path in rallies:
        speed = np.diff(without_repeats(path.xy), axis=0)
        turn = np.linalg.norm(np.diff(speed, axis=0), axis=1)  # of frame i at i - 1
        near = np.zeros(len(turn), bool)
        for frame, _ in path.events[1:]:
            around = slice(max(0, round(frame) - 3), round(frame) + 2)
            near[around] = True
            if np.isfinite(turn[around]).any():
                at_hits.append(np.nanmax(turn[around]))
        elsewhere += turn[~near & np.isfinite(turn)].tolist()
    assert len(at_hits) > 40
    assert np.median(at_hits) > 10 * np.median(elsewhere)
    assert np.percentile(at_hits, 10) > np.percentile(elsewhere, 90)


def test_some_repeat_every_sixth_frame(rallies):
    repeats = [np.isnan(without_repeats(path.xy)[:, 0]).sum() - np.isnan(path.xy[:, 0]).sum()
               for path in rallies]  # fmt: skip
    shares = [n / len(path.xy) for n, path in zip(repeats, rallies, strict=True)]
    assert min(shares) == 0
    assert sum(share > 0.1 for share in shares) > 5
    assert max(shares) < 0.2
