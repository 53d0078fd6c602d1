"""What a training run keeps: a state to resume from, and a record.

Everything needed to continue *exactly* is in one file, `state.pt`: parameters, their moving
average, the optimizer, PyTorch's random state, step and seconds.  Batches and learning rates are
functions of the step, so they need no state.  The file is written aside and renamed: a run that is
killed in the middle of writing keeps the state before.

The record is a CSV with one row per report.

This module knows nothing of what is trained, or how.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
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


_COLUMNS = [field.name for field in fields(Report)]


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
        with whole_file(path) as aside:
            aside.write_text(",".join(_COLUMNS) + "\n")
        for row in old:
            if row.step <= keep_to:
                self.add(row)

    def add(self, report: Report) -> None:
        """Append a row."""
        cells = ("" if value is None else repr(value) for value in astuple(report))
        with self.path.open("a") as file:
            file.write(",".join(cells) + "\n")


def read_record(path: Path) -> list[Report]:
    """The rows of a training record; a last line that was cut off is left out.

    Raises:
        InputError: the file is no training record.
    """
    with path.open(newline="") as file:
        lines = csv.DictReader(file)
        if lines.fieldnames != _COLUMNS:
            raise InputError(f"{path}: not a training record; its columns must be {_COLUMNS}")
        rows = [row for row in lines if None not in row.values()]
    return [
        Report(
            **{name: float(text) if text else None for name, text in row.items()}  # type: ignore[arg-type]
            | {name: int(row[name]) for name in ("step", "skipped")}
        )
        for row in rows
    ]
