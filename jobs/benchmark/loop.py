"""Long videos, and many, out of a short one: its packets repeated, nothing encoded again.

    loop_video(Path("rally.mp4"), Path("hour.mp4"), frames=108_000)

For measuring and for tests.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tracknet.pipeline.decoding.probe import video_stream


def loop_video(clip: Path, path: Path, frames: int, title: str = "") -> Path:
    """Repeat a clip's packets until the video has as many frames.

    Args:
        clip: a video of a constant frame rate whose first packet is a keyframe.
        path: to write; its suffix picks the container.
        frames: of the video; one is cut off within a repeat, too.
        title: stands in the file, so that videos of the same packets differ in content.
    """
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        template: Any = video_stream(source)
        stream: Any = output.add_stream_from_template(template)
        output.metadata["title"] = title
        packets: list[tuple[bytes, Any, Any, bool]] = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in source.demux(template)
            if packet.size
        ]
        step = round(len(packets) / (Fraction(template.average_rate) * template.time_base))
        for i in range(frames):
            data, pts, dts, is_keyframe = packets[i % len(packets)]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, template.time_base
            packet.pts = pts + i // len(packets) * step
            packet.dts = dts + i // len(packets) * step
            packet.is_keyframe = is_keyframe
            output.mux(packet)
    return path
