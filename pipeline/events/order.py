"""Which peaks are events: the likeliest sequence of them.

In a rally hits and bounces take turns: two bounces without a hit between them end it, and two hits
in a row are volleys.  So a weak hit between two bounces is likelier than the network says, and a
bounce that follows another is less likely.  The best sequence is found exactly, by a dynamic
programme that takes time in proportion to the peaks.  How rare two of a kind in a row are is
learnt from the labels that a network is trained on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tracknet.pipeline.events.model import KINDS

APART = 4  # frames at 30 per second; two events of one kind are further apart
APART_KINDS = 2  # of different kinds
FLOOR = 0.1  # peaks below are no events, whatever is around them
_SURE = 0.99  # no score counts for more
_SERVE = 30  # frames at 30 per second; nine in ten balls bounce within 32 frames of a hit
_SHARE = 0.7  # of those odds that counts: the network, too, sees what is around an event
_BOUNCE = KINDS.index("bounce")


class Peak(NamedTuple):
    """A possible event: frame, index of its kind, and score in [0, 1]."""

    frame: int
    kind: int
    score: float


def same_kind_odds(games: Iterable[Iterable[Sequence[tuple[float, str]]]]) -> list[float]:
    """For hit and bounce, log odds that the next event is of the same kind; at most 0.

    They are 0, which does without the rule, where a game breaks it: a network that also learns
    from badminton must not take hits in a row for volleys.

    >>> same_kind_odds([[[(3, "hit"), (20, "bounce"), (31, "hit"), (50, "bounce")]]])
    [-1.0986122886681098, -0.6931471805599453]

    Args:
        games: clips of each; of a clip its events (frame, kind) by frame, a label each.
    """
    counts = [_pairs(clips) for clips in games]
    found = []
    for kind in KINDS:
        same = [game[kind, kind] for game in counts]
        other = [game[kind, next(k for k in KINDS if k != kind)] for game in counts]
        broken = any(a > b for a, b in zip(same, other, strict=True))
        odds = math.log((sum(same) + 1) / (sum(other) + 1))  # one of each more than seen
        found.append(0.0 if broken else min(0.0, odds))
    return found


def _pairs(clips: Iterable[Sequence[tuple[float, str]]]) -> Counter[tuple[str, str]]:
    """How often an event of one kind is followed by one of another."""
    return Counter(
        (before, kind) for events in clips for (_, before), (_, kind) in pairwise(events)
    )


def likeliest(
    peaks: Sequence[Peak], first: int, same_kind: Sequence[float], threshold: float, step: int = 1
) -> list[Peak]:
    """Those peaks of a piece of path that are its likeliest sequence of events.

    A peak adds the log odds of its score, less those of `threshold`; two of a kind in a row add
    what `same_kind` says of them.  A bounce before any hit counts as the second of two, unless the
    piece had only just begun.

    Args:
        peaks: by frame.
        first: frame where the piece begins.
        same_kind: from `same_kind_odds`, for hit and bounce.
        threshold: score of which events are kept where nothing else matters; above 0, below 1.
        step: frames per 1/30 s.
    """
    totals: list[float] = []
    before: list[int] = []
    ends = _Ends(step)
    for peak in peaks:
        late = peak.kind == _BOUNCE and peak.frame - first > _SERVE * step
        total, last = (_SHARE * same_kind[peak.kind] if late else 0.0), -1
        for kind, i in ends.behind(peaks, totals, peak):
            repeated = _SHARE * same_kind[kind] if kind == peak.kind else 0.0
            if totals[i] + repeated > total:
                total, last = totals[i] + repeated, i
        totals.append(total + _log_odds(min(peak.score, _SURE)) - _log_odds(threshold))
        before.append(last)
    best = max(range(len(peaks)), key=totals.__getitem__, default=-1)
    chosen: list[Peak] = []
    while best >= 0 and (chosen or totals[best] >= 0):
        chosen.append(peaks[best])
        best = before[best]
    return chosen[::-1]


class _Ends:
    """For each kind before and behind: the best sequence that ends far enough before a peak."""

    def __init__(self, step: int) -> None:
        self.step = step
        pairs = [(kind, peak) for kind in range(len(KINDS)) for peak in range(len(KINDS))]
        self.seen, self.best = dict.fromkeys(pairs, 0), dict.fromkeys(pairs, -1)

    def behind(
        self, peaks: Sequence[Peak], totals: Sequence[float], peak: Peak
    ) -> Iterable[tuple[int, int]]:
        """Kind and index of the last peak of the best sequence that `peak` may follow."""
        for kind in range(len(KINDS)):
            pair = (kind, peak.kind)
            apart = (APART if kind == peak.kind else APART_KINDS) * self.step
            while peaks[self.seen[pair]].frame < peak.frame - apart:
                i, best = self.seen[pair], self.best[pair]
                if peaks[i].kind == kind and (best < 0 or totals[i] > totals[best]):
                    self.best[pair] = i
                self.seen[pair] += 1
            if self.best[pair] >= 0:
                yield kind, self.best[pair]


def _log_odds(score: float) -> float:
    return math.log(score / (1 - score))
