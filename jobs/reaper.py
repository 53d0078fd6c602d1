"""Ends what a private Ray leaves behind when the process that started it is killed.

Ray's agents live for a minute longer then, and its folder of logs stays for ever.  This process
waits for the end of its standard input, which comes however its parent dies, and then kills the
processes of Ray that have a file of the session's folder open; all of them log there.

    python -m tracknet.jobs.reaper FOLDER
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def reaped(folder: str) -> Iterator[None]:
    """Whatever is started in this block with a folder is ended with this process.

    Args:
        folder: of the session; it is deleted.
    """
    command = [sys.executable, "-m", "tracknet.jobs.reaper", folder]
    # In a session of its own: Ctrl-C goes to all processes of a terminal.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, start_new_session=True, stdout=subprocess.DEVNULL
    ) as reaper:
        try:
            yield
        finally:
            reaper.communicate()


def _has_open(process: psutil.Process, folder: str) -> bool:
    return any(file.path.startswith(f"{folder}/") for file in process.open_files())


def main(folder: str) -> None:
    """Wait for the parent's end, and kill what it left."""
    parent = os.getppid()  # which may have its own log open still
    sys.stdin.read()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            of_ray = "ray::" in line or "/ray/" in line  # a person may be reading a log there
            if of_ray and process.pid != parent and _has_open(process, folder):
                process.kill()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
