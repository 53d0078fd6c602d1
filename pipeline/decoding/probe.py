"""Probe a video: read every packet's timestamps, decode next to nothing.

`probe` runs inside the decoder process (`pipeline.decoding.child`), because a container parser
may crash or hang on a hostile file just as a decoder may.  It reads the file once, from packet to
packet, and hashes its bytes.

How a picture is tied to its time:

- *paired*: every packet gives one picture, in order of PTS.  Then pictures may be counted, which is
  all that Decord can do.  It is believed only where nothing speaks against it: PTS without gaps or
  repeats, no packet that the container discards, no joint where clocks go back, and the first
  packets decode to exactly their PTS.
- *seekable*, not paired: PTS are sound, but some packets give no picture.  PyAV decodes, and each
  picture brings its own PTS.
- neither: the file is decoded once, to count.  Pictures come in the decoder's order, each with the
  time that the container gives it, even if that goes back; where a picture has none, the whole
  video has no clock and a note says so.  AVI stores no times: its frame rate is its clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

from tracknet.pipeline.decoding.boxes import announced_bytes, shown_part
from tracknet.pipeline.decoding.geometry import display_matrix, geometry_of
from tracknet.pipeline.decoding.video import PICTURE_SUFFIXES, Video
from tracknet.pipeline.errors import MachineError, VideoError

_REHEARSAL_PACKETS = 48
_HIDDEN_FRAME_CODECS = {"vp8"}  # alternate reference frames are packets that are never shown
_INDEXED_CONTAINERS = {"mov", "mp4", "avi"}  # whose header lists every frame
_NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS: a raw stream
_NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails  # cover art
_TURN = 1 << 33  # where the clock of a transport stream starts again at 0
_GAP = 60 * 90_000
_NO_CLOCK = "no clock: {}, so time_s is null"

Heartbeat = Callable[[], None]


def probe(path: Path, heartbeat: Heartbeat) -> Video:
    """Probe a video file or a folder of pictures.

    Args:
        path: the file or folder.
        heartbeat: called at least every few megabytes or few hundred packets, so that whoever
            waits can tell slow from stuck.

    Raises:
        VideoError: it is empty, no video, or holds no picture at all.
        MachineError: it is not there, cannot be read, or changed meanwhile.
    """
    try:
        stat = path.stat()
        if path.is_dir():
            return _probe_pictures(path, heartbeat)
        if stat.st_size == 0:
            raise VideoError(f"{path}: the file is empty")
        video_id = fingerprint([path], heartbeat)
        try:
            video = _probe_file(path, video_id, heartbeat)
        except (av.error.FFmpegError, ValueError) as error:
            _check_unchanged(path, stat)
            raise VideoError(f"{path}: not a video that FFmpeg can open ({error})") from error
        _check_unchanged(path, stat)
        return video
    except FileNotFoundError as error:
        raise MachineError(f"{path}: no such file; it was moved, or its disk is gone") from error
    except OSError as error:
        raise MachineError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_unchanged(path: Path, before: Any) -> None:
    with path.open("rb") as file:
        file.read(1)
    now = path.stat()
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise MachineError(f"{path}: changed while it was read; is it still being written?")


def fingerprint(paths: list[Path], heartbeat: Heartbeat) -> str:
    """The content fingerprint: 32 hex digits of the SHA-256 over all bytes.

    For more than one path the file names count too, so a renamed picture is a different clip.
    """
    digest = hashlib.sha256()
    for path in paths:
        if len(paths) > 1:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
                heartbeat()
    return digest.hexdigest()[:32]


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order (`2.jpg` before `10.jpg`); hidden files are none.

    macOS leaves a `._0001.jpg` beside `0001.jpg` on foreign disks, which is no picture.
    """
    pictures = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(pictures, key=lambda p: [int(s) if s.isdigit() else s for s in _words(p.stem)])


def _words(stem: str) -> list[str]:
    # Alternates text, digits, text, ...: natural order compares like with like.
    return re.split(r"(\d+)", stem)


