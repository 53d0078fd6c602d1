"""What libraries write to file descriptor 2 behind Python's back, kept in the log.

Ray's C++ side reports there what is no error, and prints a stack when a signal ends a run.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


def own_stderr() -> None:
    """Give Python's standard error a descriptor of its own, so that 2 can be led elsewhere."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")


@contextmanager
def native_stderr_in_log() -> Iterator[None]:
    """Lead descriptor 2 to the log (level debug), unless Python's standard error uses it, too."""
    try:
        shared = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # a notebook's, or a test's, has none
        shared = True
    if shared:
        yield
        return
    saved = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines():
                log.debug("native: %s", line)
