"""Files that are either whole or not there: every file of this project is written through here.

    with whole_file(Path("scores.csv")) as aside:
        aside.write_text("...")

Whoever reads meanwhile sees the old file, the new file, or none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file aside, force it to disk, and rename it to `path` when the block ends.

    Yields:
        The path to write, in the folder of `path`, which is made.  A leading dot keeps it out of
        every glob, the same suffix lets libraries pick the format.  It is deleted when the block
        raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def checksum(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
