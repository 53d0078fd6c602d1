"""The courts of an output folder: `courts.json`, which tables that follow from rows depend on.

    {"courts": [{"video": "final*.mp4", "sport": "tennis", "size": [1280, 720], "points": {...}}]}

This module knows which court is for which video, and nothing of what a court is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import PurePath
from typing import Any

from tracknet.schemas import parquet
from tracknet.schemas.folder import read_json
from tracknet.schemas.scores import Scores
from tracknet.schemas.tables import DERIVED, DERIVED_VERSION

CourtRow = dict[str, Any]


class Courts(Scores):
    """An output folder and the courts of its videos."""

    def courts(self) -> list[CourtRow]:
        """All courts, as they were given; none where there is no file."""
        found = read_json(self.root / "courts.json")
        return list(found["courts"]) if found else []

    def write_courts(self, courts: Sequence[CourtRow]) -> None:
        """Replace all courts; what follows from the rows of their videos lacks from now on.

        Raises:
            Locked: another run has taken the folder over.
        """
        self._lock.check()
        parquet.write_json({"courts": list(courts)}, self.root / "courts.json")

    def courts_of(self, source: str) -> list[CourtRow]:
        """The courts of a video."""
        return courts_of(self.courts(), source)

    def derived_from(self, source: str) -> str:
        """What a video's derived tables depend on besides its rows: their making, its courts."""
        columns = {
            name: [f"{field.name}: {field.type}" for field in schema]
            for name, schema in DERIVED.items()
        }
        text = json.dumps([DERIVED_VERSION, columns, self.courts_of(source)], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:16]


def courts_of(courts: Sequence[CourtRow], source: str) -> list[CourtRow]:
    """The courts whose pattern fits a source's name, or all of its path.

    >>> courts_of([{"video": "final*"}, {"video": "*/2/*.mp4"}, {"video": "a.mp4"}], "/v/final.mp4")
    [{'video': 'final*'}]
    """
    names = (PurePath(source).name, source)
    return [row for row in courts if any(fnmatchcase(name, row["video"]) for name in names)]
