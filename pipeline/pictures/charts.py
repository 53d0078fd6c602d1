"""Charts of a video as SVG: when the ball was seen and what happened, and the paths of rallies.

Arrays in, text out; matplotlib draws, and is imported only here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"hit": "#d1495b", "bounce": "#2e86ab"}
_SEEN, _RALLY = "#b7c9d3", "#edae49"
_OTHER, _CUT = "#e4e4e4", "#888888"
_IN, _OUT = "#2a9d5c", "#8d3b72"
_MAP_INCHES = 4.5  # height of a court from above
_BINS = 600  # of a timeline


class Mark(NamedTuple):
    """A hit or a bounce in a chart: its frame, its kind and its place in px."""

    frame: int
    kind: str
    x: float
    y: float


def timeline(
    seen: NDArray[np.bool_],
    fps: float,
    rallies: Sequence[tuple[int, int]],
    marks: Sequence[Mark],
    shots: Sequence[tuple[int, int, bool]] = (),
) -> str:
    """Share of frames with a ball over time, rallies as bars above, events as ticks below.

    Camera cuts are lines, shots of another view than that of rallies are grey.

    Args:
        seen: [N], whether the ball was seen in each frame.
        fps: frames per second.
        rallies: first and last frame of each.
        marks: events.
        shots: first and last frame of each, and whether it shows another view.
    """
    figure = _figure(8, 1.5)
    axes = figure.subplots()
    for first, last, other in shots:
        if other:
            axes.axvspan(first / fps, (last + 1) / fps, color=_OTHER, linewidth=0)
        if first:
            axes.axvline(first / fps, color=_CUT, linewidth=0.6, linestyle=":")
    edges = np.linspace(0, len(seen), min(_BINS, max(len(seen), 1)) + 1)
    at = np.arange(len(seen))
    share = np.histogram(at, edges, weights=seen.astype(float))[0] / np.maximum(
        np.histogram(at, edges)[0], 1
    )
    axes.stairs(share, edges / fps, fill=True, color=_SEEN)
    axes.broken_barh(
        [(first / fps, max(last - first, 1) / fps) for first, last in rallies],
        (1.05, 0.2),
        color=_RALLY,
    )
    for kind, colour in _COLOURS.items():
        times = [mark.frame / fps for mark in marks if mark.kind == kind]
        axes.eventplot([times], lineoffsets=-0.12, linelengths=0.18, colors=colour, linewidths=0.8)
    axes.set(xlim=(0, max(len(seen), 1) / fps), ylim=(-0.25, 1.3), xlabel="s", yticks=[0, 1])
    axes.set_yticklabels(["0", "all"])
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def rally_path(xy: NDArray[np.float64], marks: Sequence[Mark], size: tuple[int, int]) -> str:
    """The ball's way in the picture during a rally, hits and bounces marked.

    Args:
        xy: [N, 2], px of the displayed picture, NaN where there is no ball.
        marks: events of the rally.
        size: width and height of the picture, px.
    """
    width, height = size
    figure = _figure(3.2, 3.2 * height / width)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.plot(xy[:, 0], xy[:, 1], color="#555555", linewidth=0.9)
    for kind, colour in _COLOURS.items():
        places = [(mark.x, mark.y) for mark in marks if mark.kind == kind]
        if places:
            axes.plot(*zip(*places, strict=True), "o", color=colour, markersize=4)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")
    return _svg(figure)


def bounce_map(
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    bounces: NDArray[np.float64],
    inside: NDArray[np.bool_],
) -> str:
    """Bounces on a court, to scale and from above, the camera below it.

    Args:
        lines: of the court, m.
        bounces: [N, 2], m.
        inside: [N], which were in.
    """
    shown = np.concatenate([np.array(lines).reshape(-1, 2), bounces])
    margin = 0.04 * np.ptp(shown[:, 1])
    low, high = shown.min(0) - margin, shown.max(0) + margin
    scale = _MAP_INCHES / (high[1] - low[1])
    figure = _figure((high[0] - low[0]) * scale, _MAP_INCHES)
    axes = figure.add_axes((0, 0, 1, 1))
    for a, b in lines:
        axes.plot(*zip(a, b, strict=True), color="#888888", linewidth=0.8)
    for chosen, colour in ((inside, _IN), (~inside, _OUT)):
        if chosen.any():
            axes.plot(*bounces[chosen].T, "o", color=colour, markersize=4)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_color("#cccccc")
    return _svg(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=None)


def _svg(figure: Figure) -> str:
    """The figure as an element that can stand in a page; ids are the same in every run."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tracknet"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    found = text.getvalue()
    return found[found.index("<svg") :]
