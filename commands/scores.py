"""Labels and scores as tables, beside published results, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracknet.commands.console import print_table
from tracknet.jobs.evaluate import MIN_SCORES, Evaluation, Protocol
from tracknet.pipeline.datasets import Clip, clip_labels
from tracknet.pipeline.datasets.windowed import UNLABELLED
from tracknet.pipeline.scoring.errors import KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("", "clips", "frames", "accuracy", "precision", "recall", "F1", "95 % interval")


class Published(NamedTuple):
    """A result that others published on one of the test sets, in percent."""

    group: str
    system: str
    accuracy: float
    precision: float
    recall: float
    f1: float


# "TrackNetV3: Beyond TrackNetV2" (2023), whose test clips these are; 4 px at 512x288.  Its authors
# had ten test clips, two more than are public, and chose the best epoch on the test clips.
PUBLISHED = (
    Published("badminton/published", "V2, as published", 88.49, 98.36, 89.42, 93.68),
    Published("badminton/published", "V3 + attention, as published", 90.53, 95.29, 93.83, 94.55),
)


def clip_rows(clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """What is known of labelled clips; reads and checks the labels.

    Raises:
        LabelError: labels are broken.
    """
    return [
        {
            "clip": str(clip),
            "split": clip.split,
            "test_set": clip.test_set,
            "frames": clip.frames,
            "labelled": int((visibility != UNLABELLED).sum()),
            "visible": int((visibility > 0).sum()),
            "source": str(clip.source),
        }
        for clip in clips
        for visibility, _ in [clip_labels(clip)]
    ]


def print_clips(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print what `clip_rows` gave."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = ("clip", "split", "test_set", "frames", "labelled", "visible")
    print_table(columns, [tuple(row[name] for name in columns) for row in rows], right=(3, 4, 5))
    labelled = sum(row["labelled"] for row in rows)
    print(f"{len(rows)} clips, {labelled} labelled frames")


def print_evaluation(found: Evaluation, as_json: bool) -> None:
    """Print every figure; a machine gets all rows, a person the tables that matter."""
    if as_json:
        document = {
            "file": str(found.file),
            "missing": [str(clip) for clip in found.missing],
            "metrics": found.metrics,
            "errors": found.errors,
        }
        print(json.dumps(document, indent=1))
        return
    protocol = found.protocol
    where = "512x288" if protocol.space == "model" else "source size"
    print(f"A hit is closer than {protocol.tolerance:g} px at {where}.")
    for grouping in ("test_set", "split", "sport", "visibility", "all"):
        rows = found.rows(grouping)
        if rows:
            print(f"\nby {grouping.replace('_', ' ')}")
            print_table(_COLUMNS, _cells(rows, protocol), right=tuple(range(1, 8)))
    print("\nframes by kind of error")
    print_table(("", *KINDS), _error_cells(found), right=tuple(range(1, 1 + len(KINDS))))
    print(f"all metrics, by match, clip and {len(MIN_SCORES)} minimum scores too: {found.file}")


def _cells(rows: list[dict[str, Any]], protocol: Protocol) -> list[tuple[Any, ...]]:
    cells: list[tuple[Any, ...]] = []
    for row in rows:
        figures = (row[name] for name in ("accuracy", "precision", "recall", "f1"))
        cells.append(
            (
                row["group"],
                row["clips"],
                row["frames"],
                *(_percent(value) for value in figures),
                f"{_percent(row['f1_low'])} - {_percent(row['f1_high'])}",
            )
        )
        if protocol == Protocol():
            cells += [
                (f"  {p.system}", "", "", p.accuracy, p.precision, p.recall, f"{p.f1:.2f}", "")
                for p in PUBLISHED
                if row["grouping"] == "test_set" and p.group == row["group"]
            ]
    return cells


def _error_cells(found: Evaluation) -> list[tuple[Any, ...]]:
    groups: dict[str, list[int]] = {}
    for row in found.errors:
        if row["grouping"] in ("test_set", "sport", "all"):
            groups.setdefault(row["group"], []).append(row["frames"])
    return [(group, *frames) for group, frames in groups.items()]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def plot_evaluation(found: Evaluation, picture: Path) -> None:
    """Draw F1 with its interval, and precision over recall as the least score rises.

    Args:
        found: an evaluation.
        picture: where to write; the suffix decides the format.
    """
    grouping = "test_set" if found.rows("test_set") else "sport"
    rows = found.rows(grouping)
    figure = _figure(10, 1.6 + 0.5 * max(4, len(rows)))
    bars, curves = figure.subplots(1, 2)
    for place, row in enumerate(rows):
        if row["f1"] is None:
            continue
        bars.plot(row["f1"], place, "o", color=f"C{place}")
        if row["f1_low"] is not None:
            bars.plot([row["f1_low"], row["f1_high"]], [place, place], color=f"C{place}")
        sweep = [found.rows(grouping, least)[place] for least in MIN_SCORES]
        points = [(s["recall"], s["precision"]) for s in sweep if s["precision"] is not None]
        curves.plot(*zip(*points, strict=True), ".-", color=f"C{place}", label=row["group"])
    for p in PUBLISHED if found.protocol == Protocol() else ():
        curves.plot(p.recall / 100, p.precision / 100, "kx")
        curves.annotate(p.system, (p.recall / 100, p.precision / 100), fontsize=7)
    bars.set_yticks(range(len(rows)), [row["group"] for row in rows])
    bars.set_xlabel("F1 and its 95 % interval over clips")
    curves.set_xlabel("recall")
    curves.set_ylabel("precision")
    if curves.lines:
        curves.legend(loc="lower left", fontsize=8)
    figure.savefig(picture, dpi=120)


def plot_curves(record: Path, picture: Path) -> None:
    """Draw loss, learning rate and validation figures of a training record over its steps."""
    import pandas as pd

    figure = _figure(8, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    rows = pd.read_csv(record)
    above.semilogy(rows["step"], rows["loss"])
    above.set_ylabel("loss (WBCE)")
    rates = above.twinx()
    rates.plot(rows["step"], rows["lr"], color="tab:grey", linewidth=0.8)
    rates.set_ylabel("learning rate")
    for name in ("precision", "recall", "f1"):
        validated = rows.dropna(subset=[name])
        below.plot(validated["step"], validated[name], label=name, marker=".")
    below.set(xlabel="step", ylabel="validation", ylim=(0, 1))
    below.legend(loc="lower right")
    figure.savefig(picture, dpi=120)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
