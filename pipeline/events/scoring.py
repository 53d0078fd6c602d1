"""Scores of events: one event found to one label, within so many frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 3  # frames


@dataclass(frozen=True)
class EventCounts:
    """Events found that fit a label, found that do not, and labels without one."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float | None:
        """None where no event was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """None where there is no label."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """None where there is neither an event nor a label."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else None


def count(
    found: Sequence[float], labels: Sequence[float], tolerance: float = TOLERANCE
) -> EventCounts:
    """Match as many events of one kind as can be.

    >>> count([10, 12, 40], labels=[11, 30, 42])
    EventCounts(tp=2, fp=1, fn=1)

    Args:
        found, labels: frames.
        tolerance: a match is at most so many frames away.
    """
    events, wanted, matched = sorted(found), sorted(labels), 0
    i = j = 0
    while i < len(events) and j < len(wanted):
        if abs(events[i] - wanted[j]) <= tolerance:
            matched, i, j = matched + 1, i + 1, j + 1
        elif events[i] < wanted[j]:
            i += 1
        else:
            j += 1
    return EventCounts(matched, len(events) - matched, len(wanted) - matched)
