"""Every error the project raises on purpose, as one tree.

    TrackNetError                 catch this to catch all of them
    ├── InputError                something the user gave cannot be used: a path, an option, a table
    ├── VideoError                a video, or a part of it, cannot be read
    │   └── DecodeTimeout         the decoder gave no answer before its deadline and was killed
    ├── MachineError              a file cannot be reached, or memory or disk is lacking
    ├── StoppedEarly              a run reached a limit that the user set; run it again to go on
    ├── WeightsError              a weights file does not fit the model, or is not one
    └── LabelError                a label file is broken; carries file and line

A message says what is wrong, where, and what to do about it.  This module knows nothing else of
the project, so every layer may import it.
"""

from __future__ import annotations

from pathlib import Path


class TrackNetError(Exception):
    """Base of all errors raised on purpose by this project."""


class InputError(TrackNetError):
    """An argument, path or table given by the user cannot be used."""


class VideoError(TrackNetError):
    """A video cannot be read, wholly or in part."""


class DecodeTimeout(VideoError):
    """The decoder made no progress before its deadline and was killed."""


class MachineError(TrackNetError):
    """The machine, not the video, is at fault; another try may well succeed.

    Raised where the operating system says so: a file that is absent, may not be read, lies on a
    disk that fails or changed while it was read; no room for shared memory or temporary files; a
    decoder process that does not start, or that was killed from outside (SIGKILL, SIGBUS).
    Nothing about the video follows from it.
    """


class StoppedEarly(TrackNetError):
    """A run reached its deadline, or too many videos have trouble; what is published stays."""


class WeightsError(TrackNetError):
    """A weights file does not fit the architecture, or is no weights file."""


class LabelError(TrackNetError):
    """A label file is broken.

    >>> str(LabelError(Path("csv/r1.csv"), 7, "frame 900 lies outside the clip (0..299)"))
    'csv/r1.csv:7: frame 900 lies outside the clip (0..299)'
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem
