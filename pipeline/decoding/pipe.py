"""How the decoder and its child talk: one message is one JSON line, and raw bytes behind it.

Never pickle: what comes out of a hostile decoder is data.  A message is sent whole or not at all,
and both ends give up a transfer that stands still, so nobody waits for the second half of one.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
from multiprocessing.connection import Connection
from typing import Any


def pack(message: dict[str, Any], payload: bytes = b"") -> bytes:
    """A message as bytes.

    >>> unpack(pack({"id": 1}, bytes(2)))
    ({'id': 1}, b'\\x00\\x00')
    """
    return json.dumps(message).encode() + b"\n" + payload


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of `pack`."""
    line, _, payload = data.partition(b"\n")
    return json.loads(line), payload


def limit_transfers(connection: Connection, seconds: float) -> None:
    """Make a read or write that stands still for so long fail with `BlockingIOError`."""
    seconds = max(seconds, 0.001)
    time = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, time)


def unnamed_memory(size: int) -> int:
    """A file descriptor of memory to share: nothing is left behind, whoever is killed.

    Linux has memory that does not depend on how large /dev/shm is; elsewhere it is a file, whose
    room is taken now, since a lack of it later would be a SIGBUS.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tracknet", 0)
        os.ftruncate(descriptor, size)
        return descriptor
    with tempfile.TemporaryFile() as file:
        descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    return descriptor
