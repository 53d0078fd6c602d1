"""The decoder process: it alone touches untrusted video, and it may be killed at any moment.

Started by `decoding.decoder` as `python -m pipeline.decoding.child`, it answers requests on a pipe
(`decoding.pipe`); pictures go through shared memory that has no name and so cannot be left behind.

                           ->  {"ready"}
    {"op": "probe", ...}   ->  {"alive"}*  {"video"} + int64 arrays
    {"op": "decode", ...}  ->  ({"frames", slot, first, count, missing} <- {"free": slot})*
                               {"end", complaints, first}
    {"op": "verify", ...}  ->  {"alive"}*  {"unchanged"}
    anything that fails    ->  {"error": kind, "message": text, "machine": whose fault}

Every message carries the number of its request.  A new request ends the one before.

Decord is shown one *segment* of a few GOPs at a time (`decoding.segments` says why).  It replaces
damaged frames in silence, but the FFmpeg inside it complains on standard error, and that is read
before any frame is passed on.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tracknet.pipeline.decoding.geometry import Geometry
from tracknet.pipeline.decoding.pipe import pack, unpack
from tracknet.pipeline.decoding.probe import (
    decode_packets,
    fingerprint,
    list_pictures,
    open_video,
    probe,
    read_picture,
    video_stream,
)
from tracknet.pipeline.decoding.segments import Keyframe, cut_segments, packets_from_keyframe, remux
from tracknet.pipeline.errors import MachineError, VideoError
from tracknet.pipeline.spec import Box

# "mmco: unref" asks to forget a picture that was never read, because decoding began after it;
# "Packet corrupt" is the demuxer's guess at every joint, and the decoder knows better.
_PICTURE_COMPLAINT = b"Premature end of JPEG", b"Corrupt JPEG data: premature", b"bad Huffman"
_COMPLAINT = re.compile(
    r"^\[([\w,/ ]+) @ 0x[0-9a-f]+\] (?!mmco: unref|Packet corrupt)(.*)", re.MULTILINE
)


class DecoderComplaint(Exception):
    """FFmpeg reported damage while Decord decoded: its next frames are not to be trusted."""


class Superseded(Exception):
    """The parent asks for something else and has no use for what is being decoded."""

    def __init__(self, message: dict[str, Any], payload: bytes) -> None:
        super().__init__()
        self.request = message, payload


@dataclass(frozen=True)
class Request:
    """What to decode: the frames `[start, stop)`, starting the decoder at a keyframe.

    `pts` holds the timestamps of `[key.frame, stop)`; `width` and `height` are the network's;
    `batch` frames are handed over at once.
    """

    path: Path
    kind: str
    decoder: str
    seekable: bool
    geometry: Geometry
    width: int
    height: int
    batch: int
    key: Keyframe
    start: int
    stop: int
    pts: np.ndarray


class Channel:
    """The child's end: messages out, free slots in, pictures into shared memory."""

    def __init__(self, connection: Connection, memory: mmap.mmap, deadline_s: float) -> None:
        self.connection = connection
        self.memory = memory
        self.deadline_s = deadline_s
        self.free: list[int] = []
        self.request = 0
        self.last_sent = 0.0

    def arm(self, seconds: float) -> None:
        # The kernel's timer ends this process even while a decoder spins inside the interpreter
        # lock, so that nothing survives a parent that was killed.
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        self.connection.send_bytes(pack({**message, "id": self.request}, payload))
        self.last_sent = time.monotonic()
        self.arm(2 * self.deadline_s)

    def alive(self) -> None:
        """Say that work goes on, at most once a second."""
        if time.monotonic() - self.last_sent > 1.0:
            self.send({"alive": True})

    def receive(self) -> tuple[dict[str, Any], bytes]:
        self.arm(0)  # waiting for the parent is no hang
        message = unpack(self.connection.recv_bytes())
        self.arm(2 * self.deadline_s)
        return message

    def put(self, first: int, pictures: list[np.ndarray | None], batch: int) -> None:
        """Hand over frames `first, first + 1, ...`; None stands for one without a picture.

        Raises:
            Superseded: the parent no longer wants them.
        """
        while not self.free:
            message, payload = self.receive()
            if "op" in message:
                raise Superseded(message, payload)
            if message["id"] == self.request:
                self.free.append(message["free"])
        slot = self.free.pop()
        present = [p for p in pictures if p is not None]
        if present:
            size = present[0].nbytes
            for i, picture in enumerate(present):
                offset = (slot * batch + i) * size
                self.memory[offset : offset + size] = np.ascontiguousarray(picture).data.cast("B")
        missing = [i for i, picture in enumerate(pictures) if picture is None]
        self.send({"frames": {"slot": slot, "first": first, "missing": missing,
                              "count": len(pictures)}})  # fmt: skip


