"""Court files: which court is seen in which video, and where its landmarks are in the picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.court import Court, fit_court
from tracknet.pipeline.events.standards import standard_of
from tracknet.pipeline.pictures.court import draw_court, draw_guide
from tracknet.schemas import parquet
from tracknet.schemas.courts import CourtRow


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CourtEntry:
    """A court in a court file.

    Attributes:
        video: pattern for names of videos, or for whole paths; `*` is every video.
        sport: a key of `standards.STANDARDS`.
        size: width and height of the picture in which the points were read; they are scaled to
            videos of another size.
        points: by landmark, px.
        frames: first and last frame in which the court is seen so; None for all.
    """

    video: str
    sport: str
    size: tuple[int, int]
    points: dict[str, tuple[float, float]]
    frames: tuple[int, int] | None = None

    def fit(self, size: tuple[int, int] | None = None) -> Court:
        """The court in pictures of a size, its own by default.

        Raises:
            InputError: see `fit_court`.
        """
        width, height = size or self.size
        sx, sy = width / self.size[0], height / self.size[1]
        # Pixel centres are at integers.
        points = {
            name: ((x + 0.5) * sx - 0.5, (y + 0.5) * sy - 0.5)
            for name, (x, y) in self.points.items()
        }
        return fit_court(self.sport, points, (width, height))

    def shows(self, frame: int) -> bool:
        return self.frames is None or self.frames[0] <= frame <= self.frames[1]

    def row(self) -> CourtRow:
        """As it stands in a file."""
        row: CourtRow = json.loads(json.dumps(asdict(self)))
        return row if self.frames else {k: v for k, v in row.items() if k != "frames"}


def read_courts(path: Path) -> list[CourtRow]:
    """The courts of a court file, each of them checked.

    Raises:
        InputError: it cannot be read, or a court of it is none; the message says which and why.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    rows = document.get("courts") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise InputError(f'{path}: must hold {{"courts": [...]}}; `tracknet court` writes one')
    entries = []
    for number, row in enumerate(rows, 1):
        try:
            entries.append(entry_of(row))
            entries[-1].fit()
        except InputError as error:
            raise InputError(f"{path}: court {number}: {error}") from error
    return [entry.row() for entry in entries]


def entry_of(row: Any) -> CourtEntry:
    """A court of a court file.

    Raises:
        InputError: a value is missing, of another type, or not known.
    """
    try:
        entry: CourtEntry = TypeAdapter(CourtEntry).validate_python(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {first['msg']}") from error
    if min(entry.size) < 1:
        raise InputError("size: must be width and height in pixels")
    return entry


def add_court(path: Path, entry: CourtEntry) -> int:
    """Write a court to a court file, instead of one for the same videos and frames.

    Returns:
        How many courts are in the file now.

    Raises:
        InputError: the file holds something else.
    """
    before = read_courts(path) if path.exists() else []
    same = (entry.video, entry.frames)
    kept = [row for row in before if (entry_of(row).video, entry_of(row).frames) != same]
    parquet.write_json({"courts": [*kept, entry.row()]}, path)
    return len(kept) + 1


def court_at(rows: Sequence[CourtRow], size: tuple[int, int]) -> Callable[[int], Court | None]:
    """The court that is seen in a frame of a video; of several the last.

    Args:
        rows: the courts of the video, `schemas.courts.courts_of`.
        size: width and height of its picture, px.

    Raises:
        InputError: a row is no court; what `read_courts` gave always is one.
    """
    entries = [entry_of(row) for row in reversed(rows)]
    courts = [(entry, entry.fit(size)) for entry in entries]
    return lambda frame: next((court for entry, court in courts if entry.shows(frame)), None)


def guide_picture(still: NDArray[np.uint8], sport: str) -> NDArray[np.uint8]:
    """A frame to read the places of a court's landmarks from, uint8 [H, W + more, 3]."""
    found = standard_of(sport)
    return draw_guide(still, found.landmarks, found.lines)


def court_picture(still: NDArray[np.uint8], entry: CourtEntry) -> NDArray[np.uint8]:
    """A frame with the lines of a court on it, uint8 [H, W, 3]."""
    court = entry.fit()
    share = np.linspace(0, 1, 40)[:, None]
    lines = [court.to_px((1 - share) * a + share * b) for a, b in np.array(court.standard.lines)]
    return draw_court(still, lines, entry.points)
