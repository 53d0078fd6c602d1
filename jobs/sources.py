"""From what a user names to the videos that are meant.

    video file        itself, whatever its suffix
    folder            every video in it, recursively; a folder of pictures is one clip
    glob              what it matches, each taken as if named
    *.txt, *.lst      a manifest: one path per line, relative to it; `#` starts a comment

This module only lists; it opens nothing.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from tracknet.pipeline.decoding.probe import PICTURE_SUFFIXES
from tracknet.pipeline.errors import InputError

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"}
)
MANIFEST_SUFFIXES = frozenset({".txt", ".lst"})


def find_sources(inputs: Iterable[str]) -> list[Path]:
    """All videos that the inputs name, absolute, each once, in the order of the inputs.

    Raises:
        InputError: an input names nothing, or a folder holds no video.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        for path in _expand(text):
            found[path.absolute()] = None
    if not found:
        raise InputError("no videos given: name files, folders, globs or a manifest (*.txt)")
    return list(found)


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        videos = list(_in_folder(path))
        if not videos:
            raise InputError(f"{path}: no videos in this folder (or below it)")
        return videos
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        return _in_manifest(path)
    if path.exists():
        return [path]
    matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - the pattern may be absolute
    if not matches:
        raise InputError(f"{text}: no such file or folder, and no file matches it as a pattern")
    return [video for match in matches for video in _expand(match)]


def _in_folder(folder: Path) -> Iterable[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    videos = [e for e in entries if e.is_file() and e.suffix.lower() in VIDEO_SUFFIXES]
    yield from videos
    if not videos and any(e.suffix.lower() in PICTURE_SUFFIXES for e in entries if e.is_file()):
        yield folder
    for entry in entries:
        if entry.is_dir():
            yield from _in_folder(entry)


def _in_manifest(manifest: Path) -> list[Path]:
    # A file that a manifest names but that is not there is quarantined later, by name: one
    # missing file must not stop an archive.
    lines = (line.split("#")[0].strip() for line in manifest.read_text("utf-8").splitlines())
    return [manifest.parent / line for line in lines if line]
