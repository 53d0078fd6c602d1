"""Probe a video: read every packet's timestamps, decode next to nothing.

`probe` runs inside the decoder process (`pipeline.decoding.child`), because a container parser
may crash or hang on a hostile file just as a decoder may.  It reads the file once, from packet to
packet, and hashes its bytes.

Packets and frames correspond one to one in almost every file.  Where they do not (no timestamps,
doubled timestamps, hidden frames) the frames are counted by decoding the file once; this is slow,
right, and rare.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition

from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import VideoError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_REHEARSAL_PACKETS = 48
_HIDDEN_FRAME_CODECS = {"vp8"}  # alternate reference frames are packets that are never shown
_INDEXED_CONTAINERS = {"mov", "mp4"}  # the header lists every sample, so a short file is cut off

Heartbeat = Callable[[], None]


def probe(path: Path, heartbeat: Heartbeat) -> Video:
    """Probe a video file or a folder of pictures.

    Args:
        path: the file or folder.
        heartbeat: called at least every few megabytes or few hundred packets, so that whoever
            waits can tell slow from stuck.

    Raises:
        VideoError: there is no such file, it is empty, no video, or holds no picture at all.
    """
    if path.is_dir():
        return _probe_pictures(path, heartbeat)
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    stat = path.stat()
    if stat.st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    video_id = fingerprint([path], heartbeat)
    try:
        with av.open(str(path)) as container:
            return _probe_container(container, path, video_id, stat.st_size, heartbeat)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: not a video that FFmpeg can open ({error})") from error


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
    """The pictures of a folder in natural order (`2.jpg` before `10.jpg`)."""
    pictures = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
    return sorted(pictures, key=lambda p: [int(s) if s.isdigit() else s for s in _words(p.stem)])


def _words(stem: str) -> list[str]:
    # Alternates text, digits, text, ...: natural order compares like with like.
    return re.split(r"(\d+)", stem)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first real video stream; cover art does not count.

    Raises:
        VideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams}))
    raise VideoError(f"{container.name}: no video stream (it holds {kinds or 'nothing'})")


def quarter_turns(frame: av.VideoFrame) -> int:
    """The frame's display rotation in degrees counter-clockwise: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) % 4 * 90


def _probe_container(
    container: av.container.InputContainer,
    path: Path,
    video_id: str,
    size_bytes: int,
    heartbeat: Heartbeat,
) -> Video:
    stream = video_stream(container)
    pts, presented, keys, damage = _read_packets(container, stream, heartbeat)
    if not pts:
        raise VideoError(f"{path}: the video stream holds no packets")
    announced = stream.frames
    containers = set(container.format.name.split(","))
    if damage is None and containers & _INDEXED_CONTAINERS and announced > len(pts):
        damage = f"cut off: the header lists {announced} frames, {len(pts)} are in the file"

    rehearsal = _rehearse(path)
    usable = None not in pts and len(set(pts)) == len(pts)
    seekable = usable and rehearsal.matches and stream.codec.name not in _HIDDEN_FRAME_CODECS
    if seekable:
        times = np.sort(np.array([t for t, show in zip(pts, presented, strict=True) if show]))
        keyframes = _keyframe_table(times.astype(np.int64), keys)
    else:
        times = _count_by_decoding(path, heartbeat)
        keyframes = np.zeros((1, 3), dtype=np.int64)
    if not len(times):
        raise VideoError(f"{path}: no frame of it can be decoded")
    width, height = stream.codec_context.width, stream.codec_context.height
    if rehearsal.rotation in (90, 270):
        width, height = height, width
    if not width or not height:
        raise VideoError(f"{path}: the picture has no size ({width}x{height})")
    return Video(
        video_id=video_id,
        source=str(path),
        kind="file",
        container=container.format.name,
        codec=stream.codec.name,
        width=width,
        height=height,
        rotation=rehearsal.rotation,
        time_base=stream.time_base,
        announced_frames=announced,
        size_bytes=size_bytes,
        mtime_ns=path.stat().st_mtime_ns,
        seekable=seekable,
        damage=damage,
        pts=times.astype(np.int64),
        keyframes=keyframes,
    )


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream, heartbeat: Heartbeat
) -> tuple[list, list[bool], list[tuple[int, int]], str | None]:
    """All packets' PTS, whether each is presented, the keyframes' (PTS, DTS), and damage."""
    pts: list = []
    presented: list[bool] = []
    keys: list[tuple[int, int]] = []
    damage = None
    packets = container.demux(stream)
    try:
        for packet in packets:
            if not packet.size:
                continue
            if packet.is_corrupt:
                damage = f"cut off: packet {len(pts)} is incomplete"
            pts.append(packet.pts)
            # An edit list plays only a part: the packets before it are decoded, never shown.
            presented.append(not packet.is_discard)
            if packet.is_keyframe and packet.pts is not None:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            if len(pts) % 256 == 0:
                heartbeat()
    except av.error.FFmpegError as error:
        damage = f"unreadable after {len(pts)} packets ({error})"
    return pts, presented, keys, damage