class FrameSink:
    """Puts decoded pictures in order and notes frames that never came.

    Pictures arrive by ascending frame index, some may be left out; they leave in batches that
    cover `[start, stop)` without gaps.
    """

    def __init__(self, channel: Channel, request: Request) -> None:
        self.channel = channel
        self.next = request.start
        self.stop = request.stop
        self.size = request.batch
        self.batch: list[np.ndarray | None] = []

    def wants(self, frame: int) -> bool:
        """False before the range (decoded for reference only), behind it, and for a repeat."""
        return self.next + len(self.batch) <= frame < self.stop

    def complete(self) -> bool:
        return self.next + len(self.batch) >= self.stop

    def add(self, frame: int, picture: np.ndarray) -> None:
        if not self.wants(frame):
            return
        while self.next + len(self.batch) < frame:
            self._append(None)
        self._append(picture)

    def finish(self) -> None:
        while not self.complete():
            self._append(None)
        self._flush()

    def _append(self, picture: np.ndarray | None) -> None:
        self.batch.append(picture)
        if len(self.batch) == self.size:
            self._flush()

    def _flush(self) -> None:
        if self.batch:
            self.channel.put(self.next, self.batch, self.size)
            self.next += len(self.batch)
            self.batch = []


def complaints(by: str | None = None) -> list[str]:
    """What was written to this process's standard error about damage in this request.

    Args:
        by: FFmpeg's name of the part that complains; None for all.
    """
    size = os.fstat(2).st_size
    text = os.pread(2, min(size, 1 << 20), 0).decode(errors="replace") if size else ""
    return [line for part, line in _COMPLAINT.findall(text) if by in (None, part)]


def decode_with_decord(request: Request, sink: FrameSink) -> None:
    """Decode `[start, stop)` segment by segment.

    Raises:
        DecoderComplaint: FFmpeg complained, or Decord disagrees about the frames of a segment;
            everything handed over before is sound.
    """
    import decord  # only here: PyAV serves the platforms for which Decord has no wheel

    frame_of = {int(pts): request.key.frame + i for i, pts in enumerate(request.pts)}
    with open_video(request.path) as container:
        stream = video_stream(container)
        packets = packets_from_keyframe(container, stream, request.key)
        for segment in cut_segments(packets, request.pts):
            order = np.argsort([packet.pts for packet in segment.packets], kind="stable")
            # Which frame each picture of the segment is; None for one that is not needed.
            frames = [
                frame_of.get(pts) if segment.owns(pts) else None
                for pts in (segment.packets[i].pts for i in order)
            ]
            while frames and (frames[-1] is None or not sink.wants(frames[-1])):
                frames.pop()
            if not frames:
                continue
            video = io.BytesIO(remux(segment.packets, order, stream))
            width, height = request.geometry.scaled_size(request.width, request.height)
            try:
                reader = decord.VideoReader(video, width=width, height=height, num_threads=1)
                _read_segment(reader, len(order), frames, request, sink)
            except decord.DECORDError as error:
                raise DecoderComplaint(str(error).splitlines()[0]) from error


@dataclass(frozen=True)
class _Lent:
    """Decord's array for NumPy to look at; Decord's own `asnumpy` would copy every picture."""

    array: Any

    def __dlpack__(self, **_: Any) -> Any:
        return self.array.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU, as DLPack numbers devices


def _read_segment(
    reader: Any, n_packets: int, frames: list[int | None], request: Request, sink: FrameSink
) -> None:
    if len(reader) != n_packets:
        raise DecoderComplaint(f"Decord sees {len(reader)} frames in {n_packets} packets")
    # Always from the first picture on: Decord's seek is off by some frames where B-frames are.
    for start in range(0, len(frames), request.batch):
        part = frames[start : start + request.batch]
        pictures = np.from_dlpack(_Lent(reader.get_batch(range(start, start + len(part)))))
        # FFmpeg decodes ahead of what it hands out, so a complaint is here before its frame is.
        if found := complaints():
            raise DecoderComplaint(f"FFmpeg reported {len(found)} errors ({found[0]})")
        shown = request.geometry.place(pictures, request.width, request.height)
        for frame, picture in zip(part, shown, strict=True):
            if frame is not None:
                sink.add(frame, picture)