def read_picture(path: Path) -> np.ndarray | None:
    """A picture file as uint8 BGR `[H, W, 3]`, turned as its EXIF says; None where it is none."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        return cv2.imdecode(content, cv2.IMREAD_COLOR)
    except cv2.error:  # an empty file, or more pixels than OpenCV takes
        return None


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The default video stream, else the first; cover art and thumbnails do not count.

    Raises:
        VideoError: there is none.
    """
    streams = _pictures(container)
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise VideoError(f"{container.name}: no video stream (it holds {kinds or 'nothing'})")
    return next((s for s in streams if s.disposition & Disposition.default), streams[0])


def _pictures(container: av.container.InputContainer) -> list[av.VideoStream]:
    return [s for s in container.streams.video if not s.disposition & _NO_PICTURES]


def open_video(path: Path) -> av.container.InputContainer:
    """Open a file for reading, whatever characters its metadata are in."""
    return av.open(str(path), metadata_errors="replace")


def _probe_file(path: Path, video_id: str, heartbeat: Heartbeat) -> Video:
    with open_video(path) as container:
        stream = video_stream(container)
        packets = _read_packets(container, stream, heartbeat)
        if not packets.pts:
            raise VideoError(f"{path}: the video stream holds no packets")
        containers = set(container.format.name.split(","))
        rehearsal = _rehearse(path)
        raw = bool(container.format.flags & _NO_TIMESTAMPS)
        clocked = not raw and None not in packets.pts and len(set(packets.pts)) == len(packets.pts)
        seekable = (
            clocked
            and not packets.joined
            and rehearsal.matches
            and stream.codec.name not in _HIDDEN_FRAME_CODECS
        )
        note = None
        if seekable:
            times, keyframes = _index(packets, rehearsal)
        else:
            times, note = _count_by_decoding(path, packets, containers, raw, heartbeat)
            keyframes = np.zeros((1, 3), dtype=np.int64)
        clock = stream.time_base if note is None else None
        if clock is not None and (np.diff(times) < 0).any():
            note = "its clock goes back: more than one recording in a file"
        if not len(times):
            raise VideoError(f"{path}: no frame of it can be decoded")
        stored = rehearsal.size or (stream.codec_context.width, stream.codec_context.height)
        if 0 in stored:
            raise VideoError(f"{path}: the picture has no size ({stored[0]}x{stored[1]})")
        part = shown_part(path, containers, _pictures(container).index(stream))
        geometry = geometry_of(stored, stream.sample_aspect_ratio, part, rehearsal.matrix)
        stat = path.stat()
        return Video(
            video_id=video_id,
            source=str(path),
            kind="file",
            container=container.format.name,
            codec=stream.codec.name,
            width=geometry.width,
            height=geometry.height,
            rotation=geometry.rotation,
            mirrored=geometry.mirrored,
            crop=geometry.crop,
            time_base=clock,
            announced_frames=stream.frames,
            size_bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            seekable=seekable,
            paired=seekable and not packets.discarded and not packets.corrupt,
            damage=_missing(path, containers, packets, stream.frames, stat.st_size),
            note=note,
            pts=times,
            keyframes=keyframes,
        )