def _keyframe_table(times: np.ndarray, keys: list[tuple[int, int]]) -> np.ndarray:
    """Rows (frame, pts, dts); frame 0 always stands for the start of the file."""
    table = {0: (int(times[0]), int(times[0]))}
    for pts, dts in sorted(keys):
        frame = int(np.searchsorted(times, pts))
        if 0 < frame < len(times) and times[frame] == pts:
            table[frame] = (pts, dts)
    return np.array([(frame, *table[frame]) for frame in sorted(table)], dtype=np.int64)


class _Rehearsal:
    """The first packets, decoded: do frames match packets, and how is the picture turned?"""

    def __init__(self, matches: bool, rotation: int) -> None:
        self.matches = matches
        self.rotation = rotation


def _rehearse(path: Path) -> _Rehearsal:
    with av.open(str(path)) as container:
        stream = video_stream(container)
        expected, found, rotation = [], [], 0
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                expected.append(packet.pts)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                return _Rehearsal(True, rotation)  # damaged: the index is all there is
            for frame in frames:
                rotation = quarter_turns(frame)
                found.append(frame.pts)
            if len(expected) >= _REHEARSAL_PACKETS:
                break
        with contextlib.suppress(av.error.FFmpegError, EOFError):  # flushed by its end already
            found += [frame.pts for frame in stream.codec_context.decode(None)]
    # Damage loses frames, it invents none; a hidden frame leaves a gap without a complaint.
    return _Rehearsal(None not in found and set(found) == set(expected), rotation)


def _count_by_decoding(path: Path, heartbeat: Heartbeat) -> np.ndarray:
    times: list[int] = []
    for frame in decode_all(path):
        # A clock that does not run forward is no clock; count on from the last frame.
        after_last = times[-1] + 1 if times else 0
        times.append(frame.pts if frame.pts is not None and frame.pts >= after_last else after_last)
        if len(times) % 16 == 0:
            heartbeat()
    return np.array(times, dtype=np.int64)


def decode_all(path: Path) -> Iterator[av.VideoFrame]:
    """Every frame that FFmpeg gives up, from the start, past packets that it refuses."""
    with av.open(str(path)) as container:
        stream = video_stream(container)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue


def _probe_pictures(folder: Path, heartbeat: Heartbeat) -> Video:
    pictures = list_pictures(folder)
    if not pictures:
        raise VideoError(f"{folder}: holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
    first = cv2.imread(str(pictures[0]))
    if first is None:
        raise VideoError(f"{pictures[0]}: not a picture that can be read")
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
        time_base=None,
        announced_frames=len(pictures),
        size_bytes=sum(p.stat().st_size for p in pictures),
        mtime_ns=max(p.stat().st_mtime_ns for p in pictures),
        seekable=True,
        damage=None,
        pts=frames,
        keyframes=np.stack([frames, frames, frames], axis=1),
    )
