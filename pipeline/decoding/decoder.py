"""Decoding that can be killed: the parent's side of the decoder process.

`Decoder` owns one child process (`pipeline.decoding.child`), gives it a deadline for every sign of
progress and a memory limit, replaces it after a while, and tries again when it dies.  Because
frames do not depend on where decoding started, a second attempt goes on at the first frame that
was not delivered:

    Decord  ->  Decord again, in a new process  ->  PyAV  ->  give up, and say so

Damage that FFmpeg reports skips straight to PyAV, which tells frame by frame what is missing.

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
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Literal

import numpy as np

import tracknet
from tracknet.pipeline.decoding.video import Video, video_from_message
from tracknet.pipeline.errors import DecodeTimeout, VideoError

Backend = Literal["decord", "pyav"]
SLOTS = 4
BATCH_FRAMES = 8  # frames handed over at once; a slot of the shared memory holds as many


@dataclass(frozen=True)
class DecoderLimits:
    """What the decoder process may use, and how it is started.

    Attributes:
        deadline_s: seconds without a sign of progress after which it is killed.
        memory_bytes: limit of its private memory; an allocation beyond it fails.
        recycle_after: shards after which a fresh process takes over, because decoders leak.
        command: the program, to which one JSON argument is added.
        backend: what decodes files first, `decord` where there is one, or `pyav`.
    """

    deadline_s: float = 60.0
    memory_bytes: int = 4 << 30
    recycle_after: int = 64
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "tracknet.pipeline.decoding.child")
    backend: Backend = "decord"


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

        Raises:
            VideoError: it cannot be read; a `DecodeTimeout` when probing hung.
        """
        try:
            self._start(shared_bytes=self._shared_bytes or mmap.PAGESIZE)
            self._send({"op": "probe", "path": str(path)})
            header = self._receive()["video"]
            return video_from_message(header, self._pipe.recv_bytes())
        except (_ChildDied, _ChildFailed) as error:
            self.close()
            raise VideoError(f"{path}: {_without_path(str(error), path)}") from error
        except DecodeTimeout as error:
            self.close()
            raise DecodeTimeout(f"{path}: {error}") from error

    def read(self, video: Video, frames: range, width: int, height: int) -> FrameReader:
        """The frames `frames`, decoded from the keyframe before them.

        Args:
            video: from `probe`; its `source` is opened again.
            frames: what to decode, consecutive.
            width, height: network size; pictures are scaled by the decoder, bilinear.
        """
        if self._served >= self.limits.recycle_after:
            self.close()
        self._served += 1
        return FrameReader(self, video, frames, width, height)

    def _start(self, shared_bytes: int) -> None:
        if self._process is not None and shared_bytes <= self._shared_bytes:
            return
        self.close()
        self._shared_bytes, self._served = shared_bytes, 0
        self._pipe, theirs = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        # A file without a name in memory: nothing is left behind, whoever is killed.
        shm = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryFile(dir=shm) as shared, theirs:
            shared.truncate(shared_bytes)
            self._memory = mmap.mmap(shared.fileno(), shared_bytes)
            arguments = {
                "pipe_fd": theirs.fileno(),
                "memory_fd": shared.fileno(),
                "shared_bytes": shared_bytes,
                "memory_bytes": self.limits.memory_bytes,
                "deadline_s": self.limits.deadline_s,
            }
            root = str(Path(tracknet.__file__).parent.parent)
            self._process = subprocess.Popen(
                [*self.limits.command, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(), shared.fileno()),
                env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            )

    def _send(self, message: dict[str, Any], payload: bytes | None = None) -> None:
        try:
            self._pipe.send_bytes(json.dumps(message).encode())
            if payload is not None:
                self._pipe.send_bytes(payload)
        except OSError as error:
            raise _ChildDied(self._obituary()) from error

    def _receive(self) -> dict[str, Any]:
        """The next message that is not just a sign of life."""
        while True:
            if not self._pipe.poll(self.limits.deadline_s):
                raise DecodeTimeout(
                    f"no progress for {self.limits.deadline_s:g} s; the decoder was killed"
                )
            try:
                message = json.loads(self._pipe.recv_bytes())
            except (EOFError, OSError) as error:
                raise _ChildDied(self._obituary()) from error
            if "error" in message:
                raise _ChildFailed(message["error"], message["message"])
            if "alive" not in message:
                return message

    def _obituary(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 500))
        last_words = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return f"the decoder process died ({how}) {' '.join(last_words)}".strip()


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
        self.report = ReadReport()

    def __iter__(self) -> Iterator[FrameBatch]:
        plan = _decoders_to_try(self._video, self._decoder.limits)
        while plan and self._next < self._stop:
            name = plan.pop(0)
            self.report.attempts += 1
            try:
                for batch in self._attempt(name):
                    if name not in self.report.decoders:
                        self.report.decoders.append(name)
                    self._next = batch.first + batch.count
                    self.report.missing += [batch.first + offset for offset in batch.missing]
                    yield batch
            except _ChildFailed as error:
                self.report.errors.append(f"{name}: {error}")
                # Trying the same again would say the same; only a death may have been an accident.
                plan = [other for other in plan if other != name]
            except (_ChildDied, DecodeTimeout) as error:
                self.report.errors.append(f"{name}: {error}")
            if self._next < self._stop:
                self._decoder.close()
        self.report.missing += range(self._next, self._stop)
        self.report.damage = self._damage()

    def _attempt(self, name: str) -> Iterator[FrameBatch]:
        decoder, video = self._decoder, self._video
        frame_bytes = int(np.prod(self._shape))
        slot_bytes = BATCH_FRAMES * frame_bytes
        decoder._start(SLOTS * slot_bytes)
        keys = video.keyframes
        key = keys[np.searchsorted(keys[:, 0], self._next, side="right") - 1].tolist()
        decode = {
            "kind": video.kind,
            "decoder": name,
            "seekable": video.seekable,
            "rotation": video.rotation,
            "width": self._shape[1],
            "height": self._shape[0],
            "start": self._next,
            "stop": self._stop,
        }
        request = {"op": "decode", "path": video.source, "slots": SLOTS, "key": key}
        decoder._send({**request, "decode": decode}, video.pts[key[0] : self._stop].tobytes())
        while "frames" in (message := decoder._receive()):
            part = message["frames"]
            present = part["count"] - len(part["missing"])
            pictures = np.frombuffer(
                decoder._memory,
                dtype=np.uint8,
                count=present * frame_bytes,
                offset=part["slot"] * slot_bytes,
            ).reshape(present, *self._shape)
            yield FrameBatch(part["first"], part["count"], pictures, tuple(part["missing"]))
            decoder._send({"free": part["slot"]})
        if message["complaints"]:
            self.report.errors.append(f"{name}: FFmpeg reported {message['complaints']} errors")

    def _damage(self) -> str | None:
        if self.report.missing:
            return f"{len(self.report.missing)} of its frames cannot be decoded"
        # A complaint of Decord's that PyAV does not share was about the copy, not about the file.
        if any(error.startswith("pyav: FFmpeg") for error in self.report.errors):
            return "damaged data; FFmpeg patched the pictures up"
        return None


class _ChildDied(Exception):
    """The decoder process ended without an answer."""


class _ChildFailed(Exception):
    """The decoder process answered with an error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def decord_available() -> bool:
    """Whether this platform has Decord; asked without importing it."""
    from importlib.util import find_spec

    return find_spec("decord") is not None


def _decoders_to_try(video: Video, limits: DecoderLimits) -> list[str]:
    if video.kind == "frames":
        return ["opencv", "opencv"]
    if video.seekable and limits.backend == "decord" and decord_available():
        return ["decord", "decord", "pyav"]
    return ["pyav", "pyav"]


def _without_path(message: str, path: Path) -> str:
    return message.removeprefix(f"{path}: ")
