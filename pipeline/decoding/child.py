"""The decoder process: it alone touches untrusted video, and it may be killed at any moment.

Started by `decoding.decoder` as `python -m pipeline.decoding.child`, it answers requests on a pipe.
Messages are JSON (never pickle: what comes out of a hostile decoder is data), pictures go through
shared memory that has no name and so cannot be left behind.

    {"op": "probe", ...}   ->  {"alive"}*  {"video"} + int64 arrays
    {"op": "decode", ...}  ->  ({"frames", slot, first, count, missing} <- {"free": slot})*  {"end"}
    anything that fails    ->  {"error": kind, "message": text}

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
from collections.abc import Iterator
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tracknet.pipeline.decoding.decoder import BATCH_FRAMES
from tracknet.pipeline.decoding.probe import decode_all, list_pictures, probe, video_stream
from tracknet.pipeline.decoding.segments import Keyframe, cut_segments, packets_from_keyframe, remux
from tracknet.pipeline.errors import VideoError

_SCALER = "BILINEAR"  # what Decord scales with, so that both decoders give the same picture
# "mmco: unref" asks to forget a picture that was never read, because decoding began after it.
_COMPLAINT = re.compile(rb"^\[[\w,/ ]+ @ 0x[0-9a-f]+\] (?!mmco: unref)", re.MULTILINE)


class DecoderComplaint(Exception):
    """FFmpeg reported damage while Decord decoded: its next frames are not to be trusted."""


@dataclass(frozen=True)
class Request:
    """What to decode: the frames `[start, stop)`, starting the decoder at a keyframe.

    `pts` holds the timestamps of `[key.frame, stop)`; `width` and `height` are the network's.
    """

    path: Path
    kind: str
    decoder: str
    seekable: bool
    rotation: int
    width: int
    height: int
    key: Keyframe
    start: int
    stop: int
    pts: np.ndarray

    def stored_size(self) -> tuple[int, int]:
        """Width and height to decode at, before the picture is turned."""
        turned = self.rotation in (90, 270)
        return (self.height, self.width) if turned else (self.width, self.height)

    def turn(self, pictures: np.ndarray) -> np.ndarray:
        """Turn pictures `[..., H, W, 3]` as they are displayed."""
        return np.rot90(pictures, self.rotation // 90, axes=(-3, -2))


class Channel:
    """The child's end: messages out, free slots in, pictures into shared memory."""

    def __init__(self, connection: Connection, memory: mmap.mmap, deadline_s: float) -> None:
        self.connection = connection
        self.memory = memory
        self.deadline_s = deadline_s
        self.free: list[int] = []
        self.last_sent = 0.0

    def arm(self, seconds: float) -> None:
        # The kernel's timer ends this process even while a decoder spins inside the interpreter
        # lock, so that nothing survives a parent that was killed.
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def send(self, message: dict[str, Any], payload: bytes | None = None) -> None:
        self.connection.send_bytes(json.dumps(message).encode())
        if payload is not None:
            self.connection.send_bytes(payload)
        self.last_sent = time.monotonic()
        self.arm(2 * self.deadline_s)

    def alive(self) -> None:
        """Say that work goes on, at most once a second."""
        if time.monotonic() - self.last_sent > 1.0:
            self.send({"alive": True})

    def receive(self) -> dict[str, Any]:
        self.arm(0)  # waiting for the parent is no hang
        message = json.loads(self.connection.recv_bytes())
        self.arm(2 * self.deadline_s)
        return message

    def put(self, first: int, pictures: list[np.ndarray | None]) -> None:
        """Hand over frames `first, first + 1, ...`; None stands for one without a picture."""
        while not self.free:
            self.free.append(self.receive()["free"])
        slot = self.free.pop()
        present = [p for p in pictures if p is not None]
        if present:
            size = present[0].nbytes
            for i, picture in enumerate(present):
                offset = (slot * BATCH_FRAMES + i) * size
                self.memory[offset : offset + size] = np.ascontiguousarray(picture).data.cast("B")
        missing = [i for i, picture in enumerate(pictures) if picture is None]
        self.send({"frames": {"slot": slot, "first": first, "missing": missing,
                              "count": len(pictures)}})  # fmt: skip


class FrameSink:
    """Puts decoded pictures in order and notes frames that never came.

    Pictures arrive by ascending frame index, some may be left out; they leave in batches that
    cover `[start, stop)` without gaps.
    """

    def __init__(self, channel: Channel, start: int, stop: int) -> None:
        self.channel = channel
        self.next = start
        self.stop = stop
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
        if len(self.batch) == BATCH_FRAMES:
            self._flush()

    def _flush(self) -> None:
        if self.batch:
            self.channel.put(self.next, self.batch)
            self.next += len(self.batch)
            self.batch = []


