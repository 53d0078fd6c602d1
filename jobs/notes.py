"""What workers are at, so that work that kills its worker is noticed and given up.

One file per piece of work, with a byte for each time that it was begun; it is deleted when the work
ends, well or not.  Files, because a process that dies tells nobody.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from tracknet.schemas.files import is_remote

_OLD_S = 24 * 3600.0


def notes_folder(out: Path) -> Path:
    """Where the notes of a run go: below its results, which the next run clears up.

    In an object store each note would cost requests, so each machine keeps its own.
    """
    if is_remote(out):
        here = Path(tempfile.gettempdir())
        for left in here.glob("tracknet-working-*"):  # by runs that were killed
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _OLD_S:
                    shutil.rmtree(left, ignore_errors=True)
        return here / f"tracknet-working-{uuid4().hex[:8]}"
    return out / ".working"


class WorkNotes:
    """The notes of a run.

    Args:
        folder: from `notes_folder`; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, name: str) -> int:
        """Note that a piece of work begins.

        Returns:
            How often it was begun in this run and never ended.
        """
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            with (self.folder / name).open("ab") as file:
                file.write(b".")
                return file.tell() - 1
        return 0

    def end(self, name: str) -> None:
        """Note that it has ended, well or not."""
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()
