"""Rallies: events that follow each other without a long pause, from the first hit on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tracknet.pipeline.events.find import Event

LONGEST_PAUSE_S = 4.0  # a high lob in badminton stays up for three


class Rally(NamedTuple):
    """A rally.

    Attributes:
        first_frame: of its first hit.
        last_frame: of its last event.
        hits, bounces: how many.
        duration_s: from first to last event.
        longest_pause_s: between two events in a row; 0 where there is one only.
        end: what the path shows last: "bounce", "second bounce" (no hit in between) or "hit".
    """

    first_frame: int
    last_frame: int
    hits: int
    bounces: int
    duration_s: float
    longest_pause_s: float
    end: str


def find_rallies(
    events: Sequence[Event],
    fps: float,
    cuts: Sequence[int] = (),
    longest_pause_s: float = LONGEST_PAUSE_S,
) -> list[Rally]:
    """The rallies of a video, in order.

    Bounces before the first hit, as of a player who is about to serve, belong to none.

    Args:
        events: by frame, only those in shots of the rally view.
        fps: frames per second.
        cuts: first frames of camera shots; no rally goes on behind one.
        longest_pause_s: a longer pause ends a rally.
    """
    rallies, rally = [], list[Event]()
    for event in events:
        if rally:
            last = rally[-1].frame
            cut = any(last < cut <= event.frame for cut in cuts)
            if cut or (event.frame - last) / fps > longest_pause_s:
                rallies.append(_rally(rally, fps))
                rally = []
        if rally or event.kind == "hit":
            rally.append(event)
    if rally:
        rallies.append(_rally(rally, fps))
    return rallies


def _rally(events: list[Event], fps: float) -> Rally:
    frames = [event.frame for event in events]
    kinds = [event.kind for event in events]
    hits = kinds.count("hit")
    pauses = [later - earlier for earlier, later in pairwise(frames)]
    return Rally(
        frames[0],
        frames[-1],
        hits,
        len(kinds) - hits,
        (frames[-1] - frames[0]) / fps,
        max(pauses, default=0) / fps,
        "second bounce" if kinds[-2:] == ["bounce", "bounce"] else kinds[-1],
    )
