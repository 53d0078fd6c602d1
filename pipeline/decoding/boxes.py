"""What containers say and PyAV does not pass on: the part to be shown, and how long the file is.

Matroska and QuickTime files are trees of boxes, each with a name and a length.  Only headers are
read here, no picture; a header that makes no sense says nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tracknet.pipeline.spec import Box

# Matroska's names.
_SEGMENT, _CLUSTER, _TRACKS = 0x18538067, 0x1F43B675, 0x1654AE6B
_TRACK, _TYPE, _VIDEO = 0xAE, 0x83, 0xE0
_WIDTH, _HEIGHT, _BOTTOM, _TOP, _LEFT, _RIGHT = 0xB0, 0xBA, 0x54AA, 0x54BB, 0x54CC, 0x54DD
_SAMPLE_ENTRY_BYTES = 78  # of a picture's sample entry, in front of the boxes inside

Span = tuple[int, int]


def shown_part(path: Path, containers: set[str], place: int) -> Box | None:
    """The part of the stored picture that the container wants shown; None for all of it.

    Args:
        path: the file.
        containers: FFmpeg's names of its format.
        place: of the video track among the file's video tracks.
    """
    read = _matroska_parts if "matroska" in containers else _quicktime_parts
    if not containers & {"matroska", "mov"}:
        return None
    try:
        with path.open("rb") as file:
            parts = list(read(file, (0, os.fstat(file.fileno()).st_size)))
    except (struct.error, ZeroDivisionError):
        return None
    return parts[place] if place < len(parts) else None


def announced_bytes(path: Path, containers: set[str]) -> int | None:
    """How long the file is by its own header; None where it does not say (only Matroska does)."""
    if "matroska" not in containers:
        return None
    with path.open("rb") as file:
        for name, (_, stop) in _elements(file, (0, 1 << 62)):
            if name == _SEGMENT:
                return None if stop >= 1 << 62 else stop
    return None


def _elements(file: BinaryIO, span: Span) -> Iterator[tuple[int, Span]]:
    """Name and content of each element of Matroska; one of unknown length reaches to the end."""
    at, stop = span
    while at < stop:
        file.seek(at)
        head = file.read(12)
        name_bytes = 9 - head[0].bit_length() if head else 9
        if name_bytes > 4 or len(head) <= name_bytes:
            return
        size_bytes = 9 - head[name_bytes].bit_length()
        field = head[name_bytes : name_bytes + size_bytes]
        if size_bytes > 8 or len(field) < size_bytes:
            return
        size = int.from_bytes(field, "big") & ((1 << 7 * size_bytes) - 1)
        start = at + name_bytes + size_bytes
        at = stop if size == (1 << 7 * size_bytes) - 1 else start + size
        yield int.from_bytes(head[:name_bytes], "big"), (start, at)


def _matroska_parts(file: BinaryIO, whole: Span) -> Iterator[Box | None]:
    segment = _first(_elements(file, whole), _SEGMENT)
    for name, tracks in _elements(file, segment):
        if name == _CLUSTER:
            return
        if name != _TRACKS:
            continue
        for kind, track in _elements(file, tracks):
            entry = dict(_elements(file, track))
            if kind != _TRACK or _number(file, entry.get(_TYPE)) != 1 or _VIDEO not in entry:
                continue
            video = {key: _number(file, at) for key, at in _elements(file, entry[_VIDEO])}
            left, top = video.get(_LEFT, 0), video.get(_TOP, 0)
            width = video.get(_WIDTH, 0) - left - video.get(_RIGHT, 0)
            height = video.get(_HEIGHT, 0) - top - video.get(_BOTTOM, 0)
            cropped = video.keys() & {_LEFT, _TOP, _RIGHT, _BOTTOM}
            yield Box(left, top, width, height) if cropped else None
        return


def _number(file: BinaryIO, span: Span | None) -> int:
    if span is None:
        return 0
    file.seek(span[0])
    return int.from_bytes(file.read(min(8, span[1] - span[0])), "big")


def _boxes(file: BinaryIO, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Name and content of each box of QuickTime and MP4."""
    at, stop = span
    while at + 8 <= stop:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        start = at + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            start += 8
        at = stop if size == 0 else at + size
        if at < start or at > stop:
            return
        yield name, (start, at)


def _quicktime_parts(file: BinaryIO, whole: Span) -> Iterator[Box | None]:
    for name, track in _boxes(file, _first(_boxes(file, whole), b"moov")):
        if name != b"trak":
            continue
        media = _first(_boxes(file, track), b"mdia")
        file.seek(_first(_boxes(file, media), b"hdlr")[0] + 8)
        if file.read(4) != b"vide":
            continue
        span = media
        for inner in (b"minf", b"stbl", b"stsd"):
            span = _first(_boxes(file, span), inner)
        _, entry = next(_boxes(file, (span[0] + 8, span[1])), (b"", (0, 0)))
        file.seek(entry[0] + 24)
        stored = struct.unpack(">HH", file.read(4))
        inside = dict(_boxes(file, (entry[0] + _SAMPLE_ENTRY_BYTES, entry[1])))
        yield _clean_aperture(file, inside[b"clap"][0], stored) if b"clap" in inside else None


def _clean_aperture(file: BinaryIO, at: int, stored: tuple[int, int]) -> Box:
    """Width, height and the middle's distance from the stored middle, each a fraction."""
    file.seek(at)
    fields = struct.unpack(">IIIIiIiI", file.read(32))
    width, height, right, down = (fields[i] / fields[i + 1] for i in range(0, 8, 2))
    left, top = (stored[0] - width) / 2 + right, (stored[1] - height) / 2 + down
    return Box(round(left), round(top), round(width), round(height))


def _first(items: Iterator[tuple[Any, Span]], wanted: object) -> Span:
    return next((span for name, span in items if name == wanted), (0, 0))
