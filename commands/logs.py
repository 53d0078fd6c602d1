"""Where log lines go: warnings to the terminal; a night without one tells its story in lines."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up_logging(level: str | None, file: Path | None) -> None:
    """Send the log of `tracknet` to standard error, and to a file if there is one.

    Args:
        level: least level, one of LEVELS; None is "warning" on a terminal, where a progress bar
            shows how far it is, and "info" elsewhere.
        file: log file, appended to; None for none.  It gets "info" where no level is given.

    Raises:
        OSError: the file cannot be written.
    """
    log = logging.getLogger("tracknet")
    log.setLevel(logging.DEBUG)
    log.propagate = False  # libraries give the root logger handlers of their own
    shown = level or ("warning" if sys.stderr.isatty() else "info")
    handlers: list[tuple[logging.Handler, str]] = [(logging.StreamHandler(), shown)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append((logging.FileHandler(file, encoding="utf-8"), level or "info"))
    for old in log.handlers[:]:  # a test calls twice in one process
        log.removeHandler(old)
    for handler, least in handlers:
        handler.setLevel(least.upper())
        handler.setFormatter(logging.Formatter(_FORMAT))
        log.addHandler(handler)
