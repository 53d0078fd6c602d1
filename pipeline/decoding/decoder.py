"""Decoding that can be killed: the parent's side of the decoder process.

`Decoder` owns one child process (`pipeline.decoding.child`), gives it a deadline for every sign of
progress and a memory limit, replaces it after a while, and tries again when it dies.  Frames of a
sound video do not depend on where decoding started, so a second attempt goes on at the first frame
that was not delivered:

    Decord  ->  Decord again, in a new process  ->  PyAV  ->  give up, and say so

Damage that FFmpeg reports skips straight to PyAV, which tells frame by frame what is missing.  So
does a video whose pictures cannot be counted (`Video.paired`) or are cropped for display.

In a damaged group of pictures (from a keyframe to the next) they may depend on it: what FFmpeg
patches up with depends on what it decoded before, and which decoder takes over on where the
attempt began.  So rows are the same to the bit for any shard length, but for frames of such groups.

The video's faults and the machine's are told apart.  A child that the operating system stopped
(no memory, no room) or that met an error of the operating system raises `MachineError`.  Before
damage is reported, the file is read through once more: only if it still is what was probed, the
damage is the video's.

    with Decoder() as decoder:
        video = decoder.probe(Path("rally.mp4"))
        reader = decoder.read(video, range(300), width=512, height=288)
        for batch in reader:
            ...                      # batch.pictures is valid until the next one
        reader.report                # attempts, decoders, errors, what is missing

This module knows nothing of Ray, of models or of tables.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tracknet.pipeline.decoding.pipe import limit_transfers, pack, unnamed_memory, unpack
from tracknet.pipeline.decoding.scratch import local_copy
from tracknet.pipeline.decoding.video import Video, video_from_message
from tracknet.pipeline.errors import DecodeTimeout, MachineError, VideoError

Backend = Literal["decord", "pyav"]
SLOTS = 4
BATCH_FRAMES = 8  # frames handed over at once; a slot of the shared memory holds as many
SLOT_BYTES = 16 << 20  # or as many as fit here, where pictures are large
_KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGBUS)  # no memory left, no room behind a mapping


@dataclass(frozen=True)
class DecoderLimits:
    """What the decoder process may use, and how it is started.

    Attributes:
        deadline_s: seconds without a sign of progress after which it is killed.
        start_s: seconds that it may take to start; a loaded machine is slow at that.
        memory_bytes: limit of its private memory; an allocation beyond it fails.
        recycle_after: shards after which a fresh process takes over, because decoders leak.
        command: the program, to which one JSON argument is added.
        backend: what decodes files first, `decord` where there is one, or `pyav`.
        copies_bytes: of all local copies of videos in object stores, see
            `pipeline.decoding.scratch`.
    """

    deadline_s: float = 60.0
    start_s: float = 60.0
    memory_bytes: int = 4 << 30
    recycle_after: int = 64
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "tracknet.pipeline.decoding.child")
    backend: Backend = "decord"
    copies_bytes: int = 50 << 30


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames `first ... first + count - 1`.

    Attributes:
        first: frame index.
        count: frames covered.
        pictures: uint8 `[count - len(missing), H, W, 3]` RGB; the next batch overwrites it.
        missing: offsets below `count` of frames without a picture.
    """

    first: int
    count: int
    pictures: np.ndarray
    missing: tuple[int, ...]

    def frames(self) -> Iterator[tuple[int, np.ndarray | None]]:
        """Each frame's index and a copy of its picture, None where it has none."""
        pictures = iter(self.pictures)
        for offset in range(self.count):
            picture = None if offset in self.missing else next(pictures).copy()
            yield self.first + offset, picture


@dataclass
class ReadReport:
    """How a shard was read.

    Attributes:
        decoders: what delivered frames, in order, such as `["decord"]`.
        attempts: how often decoding was started.
        errors: one line per failed attempt.
        missing: frames that no decoder could give.
        damage: words for the quarantine table when anything is missing or patched up; else None.
            It is always the video's: the machine's trouble is a `MachineError`.
    """

    decoders: list[str] = field(default_factory=list)
    attempts: int = 0
    errors: list[str] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    damage: str | None = None