def decode_with_pyav(request: Request, sink: FrameSink, channel: Channel) -> None:
    """Decode `[start, stop)` with FFmpeg directly: slower, and every picture brings its PTS."""
    with open_video(request.path) as container:
        stream = video_stream(container)
        frames: Iterable[tuple[int, av.VideoFrame]]
        if request.seekable:
            frame_of: dict[int | None, int] = {
                int(pts): request.key.frame + i for i, pts in enumerate(request.pts)
            }
            packets = packets_from_keyframe(container, stream, request.key)
            frames = ((frame_of.get(f.pts, -1), f) for f in decode_packets(packets, stream))
        else:  # counted by `probe` in the same way
            frames = enumerate(decode_packets(container.demux(stream), stream))
        for index, frame in frames:
            if sink.wants(index):
                sink.add(index, request.geometry.show(frame, request.width, request.height))
            else:
                channel.alive()
            if sink.complete():
                return


def decode_pictures(request: Request, sink: FrameSink) -> None:
    """Read the frames `[start, stop)` of a folder of pictures; an unreadable one stays missing."""
    geometry = request.geometry
    for index, path in enumerate(list_pictures(request.path)[request.start : request.stop]):
        start = os.fstat(2).st_size
        picture = read_picture(path)
        if picture is None:
            continue
        said = os.pread(2, 1000, start)  # OpenCV's libraries name no file
        if any(text in said for text in _PICTURE_COMPLAINT):
            _complain(f"{path.name} is damaged")
        if picture.shape[1::-1] != (geometry.width, geometry.height):
            size = f"{picture.shape[1]}x{picture.shape[0]}"
            _complain(f"{path.name} is {size} px, and was scaled to the others' size")
        shown = geometry.show_picture(picture, request.width, request.height)
        sink.add(request.start + index, shown)


def _complain(text: str) -> None:
    os.write(2, f"[picture @ 0x0] {text}\n".encode())


def serve(channel: Channel) -> None:
    """Answer requests until the parent closes the pipe."""
    channel.send({"ready": True})
    upcoming: tuple[dict[str, Any], bytes] | None = None
    while True:
        try:
            message, payload = upcoming or channel.receive()
        except EOFError:
            return
        upcoming = None
        if "free" in message:
            continue  # a slot of the request before, given back after its last frame
        channel.request = message["id"]
        try:
            _answer(message, payload, channel)
        except Superseded as newer:
            upcoming = newer.request
        except (DecoderComplaint, VideoError, av.error.FFmpegError) as error:
            _fail(channel, error, machine=False)
        except (MachineError, OSError) as error:
            _fail(channel, error, machine=True)
        except (RuntimeError, ValueError) as error:
            # Decord's errors are RuntimeErrors; MemoryError is left to end the process.
            _fail(channel, error, machine=False)


def _fail(channel: Channel, error: Exception, machine: bool) -> None:
    text = {"error": type(error).__name__, "message": str(error)[:2000], "machine": machine}
    channel.send(text)


def _answer(message: dict[str, Any], payload: bytes, channel: Channel) -> None:
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)  # or the next complaint stands behind a hole and is not found
    path = Path(message["path"])
    if message["op"] == "probe":
        video = probe(path, channel.alive)
        # Matroska's demuxer skips what it cannot read, and tells nobody else.
        if video.damage is None and (skipped := complaints("matroska,webm")):
            video = replace(video, damage=f"damaged container: {skipped[0]}")
        header = {f.name: getattr(video, f.name) for f in fields(video)
                  if f.name not in ("pts", "keyframes", "time_base")}  # fmt: skip
        header["n_frames"] = video.frames
        header["time_base"] = video.time_base and video.time_base.as_integer_ratio()
        channel.send({"video": header}, video.pts.tobytes() + video.keyframes.tobytes())
        return
    if message["op"] == "verify":
        files = list_pictures(path) if path.is_dir() else [path]
        channel.send({"unchanged": fingerprint(files, channel.alive) == message["video_id"]})
        return
    channel.free = list(range(message["slots"]))
    decode = message["decode"]
    crop = decode["geometry"].pop("crop")
    decode["geometry"] = Geometry(**decode["geometry"], crop=crop and Box(*crop))
    pts = np.frombuffer(payload, dtype=np.int64)
    request = Request(path=path, key=Keyframe(*message["key"]), pts=pts, **decode)
    sink = FrameSink(channel, request)
    if request.kind == "frames":
        decode_pictures(request, sink)
    elif request.decoder == "decord":
        decode_with_decord(request, sink)
    else:
        decode_with_pyav(request, sink, channel)
    sink.finish()
    found = complaints()
    channel.send({"end": True, "complaints": len(found), "first": found[0] if found else None})


def main() -> None:
    """Entry point; the parent passes two file descriptors and the limits as one JSON argument."""
    arguments = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (arguments["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(1)
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)
    memory = mmap.mmap(arguments["memory_fd"], arguments["shared_bytes"])
    connection = Connection(arguments["pipe_fd"])
    serve(Channel(connection, memory, arguments["deadline_s"]))


if __name__ == "__main__":
    main()