@dataclass
class _Packets:
    """What the packets of a stream say, in order of decoding.

    Attributes:
        pts, dts: ticks, None where the container has none.
        discarded: PTS of packets that are decoded, never shown (an edit list plays only a part).
        keys, key_places: PTS and DTS of keyframes, and their places.
        corrupt: places of packets that the demuxer found incomplete.
        error: what ended the reading before the end, in words.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    discarded: set[int] = field(default_factory=set)
    keys: list[tuple[int, int]] = field(default_factory=list)
    key_places: set[int] = field(default_factory=set)
    corrupt: list[int] = field(default_factory=list)
    error: str | None = None

    @property
    def leaps(self) -> bool:
        """Whether FFmpeg took the start of another recording for a turn of the clock.

        A clock that does turn in the middle of a recording goes on without a gap.
        """
        known = np.array([t for t in self.dts if t is not None], dtype=np.int64)
        turns = (known[:-1] < _TURN) & (known[1:] >= _TURN)
        return bool((turns & (np.diff(known) > _GAP)).any())

    @property
    def joined(self) -> bool:
        """Two recordings in one file: sorted by PTS, their pictures would be mixed."""
        known = np.array([t for t in self.dts if t is not None], dtype=np.int64)
        return bool((np.diff(known) < 0).any()) or self.leaps


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream, heartbeat: Heartbeat
) -> _Packets:
    found = _Packets()
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.is_corrupt:
                found.corrupt.append(len(found.pts))
            if packet.is_discard and packet.pts is not None:
                found.discarded.add(packet.pts)
            if packet.is_keyframe:
                found.key_places.add(len(found.pts))
            if packet.is_keyframe and packet.pts is not None:
                found.keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            found.pts.append(packet.pts)
            found.dts.append(packet.dts)
            if len(found.pts) % 256 == 0:
                heartbeat()
    except av.error.FFmpegError as error:
        found.error = f"unreadable after {len(found.pts)} packets ({error})"
    return found


def _missing(
    path: Path, containers: set[str], packets: _Packets, announced: int, size_bytes: int
) -> str | None:
    """What the container announces but does not hold, in words; None where it is whole."""
    if packets.error is not None:
        return packets.error
    n_packets = len(packets.pts)
    if n_packets - 1 in packets.corrupt:
        return f"cut off: packet {n_packets - 1} is incomplete"
    # Up to two packets (FFmpeg's parser lags) in front of a keyframe it is but the joint of two
    # recordings; if more is missing there, the decoder says so.
    if lost := [n for n in packets.corrupt if packets.key_places.isdisjoint((n + 1, n + 2))]:
        return f"{len(lost)} packets are incomplete, the first is {lost[0]}"
    if "avi" in containers:  # whose header counts dropped frames, too
        n_packets = max([n_packets, *(t + 2 for t in packets.dts if t is not None)])
    if containers & _INDEXED_CONTAINERS and announced > n_packets:
        return f"cut off: the header lists {announced} frames, {len(packets.pts)} are in the file"
    expected = announced_bytes(path, containers)
    if expected is not None and size_bytes < expected:
        return f"cut off: the header announces {expected} bytes, the file has {size_bytes}"
    if "mpegts" in containers and size_bytes % 188 and size_bytes % 192 and size_bytes % 204:
        return f"cut off: its {size_bytes} bytes end within a transport packet"
    return None


def _index(packets: _Packets, rehearsal: _Rehearsal) -> tuple[np.ndarray, np.ndarray]:
    """PTS of all frames, and rows (frame, pts, dts) of keyframes.

    Frame 0 stands for the start of the file, decoded from the first PTS that is not lost.
    """
    fed = np.sort(np.array([t for t in packets.pts if t not in rehearsal.lost], dtype=np.int64))
    hidden = np.array(list(packets.discarded), dtype=np.int64)
    times = fed[~np.isin(fed, hidden)]
    table = {0: (int(fed[0]), int(fed[0]))}
    for pts, dts in sorted(packets.keys):
        frame = int(np.searchsorted(times, pts))
        if 0 < frame < len(times) and times[frame] == pts:
            table[frame] = (pts, dts)
    return times, np.array([(frame, *table[frame]) for frame in sorted(table)], dtype=np.int64)


@dataclass
class _Rehearsal:
    """The first packets, decoded.

    Attributes:
        matches: pictures came in order of their packets' PTS, one for each that is shown.
        lost: PTS in front of the first picture whose packets lack what they refer to: a recording
            that begins, or was cut, in the middle of an open GOP.  They are never shown.
        size: width and height of the first picture, px; None where there is none.
        matrix: the first picture's display matrix.
    """

    matches: bool = True
    lost: frozenset[int] = frozenset()
    size: tuple[int, int] | None = None
    matrix: np.ndarray | None = None


def _rehearse(path: Path) -> _Rehearsal:
    rehearsal = _Rehearsal()
    with open_video(path) as container:
        stream = video_stream(container)
        expected: list[Any] = []  # ticks; None is seen to below
        found: list[Any] = []
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                expected.append(packet.pts)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                return rehearsal  # damaged: the index is all there is
            for frame in frames:
                if not found:
                    rehearsal.size = frame.width, frame.height
                    rehearsal.matrix = display_matrix(frame)
                found.append(frame.pts)
            if len(expected) >= _REHEARSAL_PACKETS:
                break
        with contextlib.suppress(av.error.FFmpegError, EOFError):  # flushed by its end already
            found += [frame.pts for frame in stream.codec_context.decode(None)]
    # Damage loses frames, it invents none; a hidden frame leaves a gap without a complaint.
    if found and None not in found and None not in expected:
        rehearsal.lost = frozenset(pts for pts in expected if pts < found[0])
    shown = [pts for pts in expected if pts not in rehearsal.lost]
    rehearsal.matches = None not in shown and found == sorted(shown)
    return rehearsal


def _count_by_decoding(
    path: Path, packets: _Packets, containers: set[str], raw: bool, heartbeat: Heartbeat
) -> tuple[np.ndarray, str | None]:
    """PTS of every picture in the order in which they come, and a note where there is no clock."""
    times: list[int | None] = []
    for frame in decode_all(path):
        times.append(None if raw else frame.pts)
        if len(times) % 16 == 0:
            heartbeat()
    if "mpegts" in containers and packets.leaps:
        times = [t if t is None or t < _TURN else t - _TURN for t in times]
    ticks = sorted(dts for dts in packets.dts if dts is not None)
    if "avi" in containers and len(ticks) >= len(times):
        times = list(ticks[: len(times)])
    note = None
    if None in times:
        which = (
            "a raw stream has no timestamps"
            if raw
            else (f"{times.count(None)} of {len(times)} frames have no timestamp")
        )
        times, note = list(range(len(times))), _NO_CLOCK.format(which)
    return np.array(times, dtype=np.int64), note


def decode_all(path: Path) -> Iterator[av.VideoFrame]:
    """Every frame that FFmpeg gives up, from the start, past packets that it refuses."""
    with open_video(path) as container:
        stream = video_stream(container)
        yield from decode_packets(container.demux(stream), stream)


def decode_packets(packets: Iterable[Any], stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Every frame that FFmpeg gives up of these packets, past those that it refuses."""
    upcoming = iter(packets)
    while True:
        try:
            packet = next(upcoming)
            yield from packet.decode()
        except StopIteration:
            break
        except av.error.FFmpegError:
            continue  # after an error of the demuxer there is no next packet
    with contextlib.suppress(av.error.FFmpegError, EOFError):  # flushed by its end already
        yield from stream.codec_context.decode(None)


def _probe_pictures(folder: Path, heartbeat: Heartbeat) -> Video:
    pictures = list_pictures(folder)
    if not pictures:
        raise VideoError(f"{folder}: holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
    readable = (picture for path in pictures if (picture := read_picture(path)) is not None)
    first = next(readable, None)
    if first is None:
        raise VideoError(f"{folder}: none of its {len(pictures)} pictures can be read")
    frames = np.arange(len(pictures), dtype=np.int64)
    return Video(
        video_id=fingerprint(pictures, heartbeat),
        source=str(folder),
        kind="frames",
        container="frames",
        codec=pictures[0].suffix.lstrip(".").lower(),
        width=first.shape[1],
        height=first.shape[0],
        rotation=0,
        mirrored=False,
        crop=None,
        time_base=None,
        announced_frames=len(pictures),
        size_bytes=sum(p.stat().st_size for p in pictures),
        mtime_ns=max(p.stat().st_mtime_ns for p in pictures),
        seekable=True,
        paired=True,
        damage=None,
        note=None,
        pts=frames,
        keyframes=np.stack([frames, frames, frames], axis=1),
    )
