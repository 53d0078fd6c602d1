"""What a training run keeps: a state to resume from, a record, curves.

Everything needed to continue *exactly* is in one file, `state.pt`: parameters, their moving
average, the optimizer, PyTorch's random state, step and seconds.  Batches and learning rates are
functions of the step, so they need no state.  The file is written aside and renamed: a run that is
killed in the middle of writing keeps the state before.

The record is a CSV with one row per report; `plot_curves` makes a picture of it.

This module knows nothing of what is trained, or how.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from tracknet.pipeline.errors import InputError
from tracknet.schemas.files import whole_file

STATE_FORMAT = 2  # 1, of the first releases, did not say so


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state to resume from; whole or not at all, also through a power cut."""
    with whole_file(path) as aside:
        torch.save({**state, "format": STATE_FORMAT}, aside)


def read_state(path: Path) -> dict[str, Any]:
    """A state that `write_state` wrote, on the CPU.

    Raises:
        InputError: the file is no such state, or one of another version of this project.
    """
    # torch.load also knows an older format, whose reader fails in any way it likes.
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a training state; delete it to start over")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("format") != STATE_FORMAT:
        raise InputError(
            f"{path} was written by another version of tracknet; resume with that version, or "
            "start over (--fresh)"
        )
    return state


@dataclass(frozen=True)
class Report:
    """One row of the training record.

    Attributes:
        step: steps done.
        seconds: training time so far, over all resumes.
        lr: learning rate of the last step.
        loss: mean since the previous report.
        precision, recall, f1: on validation windows, None where undefined or not validated now.
        images_per_second: frames trained on since the previous report.
        skipped: steps so far whose gradients were not finite, and which changed nothing.
    """

    step: int
    seconds: float
    lr: float
    loss: float
    precision: float | None
    recall: float | None
    f1: float | None
    images_per_second: float
    skipped: int


class Record:
    """The training record: a CSV that grows by one row per report.

    Args:
        path: of the CSV.
        keep_to: rows of later steps are dropped, because they will be trained again; at 0, whatever
            is there is replaced.
    """

    def __init__(self, path: Path, keep_to: int) -> None:
        self.path = path
        old = read_record(path) if keep_to and path.exists() else []
        with whole_file(path) as aside, aside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Report))
            writer.writerows(_cells(row) for row in old if row.step <= keep_to)

    def add(self, report: Report) -> None:
        """Append a row."""
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(_cells(report))


def _cells(report: Report) -> list[str]:
    values = (getattr(report, field.name) for field in fields(Report))
    return ["" if value is None else repr(value) for value in values]


def read_record(path: Path) -> list[Report]:
    """The rows of a training record; a last line that was cut off is left out.

    Raises:
        InputError: the file is no training record.
    """
    names = [field.name for field in fields(Report)]
    with path.open(newline="") as file:
        lines = csv.reader(file)
        if next(lines, None) != names:
            raise InputError(f"{path}: not a training record; its columns must be {names}")
        rows = [dict(zip(names, line, strict=True)) for line in lines if len(line) == len(names)]
    return [
        Report(
            **{name: float(text) if text else None for name, text in row.items()}  # type: ignore[arg-type]
            | {name: int(row[name]) for name in ("step", "skipped")}
        )
        for row in rows
    ]


def plot_curves(record: Path, picture: Path) -> None:
    """Draw loss, learning rate and validation figures of a training record over its steps.

    Args:
        record: the CSV.
        picture: where to write; the suffix decides the format.

    Raises:
        InputError: the record has no rows, or matplotlib is not installed.
    """
    rows = read_record(record)
    if not rows:
        raise InputError(f"{record}: no rows to draw yet")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("curves need matplotlib: pip install 'tracknet[train]'") from error
    figure = Figure(figsize=(8, 6), layout="constrained")
    loss_axes, score_axes = figure.subplots(2, 1, sharex=True)
    steps = [row.step for row in rows]
    loss_axes.semilogy(steps, [row.loss for row in rows], color="tab:blue")
    loss_axes.set_ylabel("loss (WBCE)", color="tab:blue")
    rate_axes = loss_axes.twinx()
    rate_axes.plot(steps, [row.lr for row in rows], color="tab:grey", linewidth=0.8)
    rate_axes.set_ylabel("learning rate", color="tab:grey")
    for name in ("precision", "recall", "f1"):
        points = [(row.step, getattr(row, name)) for row in rows if getattr(row, name) is not None]
        if points:
            score_axes.plot(*zip(*points, strict=True), label=name, marker=".")
    score_axes.set_xlabel("step")
    score_axes.set_ylabel("validation")
    score_axes.set_ylim(0, 1)
    if score_axes.lines:
        score_axes.legend(loc="lower right")
    figure.savefig(picture, dpi=120)
