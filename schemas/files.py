"""Files by path or URL: whole or not there.  Every file of this project is written through here.

    with whole_file(place("s3://bucket/tables/scores.csv")) as aside:
        aside.write_text("...")

Whoever reads meanwhile sees the old file, the new file, or none.

`place` turns a path or a URL (`s3://`, `gs://`, whatever fsspec knows) into an object with the
methods of `pathlib.Path`: a `Path` on this machine, else a `UPath` of universal_pathlib.  What an
object store does differently (no folders, no renaming, errors of its own) is dealt with here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import cast
from urllib.parse import unquote_to_bytes
from uuid import uuid4

_LOCAL = "file://"


def place(text: str | Path) -> Path:
    r"""The file or folder that a path or URL names.

    Raises:
        ValueError: a URL of a kind that nothing installed can open.

    >>> place("a/b.mp4")
    PosixPath('a/b.mp4')
    >>> os.fsencode(place("file:///videos/%FF.mp4"))
    b'/videos/\xff.mp4'
    >>> str(place("memory://bucket/a b.mp4").parent)
    'memory://bucket'
    """
    if not isinstance(text, str):
        return text
    if text.startswith(_LOCAL):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(_LOCAL))))
    if "://" not in text:
        return Path(text)
    from upath import UPath

    try:
        found = UPath(text, use_listings_cache=False)
        _ = found.fs
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{text}: cannot be opened ({error}); `pip install 'tracknet[s3]'` opens s3://, "
            "'tracknet[gs]' opens gs://"
        ) from error
    return cast(Path, found)


def is_remote(path: Path) -> bool:
    """Whether it lies in an object store, not on this machine."""
    return not isinstance(path, Path)


def errors_of(path: Path) -> type[Exception]:
    """What reading and writing it may raise; libraries of object stores have errors of their own.

    >>> errors_of(Path("x"))
    <class 'OSError'>
    """
    return Exception if is_remote(path) else OSError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file aside, force it to disk, and put it in place when the block ends.

    On this machine it is renamed to `path`; in an object store it is one upload, before which
    nothing is seen.

    Yields:
        The path to write, always on this machine.  A leading dot keeps it out of every glob, the
        same suffix lets libraries pick the format.  It is deleted when the block raises.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="tracknet-") as folder:
            aside = Path(folder) / path.name
            yield aside
            path.fs.put_file(str(aside), path.path)  # type: ignore[attr-defined]
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    at = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(at)  # the rename itself must survive a power cut
    finally:
        os.close(at)


def move(path: Path, to: Path) -> None:
    """Move a file over another; in an object store it is copied, then deleted."""
    if is_remote(path):
        path.rename(to)
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    path.replace(to)


def remove_tree(folder: Path) -> None:
    """Delete a folder and all that is in it, as far as that can be."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        folder.fs.rm(folder.path, recursive=True)  # type: ignore[attr-defined]


def remove_empty(folder: Path) -> None:
    """Delete a folder with nothing in it, if it is one; an object store has no folders."""
    if not is_remote(folder):
        with suppress(OSError):
            folder.rmdir()


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and those below it, sorted; none where there is no folder."""
    if is_remote(folder):
        above = folder.path.rstrip("/")  # type: ignore[attr-defined]
        found: list[str] = []
        with suppress(FileNotFoundError):
            found = sorted(folder.fs.find(above))  # type: ignore[attr-defined]
        return [folder / name.removeprefix(f"{above}/") for name in found]
    return sorted(path for path in folder.rglob("*") if path.is_file())


def checksum(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
