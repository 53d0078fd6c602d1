"""One writer at a time, on one machine and on storage that several share.

Whoever writes holds `OUT/.lock` twice: by the kernel (`flock`), which lets go when the process
dies, and by what stands in the file: host, process and start.  Its modification time is renewed
every 15 seconds.  Another run that comes meanwhile:

    the kernel says that it is held           refused
    it is not, the line is of this host       the process is dead: taken over
    it is not, the line is of another host    that machine died, or its storage shares no locks:
                                              refused until its last sign of life is 2 minutes old,
                                              unless the user says that it is dead (`take`)

In an object store there is no kernel between them.  There the lock is an object that is made only
if there is none, which the store decides; it is written again every 15 seconds and deleted at the
end, and a run that finds one of this host with a dead process, or one that shows no life, replaces
it.

A run that was taken over from notices it before it publishes its next video, and stops.  Clocks of
machines that share a folder must agree to a minute.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tracknet.schemas.errors import Locked
from tracknet.schemas.files import errors_of, is_remote
from tracknet.schemas.parquet import writing

HEARTBEAT_S = 15.0
DEAD_AFTER_S = 120.0


class FolderLock:
    """The lock of a folder; may be held once at a time.

    Args:
        path: of the lock file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._line = ""

    @contextmanager
    def hold(self, take: bool = False) -> Iterator[None]:
        """Hold it until the block ends.

        Args:
            take: take it over from another host although that showed signs of life just now.

        Raises:
            Locked: another run holds it; the message says which and what to do.
            NotWritable: the folder cannot be written.
        """
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        holder = {"host": socket.gethostname(), "process": os.getpid(), "started": started}
        line = json.dumps(holder)
        with self._object(line, take) if is_remote(self.path) else self._file(line, take):
            self._line = line
            ended = threading.Event()
            threading.Thread(target=self._show_life, args=(ended,), daemon=True).start()
            try:
                yield
            finally:
                ended.set()
                self._line = ""

    @contextmanager
    def _file(self, line: str, take: bool) -> Iterator[None]:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+")
        with file:
            self._acquire(file, take)
            with writing(self.path):
                file.truncate(0)
                file.write(line)
                file.flush()
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    file.truncate(0)

    @contextmanager
    def _object(self, line: str, take: bool) -> Iterator[None]:
        self._refuse_living(take)
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            try:
                _make_object(self.path, line)
            except FileExistsError:
                raise Locked(
                    f"{self.path.parent} is being written by {_name(_text(self.path))}"
                ) from None
        try:
            yield
        finally:
            with contextlib.suppress(errors_of(self.path)):
                if _text(self.path) == line:
                    self.path.unlink()

    def check(self) -> None:
        """Make sure that nobody took over; does nothing where the lock is not held.

        Raises:
            Locked: somebody did.
        """
        if self._line and _text(self.path) != self._line:
            raise Locked(f"{self.path.parent} was taken over by {_name(_text(self.path))}")

    def holder(self) -> dict[str, Any]:
        """Host, process and start of who holds it, by anyone's account; empty where nobody does.

        A holder on this host must be alive, one on another must have shown life just now.
        """
        holder = _parse(_text(self.path))
        if not holder:
            return {}
        if holder.get("host") == socket.gethostname():
            return holder if _is_alive(holder["process"]) else {}
        return holder if self._age() < DEAD_AFTER_S else {}

    def _age(self) -> float:
        """Seconds since its last sign of life; infinite where it is gone."""
        try:
            return time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def _acquire(self, file: IO[str], take: bool) -> None:
        folder, line = self.path.parent, _text(self.path)
        holder = _parse(line)
        here = holder.get("host") == socket.gethostname()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                f"{folder} is being written by {_name(line)}; wait for it, or choose another --out"
            ) from None
        except OSError:  # storage without locks
            if here and _is_alive(holder["process"]):
                raise Locked(f"{folder} is being written by {_name(line)}") from None
        self._refuse_living(take)

    def _refuse_living(self, take: bool) -> None:
        """Raise `Locked` if another process holds it by what is written there."""
        line = _text(self.path)
        holder = _parse(line)
        if not holder or take:
            return
        folder, age = self.path.parent, self._age()
        if holder.get("host") != socket.gethostname():
            if age < DEAD_AFTER_S:
                raise Locked(
                    f"{folder} is being written by {_name(line)}, which renewed its lock "
                    f"{max(0, age):.0f} s ago; if that run is dead, wait until the lock is "
                    f"{DEAD_AFTER_S:.0f} s old (`tracknet track --take-lock` does not wait)"
                )
        elif is_remote(self.path) and _is_alive(holder["process"]):  # no kernel says so
            raise Locked(f"{folder} is being written by {_name(line)}")

    def _show_life(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_S):
            with contextlib.suppress(errors_of(self.path)):
                if not is_remote(self.path):
                    os.utime(self.path)
                elif _text(self.path) == self._line:
                    self.path.write_text(self._line, "utf-8")


def _make_object(path: Path, text: str) -> None:
    """Write an object if there is none.

    Raises:
        FileExistsError: there is one.
    """
    path.fs.pipe_file(path.path, text.encode(), mode="create")  # type: ignore[attr-defined]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except errors_of(path):
        return ""


def _parse(line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _name(line: str) -> str:
    holder = _parse(line)
    if not holder:
        return f"process {line or '?'}"
    return f"process {holder.get('process')} on {holder.get('host')} since {holder.get('started')}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
