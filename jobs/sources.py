"""From what a user names to the videos that are meant.

    video file        itself, whatever its suffix
    folder            every video in it, recursively; a folder of pictures is one clip
    glob              what it matches, each taken as if named
    *.txt, *.lst      a manifest: one path per line, which may be any of these, relative to it; a
                      line that begins with `#` is a comment

In folders a video is told by its suffix; names that begin with a dot (as macOS' `._x.mp4`) are left
out.  Links are followed, each real folder is searched once.  A folder without permission, a broken
link and a pipe that is called like a video count as sources, so that they are named in the end;
they stop nothing else.  Only `lost+found`, which is root's on every disk, is left out.

A URL (`s3://`, `gs://`) names an object, all videos below a prefix, a glob or a manifest, likewise.
Folders of pictures must be on this machine.

In tables a source is its path or URL.  A path that is not UTF-8 is its `file://` URI, since tables
hold text.

This module only lists; it opens no video.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tracknet.pipeline.decoding.video import PICTURE_SUFFIXES
from tracknet.pipeline.errors import InputError
from tracknet.schemas.files import errors_of, files_below, is_remote, place

VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".3gp", ".avi", ".flv", ".gif", ".h264", ".h265", ".hevc", ".m2ts", ".m4v"}
    | {".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"}
)
MANIFEST_SUFFIXES = frozenset({".txt", ".lst"})


def find_sources(inputs: Iterable[str]) -> list[Path]:
    """All videos that the inputs name, absolute, each once, in the order of the inputs.

    A file that a manifest names, and one that is called like a video but is none, are among them,
    whether or not they can be read: they are named when they are probed.

    Raises:
        InputError: an input names nothing, a folder holds no video, or a manifest is no UTF-8 text.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        for path in _expand(text, ()):
            found[path.absolute()] = None
    if not found:
        raise InputError("no videos given: name files, folders, globs or a manifest (*.txt)")
    return list(found)


def source_text(path: str | Path) -> str:
    r"""What a path is called in tables and messages: itself, or a URI where it is not UTF-8.

    >>> source_text("/videos/ä.mp4")
    '/videos/ä.mp4'
    >>> source_text(Path(os.fsdecode(b"/videos/\xff.mp4")))
    'file:///videos/%FF.mp4'
    """
    return str(path) if is_text(str(path)) else Path(path).as_uri()


def source_path(text: str) -> Path:
    """The inverse of `source_text`, see `schemas.files.place`.

    Raises:
        InputError: a URL of a kind that nothing installed can open.
    """
    try:
        return place(text)
    except ValueError as error:
        raise InputError(str(error)) from error


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8; names of files need not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expand(text: str, manifests: tuple[Path, ...]) -> Iterator[Path]:
    path = Path(text).expanduser() if text.startswith("~") else source_path(text)
    if is_remote(path):
        yield from _in_store(path, manifests)
    elif path.is_dir():
        videos = list(_in_folder(path))
        if not videos:
            raise InputError(f"{path}: no videos in this folder (or below it)")
        yield from videos
    elif path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        yield from _in_manifest(path, manifests)
    elif os.path.lexists(path):
        yield path
    else:
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - may be absolute
        if not matches:
            raise InputError(f"{text}: no such file or folder, and no file matches it as a pattern")
        for match in matches:
            yield from _expand(match, manifests)


def _in_store(path: Path, manifests: tuple[Path, ...]) -> Iterator[Path]:
    """What a URL names in an object store: an object, all videos below a prefix, or a glob."""
    try:
        if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
            yield from _in_manifest(path, manifests)
        elif path.is_file():
            yield path
        else:
            found = files_below(path) if path.is_dir() else sorted(_glob(path))
            named = [one for one in found if not one.name.startswith(".")]
            videos = [one for one in named if one.suffix.lower() in VIDEO_SUFFIXES]
            if not videos:
                raise InputError(f"{path}: no such object, and no videos below it or matching it")
            yield from videos
    except InputError:
        raise
    except errors_of(path) as error:
        raise InputError(f"{path}: cannot be reached ({error})") from error


def _glob(path: Path) -> list[Path]:
    fixed = next(above for above in path.parents if not glob.has_magic(str(above)))
    return list(fixed.glob(str(path).removeprefix(f"{str(fixed).rstrip('/')}/")))


def _in_folder(folder: Path) -> Iterator[Path]:
    """The videos of a folder and those below it."""
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            stat = folder.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue  # a link that leads back
            seen.add((stat.st_dev, stat.st_ino))
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
            folders = [entry for entry in entries if entry.is_dir()]
        except OSError:
            if folder.name != "lost+found":
                yield folder
            continue
        below = set(folders)
        files = [entry for entry in entries if entry not in below]
        videos = [entry for entry in files if entry.suffix.lower() in VIDEO_SUFFIXES]
        yield from videos
        if not videos and any(entry.suffix.lower() in PICTURE_SUFFIXES for entry in files):
            yield folder
        waiting += reversed(folders)


def _in_manifest(manifest: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if manifest.resolve() in above:
        raise InputError(f"{manifest}: names itself")
    lines = manifest.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{manifest}:{number}: not UTF-8 ({error.reason}); save it as UTF-8"
            ) from error
        if "\0" in text:
            raise InputError(f"{manifest}:{number}: not text (is it UTF-16?); save it as UTF-8")
        if not text or text.startswith("#"):
            continue
        whole = text.startswith("~") or "://" in text
        named = text if whole else str(manifest.parent / text)
        try:
            yield from _expand(named, (*above, manifest.resolve()))
        except InputError as error:
            path = source_path(named).expanduser()
            if path.exists() if is_remote(path) else os.path.lexists(path):
                raise InputError(f"{manifest}:{number}: {error}") from error
            yield path  # one missing file must not stop an archive
