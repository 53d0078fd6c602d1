"""Copies on this machine of videos in an object store, since decoders open files.

    with local_copy("s3://bucket/rally.mp4", limit_bytes=50 << 30) as path:
        ...

A copy is made when a video is first read on a machine, is shared by all processes there, and stays
for the next shard of the same video.  All copies together take at most `limit_bytes`: those that
nobody reads make room, and who finds none waits.  What is not read any more goes when its process
ends, or, where that was killed, when another copy is made.

Each copy has a lock file: shared while it is read, exclusive while it is made or deleted.  The
kernel lets go of locks when a process dies, so nothing has to be cleared up by hand.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO

from tracknet.pipeline.errors import MachineError
from tracknet.schemas.files import is_remote, place

UNREAD_S = 600.0  # a copy that was not read for so long is deleted when another one is made
_WAIT_S = 0.5


@contextmanager
def local_copy(source: str, limit_bytes: int) -> Iterator[Path]:
    """A file on this machine with a source's content; the source itself where it is on it.

    The copy has the source's modification time.

    Args:
        source: path or URL.
        limit_bytes: of all copies on this machine.

    Raises:
        MachineError: it cannot be read, or is larger than `limit_bytes` or the room on the disk.
    """
    remote = place(source)
    if not is_remote(remote):
        yield remote
        return
    try:
        found = remote.stat()
    except Exception as error:  # each object store's library has its own
        raise MachineError(f"{source}: cannot be reached ({error})") from error
    if found.st_size > limit_bytes:
        raise MachineError(
            f"{source}: has {found.st_size / 1e9:.1f} GB, more than all local copies may take "
            f"({limit_bytes / 1e9:.1f} GB)"
        )
    key = sha256(f"{source} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:32]
    path = _folder() / f"{key}{remote.suffix}"
    while True:
        with _locked(path, fcntl.LOCK_SH) as lock:
            if path.exists():
                os.utime(lock.name)
                yield path
                return
        with _locked(path, fcntl.LOCK_EX):
            if not path.exists():
                _fetch(remote, path, found.st_size, found.st_mtime_ns, limit_bytes)


def _fetch(remote: Path, path: Path, size: int, mtime_ns: int, limit_bytes: int) -> None:
    aside, room = (path.with_suffix(f"{path.suffix}.{kind}") for kind in ("partial", "room"))
    try:
        _reserve(room, size, limit_bytes)
        remote.fs.get_file(remote.path, str(aside))  # type: ignore[attr-defined]
        os.utime(aside, ns=(mtime_ns, mtime_ns))
        aside.rename(path)
    except Exception as error:
        raise MachineError(f"{remote}: cannot be copied to {path.parent} ({error})") from error
    finally:
        aside.unlink(missing_ok=True)
        room.unlink(missing_ok=True)
    atexit.unregister(remove_unread)
    atexit.register(remove_unread)


def _reserve(room: Path, size: int, limit_bytes: int) -> None:
    """Make an empty file of `size` as soon as all copies together stay below the limit."""
    while True:
        with _locked(room.parent / "all", fcntl.LOCK_EX):
            remove_unread(UNREAD_S)
            sizes = {lock: _size_of(lock) for lock in _by_last_use()}
            for lock in list(sizes):
                if sum(sizes.values()) + size > limit_bytes and _remove(lock):
                    del sizes[lock]
            if sum(sizes.values()) + size <= limit_bytes:
                with room.open("wb") as file:
                    file.truncate(size)
                return
        time.sleep(_WAIT_S)


def remove_unread(since_s: float = 0.0) -> None:
    """Delete the copies that nobody reads now, and has not for so many seconds."""
    for lock in _by_last_use():
        with suppress(FileNotFoundError):
            if time.time() - lock.stat().st_mtime >= since_s:
                _remove(lock)


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"tracknet-copies-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _by_last_use() -> list[Path]:
    """The lock files of all copies, the longest unread first."""
    used = []
    for lock in _folder().glob(f"{'[0-9a-f]' * 32}.lock"):
        with suppress(FileNotFoundError):  # deleted meanwhile
            used.append((lock.stat().st_mtime, lock))
    return [lock for _, lock in sorted(used)]


def _files_of(lock: Path) -> list[Path]:
    """A copy, as far as it is there, and the room that is kept for it."""
    return [path for path in lock.parent.glob(f"{lock.stem}.*") if path != lock]


def _size_of(lock: Path) -> int:
    sizes = [0]
    for path in _files_of(lock):
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def _remove(lock: Path) -> bool:
    """Delete a copy and its lock file, unless it is in use."""
    with suppress(OSError), lock.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in _files_of(lock):
            path.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        return True
    return False


@contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[bytes]]:
    """Hold the lock of a copy; waits for it."""
    lock = path.with_name(f"{path.name.split('.')[0]}.lock")
    while True:
        with lock.open("ab") as file:
            fcntl.flock(file, how)
            with suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == lock.stat().st_ino:
                    yield file
                    return