def complaints() -> int:
    """Lines that FFmpeg wrote to this process's standard error since it was last emptied."""
    size = os.fstat(2).st_size
    return len(_COMPLAINT.findall(os.pread(2, min(size, 1 << 20), 0))) if size else 0


def decode_with_decord(request: Request, sink: FrameSink) -> None:
    """Decode `[start, stop)` segment by segment.

    Raises:
        DecoderComplaint: FFmpeg complained, or Decord disagrees about the frames of a segment;
            everything handed over before is sound.
    """
    import decord  # only here: PyAV serves the platforms for which Decord has no wheel

    frame_of = {int(pts): request.key.frame + i for i, pts in enumerate(request.pts)}
    with av.open(str(request.path)) as container:
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
            width, height = request.stored_size()
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
    for start in range(0, len(frames), BATCH_FRAMES):
        part = frames[start : start + BATCH_FRAMES]
        pictures = np.from_dlpack(_Lent(reader.get_batch(range(start, start + len(part)))))
        # FFmpeg decodes ahead of what it hands out, so a complaint is here before its frame is.
        if count := complaints():
            raise DecoderComplaint(f"FFmpeg reported {count} errors")
        for frame, picture in zip(part, request.turn(pictures), strict=True):
            if frame is not None:
                sink.add(frame, picture)


def decode_with_pyav(request: Request, sink: FrameSink, channel: Channel) -> None:
    """Decode `[start, stop)` with FFmpeg directly: slower, and it tells frame by frame."""
    width, height = request.stored_size()
    if request.seekable:
        frame_of = {int(pts): request.key.frame + i for i, pts in enumerate(request.pts)}
        frames = ((frame_of.get(f.pts, -1), f) for f in _decode_from_keyframe(request))
    else:
        frames = ((i, f) for i, f in enumerate(decode_all(request.path)))
    for index, frame in frames:
        if sink.wants(index):
            scaled = frame.reformat(width, height, format="rgb24", interpolation=_SCALER)
            sink.add(index, request.turn(scaled.to_ndarray()))
        else:
            channel.alive()
        if sink.complete():
            return


def _decode_from_keyframe(request: Request) -> Iterator[Any]:
    with av.open(str(request.path)) as container:
        stream = video_stream(container)
        packets = packets_from_keyframe(container, stream, request.key)
        while True:
            try:
                packet = next(packets)
                yield from packet.decode()
            except StopIteration:
                break
            except av.error.FFmpegError:
                continue  # the frames it should have given stay missing, and are reported so
        try:
            yield from stream.codec_context.decode(None)
        except (av.error.FFmpegError, EOFError):
            return


def decode_pictures(request: Request, sink: FrameSink) -> None:
    """Read the frames `[start, stop)` of a folder of pictures; an unreadable one stays missing."""
    for index, path in enumerate(list_pictures(request.path)[request.start : request.stop]):
        picture = cv2.imread(str(path))
        if picture is not None:
            scaled = cv2.resize(
                picture, (request.width, request.height), interpolation=cv2.INTER_AREA
            )
            sink.add(request.start + index, cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB))


def serve(channel: Channel) -> None:
    """Answer requests until the parent closes the pipe."""
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        if "free" in message:
            continue  # a slot of the request before, given back after its last frame
        try:
            _answer(message, channel)
        except DecoderComplaint as complaint:
            channel.send({"error": "complaint", "message": str(complaint)})
        except (VideoError, av.error.FFmpegError, RuntimeError, ValueError, OSError) as error:
            # Decord's errors are RuntimeErrors; MemoryError is left to end the process.
            channel.send({"error": type(error).__name__, "message": str(error)[:2000]})


def _answer(message: dict[str, Any], channel: Channel) -> None:
    os.ftruncate(2, 0)
    if message["op"] == "probe":
        video = probe(Path(message["path"]), channel.alive)
        header = {f.name: getattr(video, f.name) for f in fields(video)
                  if f.name not in ("pts", "keyframes", "time_base")}  # fmt: skip
        header["n_frames"] = video.frames
        header["time_base"] = video.time_base and video.time_base.as_integer_ratio()
        channel.send({"video": header}, video.pts.tobytes() + video.keyframes.tobytes())
        return
    channel.free = list(range(message["slots"]))
    pts = np.frombuffer(channel.connection.recv_bytes(), dtype=np.int64)
    key = Keyframe(*message["key"])
    request = Request(path=Path(message["path"]), key=key, pts=pts, **message["decode"])
    sink = FrameSink(channel, request.start, request.stop)
    if request.kind == "frames":
        decode_pictures(request, sink)
    elif request.decoder == "decord":
        decode_with_decord(request, sink)
    else:
        decode_with_pyav(request, sink, channel)
    sink.finish()
    channel.send({"end": True, "complaints": complaints()})


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
