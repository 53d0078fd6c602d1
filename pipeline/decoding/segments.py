"""Cut a video's packets into little videos, so that Decord can be used without its traps.

Decord demultiplexes the whole file when it opens, then decodes ahead without a bound: a reader per
shard scans the file once per shard, and a waiting reader fills the memory with frames.  So it is
never shown the file.  Packets are copied, untouched, into an in-memory *segment* of a few GOPs, and
a segment is all that Decord can open or read ahead.  No picture is encoded again.

This module moves packets; it decodes nothing.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from tracknet.pipeline.errors import VideoError

SEGMENT_FRAMES = 512  # a segment ends at the first keyframe after as many packets


class Keyframe(NamedTuple):
    """A frame at which a decoder can start; frame 0 means the start of the file.

    From the start, packets in front of `pts` are left out: what they refer to is not in the file.
    """

    frame: int
    pts: int
    dts: int


@dataclass
class Segment:
    """Packets in decoding order from one keyframe on, and which presentation times are its own.

    Frames that are presented before the next segment's keyframe but decoded after it (an open
    GOP's leading pictures) belong to this segment, which therefore ends with that keyframe.
    """

    packets: list[Any]
    pts_from: float = -math.inf
    pts_before: float = math.inf

    def owns(self, pts: int) -> bool:
        return self.pts_from <= pts < self.pts_before


def cut_segments(packets: Iterable[Any], pts: np.ndarray) -> Iterator[Segment]:
    """Cut packets, in decoding order from a keyframe on, into segments.

    Args:
        packets: they are read as far as needed to hold every frame of `pts`.
        pts: int64, the frames wanted.  Each is owned by exactly one segment.
    """
    missing = set(pts.tolist())
    current = Segment([])
    upcoming: Segment | None = None
    for packet in packets:
        leading = upcoming is not None and packet.pts < upcoming.pts_from
        if upcoming is not None and not leading:
            yield current
            current, upcoming = upcoming, None
        current.packets.append(packet)
        if not leading and packet.is_keyframe and len(current.packets) > SEGMENT_FRAMES:
            current.pts_before = packet.pts
            upcoming = Segment([packet], pts_from=packet.pts)
        missing.discard(packet.pts)
        if not missing:
            break
    yield current
    if upcoming is not None:
        yield upcoming


def packets_from_keyframe(
    container: av.container.InputContainer, stream: av.VideoStream, key: Keyframe
) -> Iterator[Any]:
    """Packets in decoding order from a keyframe on, its leading pictures left out.

    Raises:
        VideoError: the container's seek went past the keyframe.
    """
    if key.frame == 0:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.pts >= key.pts:
                yield packet
        return
    container.seek(key.dts, stream=stream)
    started = False
    for packet in container.demux(stream):
        if not packet.size or packet.pts is None:
            continue
        if packet.pts == key.pts:
            started = True
        elif not started and packet.dts is not None and packet.dts > key.pts:
            raise VideoError(f"{container.name}: seeking to pts {key.pts} went past it")
        if started and packet.pts >= key.pts:
            yield packet


def remux(packets: list[Any], order: np.ndarray, template: av.VideoStream) -> bytes:
    """The packets as a Matroska file in memory, on a plain 25 Hz clock that no muxer can round.

    Args:
        packets: in decoding order.
        order: int64, indices of the packets by presentation time.
        template: the stream they come from, for the codec's parameters.
    """
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    reorder_delay = int(max(np.arange(len(rank)) - rank))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream_from_template(template, opaque=True)
        for i, packet in enumerate(packets):
            copy = av.Packet(bytes(packet))
            copy.time_base = Fraction(1, 25)
            copy.pts, copy.dts = int(rank[i]), i - reorder_delay
            copy.is_keyframe = packet.is_keyframe
            copy.stream = stream
            output.mux(copy)
    return buffer.getvalue()