class Decoder:
    """One decoder process, started when needed, restarted when it died or is worn."""

    def __init__(self, limits: DecoderLimits | None = None) -> None:
        self.limits = limits or DecoderLimits()
        self._process: subprocess.Popen[bytes] | None = None
        self._shared_bytes = 0
        self._served = 0
        self._request = 0
        self._verified: set[str] = set()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """Kill the child, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
            self._stderr.close()
            self._process = None

    def probe(self, path: Path) -> Video:
        """Read a file's or folder's index.

        Args:
            path: or URL, see `schemas.files.place`.

        Raises:
            VideoError: it is no video, or its container is broken; a `DecodeTimeout` when probing
                hung.
            MachineError: it is not there, cannot be read, changed meanwhile, or no decoder process
                can be kept alive.
        """
        with local_copy(str(path), self.limits.copies_bytes) as local:
            try:
                self._start(shared_bytes=self._shared_bytes or mmap.PAGESIZE)
                self._send({"op": "probe", "path": str(local)})
                message, arrays = self._receive()
                return replace(video_from_message(message["video"], arrays), source=str(path))
            except (_ChildDied, _ChildFailed) as error:
                self.close()
                kind = MachineError if error.machine else VideoError
                raise kind(f"{path}: {_without_path(str(error), local)}") from error
            except DecodeTimeout as error:
                self.close()
                raise DecodeTimeout(f"{path}: {error}") from error

    def read(self, video: Video, frames: range, width: int, height: int) -> FrameReader:
        """The frames `frames`, decoded from the keyframe before them.

        Args:
            video: from `probe`; its `source` is opened again.
            frames: what to decode, consecutive.
            width, height: of the pictures, px: the network's, or `video.width` and `video.height`
                for full size.  They show the video as displayed, its shape kept and black around
                it (`pipeline.spec.fit`); they are scaled by the decoder, bilinear.
        """
        if self._served >= self.limits.recycle_after:
            self.close()
        self._served += 1
        return FrameReader(self, video, frames, width, height)

    def verify(self, video: Video, path: Path) -> None:
        """Make sure that what could not be decoded is what was probed; each video once.

        Args:
            video: that was probed.
            path: of the file that was decoded.

        Raises:
            MachineError: it is gone, cannot be read, or has changed.
        """
        if video.video_id in self._verified:
            return
        try:
            self._start(self._shared_bytes or mmap.PAGESIZE)
            self._send({"op": "verify", "path": str(path), "video_id": video.video_id})
            unchanged = self._receive()[0]["unchanged"]
        except (_ChildDied, _ChildFailed, DecodeTimeout) as error:
            self.close()
            raise MachineError(f"{video.source}: cannot be read any more ({error})") from error
        if not unchanged:
            raise MachineError(f"{video.source}: changed after it was probed; run again")
        self._verified.add(video.video_id)

    def _start(self, shared_bytes: int) -> None:
        """Start a child, unless there is one with enough shared memory.

        Raises:
            MachineError: there is no room, or the child does not come up.
        """
        if self._process is not None and shared_bytes <= self._shared_bytes:
            return
        self.close()
        self._shared_bytes, self._served = shared_bytes, 0
        try:
            self._spawn(shared_bytes)
        except OSError as error:
            self.close()
            raise MachineError(f"no decoder process can be started: {error}") from error
        try:
            self._receive(self.limits.start_s)  # that it is ready
        except (_ChildDied, _ChildFailed, DecodeTimeout) as error:
            self.close()
            raise MachineError(f"the decoder process does not start: {error}") from error

    def _spawn(self, shared_bytes: int) -> None:
        self._pipe, theirs = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        limit_transfers(self._pipe, self.limits.deadline_s)
        shared = unnamed_memory(shared_bytes)
        with theirs:
            try:
                self._memory = mmap.mmap(shared, shared_bytes)
                arguments = {
                    "pipe_fd": theirs.fileno(),
                    "memory_fd": shared,
                    "shared_bytes": shared_bytes,
                    "memory_bytes": self.limits.memory_bytes,
                    "deadline_s": self.limits.deadline_s,
                }
                root = str(Path(str(files("tracknet"))).parent)
                paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
                self._process = subprocess.Popen(
                    [*self.limits.command, json.dumps(arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=(theirs.fileno(), shared),
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(paths),
                        "OMP_NUM_THREADS": "1",
                    },
                )
            finally:
                os.close(shared)
        self._request = 0

    def _send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        """Send a request, or the return of a slot that belongs to the last one."""
        self._request += "op" in message
        try:
            self._pipe.send_bytes(pack({**message, "id": self._request}, payload))
        except BlockingIOError as error:
            raise DecodeTimeout(self._no_progress(self.limits.deadline_s)) from error
        except OSError as error:
            raise self._obituary() from error

    def _receive(self, deadline_s: float | None = None) -> tuple[dict[str, Any], bytes]:
        """The next answer to the last request that is not just a sign of life."""
        deadline_s = deadline_s or self.limits.deadline_s
        while True:
            try:
                if not self._pipe.poll(deadline_s):
                    raise DecodeTimeout(self._no_progress(deadline_s))
                message, payload = unpack(self._pipe.recv_bytes())
            except BlockingIOError as error:
                raise DecodeTimeout(self._no_progress(deadline_s)) from error
            except (EOFError, OSError) as error:
                raise self._obituary() from error
            if message["id"] != self._request or "alive" in message:
                continue  # an answer to a request that was given up is nobody's
            if "error" in message:
                raise _ChildFailed(message["message"], message["machine"])
            return message, payload

    def _no_progress(self, seconds: float) -> str:
        return f"no progress for {seconds:g} s; the decoder was killed"

    def _obituary(self) -> _ChildDied:
        assert self._process is not None
        code = self._process.wait()
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 500))
        last_words = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        text = f"the decoder process died ({how}) {' '.join(last_words)}".strip()
        return _ChildDied(text, machine=-code in _KILLED_FROM_OUTSIDE)


class FrameReader:
    """Iterates over batches of frames, through as many attempts as it takes."""

    def __init__(
        self, decoder: Decoder, video: Video, frames: range, width: int, height: int
    ) -> None:
        self._decoder = decoder
        self._video = video
        self._shape = (height, width, 3)
        self._next = frames.start
        self._stop = frames.stop
        self._patched: str | None = None
        self.report = ReadReport()

    def __iter__(self) -> Iterator[FrameBatch]:
        """The frames, in order.

        Raises:
            MachineError: what is missing is not the video's fault.
        """
        with local_copy(self._video.source, self._decoder.limits.copies_bytes) as path:
            yield from self._batches(path)

    def _batches(self, path: Path) -> Iterator[FrameBatch]:
        plan = _decoders_to_try(self._video, self._decoder.limits)
        machine = False
        while plan and self._next < self._stop:
            name = plan.pop(0)
            self.report.attempts += 1
            try:
                for batch in self._attempt(name, path):
                    if name not in self.report.decoders:
                        self.report.decoders.append(name)
                    self._next = batch.first + batch.count
                    self.report.missing += [batch.first + offset for offset in batch.missing]
                    yield batch
            except (_ChildDied, _ChildFailed, DecodeTimeout) as error:
                self.report.errors.append(f"{name}: {error}")
                machine = getattr(error, "machine", False)
                if isinstance(error, _ChildFailed) and not machine:
                    # The same again would say the same; only a death may have been an accident.
                    plan = [other for other in plan if other != name]
            if self._next < self._stop:
                self._decoder.close()
        if machine and self._next < self._stop:
            raise MachineError(f"{self._video.source}: {self.report.errors[-1]}")
        self.report.missing += range(self._next, self._stop)
        damage = self._patched
        if self.report.missing:
            damage = f"{len(self.report.missing)} of its frames cannot be decoded"
        if damage is not None:
            self._decoder.verify(self._video, path)
        self.report.damage = damage

    def _attempt(self, name: str, path: Path) -> Iterator[FrameBatch]:
        decoder, video = self._decoder, self._video
        frame_bytes = int(np.prod(self._shape))
        n_batch = min(BATCH_FRAMES, max(1, SLOT_BYTES // frame_bytes))
        decoder._start(SLOTS * n_batch * frame_bytes)
        keys = video.keyframes
        key = keys[np.searchsorted(keys[:, 0], self._next, side="right") - 1].tolist()
        decode = {
            "kind": video.kind,
            "decoder": name,
            "seekable": video.seekable,
            "geometry": asdict(video.geometry),
            "width": self._shape[1],
            "height": self._shape[0],
            "batch": n_batch,
            "start": self._next,
            "stop": self._stop,
        }
        request = {"op": "decode", "path": str(path), "slots": SLOTS, "key": key}
        decoder._send({**request, "decode": decode}, video.pts[key[0] : self._stop].tobytes())
        number = decoder._request
        while "frames" in (message := decoder._receive()[0]):
            part = message["frames"]
            present = part["count"] - len(part["missing"])
            pictures = np.frombuffer(
                decoder._memory,
                dtype=np.uint8,
                count=present * frame_bytes,
                offset=part["slot"] * n_batch * frame_bytes,
            ).reshape(present, *self._shape)
            yield FrameBatch(part["first"], part["count"], pictures, tuple(part["missing"]))
            if decoder._request != number:
                raise VideoError("one Decoder serves one reader at a time")
            decoder._send({"free": part["slot"]})
        if message["complaints"]:
            text = f"{message['complaints']} errors ({message['first']})"
            self.report.errors.append(f"{name}: {text}")
            # A complaint of Decord's that PyAV does not share is about the copy, not the file.
            self._patched = None if name == "decord" else f"damage concealed by the decoder: {text}"


class _ChildDied(Exception):
    """The decoder process ended without an answer; `machine`: something outside ended it."""

    def __init__(self, text: str, machine: bool) -> None:
        super().__init__(text)
        self.machine = machine


class _ChildFailed(Exception):
    """The decoder process answered with an error; `machine`: the operating system's."""

    def __init__(self, text: str, machine: bool) -> None:
        super().__init__(text)
        self.machine = machine


def decord_available() -> bool:
    """Whether this platform has Decord; asked without importing it."""
    from importlib.util import find_spec

    return find_spec("decord") is not None


def _decoders_to_try(video: Video, limits: DecoderLimits) -> list[str]:
    if video.kind == "frames":
        return ["opencv", "opencv"]
    countable = video.paired and video.crop is None
    if countable and limits.backend == "decord" and decord_available():
        return ["decord", "decord", "pyav"]
    return ["pyav", "pyav"]


def _without_path(message: str, path: Path) -> str:
    return message.removeprefix(f"{path}: ")
