"""Video files that tests make for themselves: small, deterministic, and broken in known ways.

Every frame carries its own number (`read_number` gets it back after compression), so a test can
say *which* frame came out of a decoder, and not only how many.

    path = make_video(tmp_path / "clip.mp4", n=50, gop=10, rotation=90, audio=True)
    truncate(path, 0.5)

Everything is written with PyAV directly, not with `pictures.encode`: these files also test that.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

NUMBER_BITS = 12
BALL_COLOUR = (255, 255, 40)


def ball_position(i: int, width: int, height: int) -> tuple[float, float]:
    """Centre of the bright disk on frame `i`, in pixels: a Lissajous figure inside the picture."""
    x = width * (0.5 + 0.35 * np.sin(0.11 * i))
    y = height * (0.6 + 0.25 * np.sin(0.23 * i + 1))
    return float(x), float(y)


def draw_frame(i: int, width: int, height: int) -> np.ndarray:
    """Frame `i`, uint8 `[height, width, 3]` RGB: its number on top, a moving disk on a gradient."""
    picture = _gradient(width, height).copy()
    cx, cy = ball_position(i, width, height)
    radius = max(2.5, 0.03 * width)
    rows, columns = (slice(max(0, int(c - radius)), int(c + radius) + 1) for c in (cy, cx))
    y, x = np.ogrid[:height, :width]
    near = (x[:, columns] - cx) ** 2 + (y[rows] - cy) ** 2 <= radius**2
    picture[rows, columns][near] = BALL_COLOUR
    for bit, columns in enumerate(_number_columns(width)):
        picture[: _number_rows(height), columns] = 230 if i >> bit & 1 else 20
    return picture


@lru_cache(maxsize=4)
def _gradient(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([40 + 80 * x / width, 60 + 60 * y / height, 70 + 0 * x], axis=2)
    return picture.round().astype(np.uint8)


def read_number(picture: np.ndarray) -> int:
    """The number that `draw_frame` put on a picture, modulo 2**NUMBER_BITS; any size will do."""
    height, width, _ = picture.shape
    strip = picture[: _number_rows(height)].astype(float).mean(axis=(0, 2))
    bits = [strip[columns].mean() > 125 for columns in _number_columns(width)]
    return sum(int(bit) << place for place, bit in enumerate(bits))


def _number_rows(height: int) -> int:
    return max(4, height // 8)


def _number_columns(width: int) -> list[slice]:
    edges = np.linspace(0, width, NUMBER_BITS + 1).astype(int)
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def make_video(
    path: Path,
    n: int,
    width: int = 128,
    height: int = 72,
    *,
    codec: str = "libx264",
    gop: int = 12,
    bframes: int = 2,
    pts: Sequence[int] | None = None,
    fps: Fraction | float = 30,
    time_base: Fraction | None = None,
    open_gop: bool = False,
    rotation: int = 0,
    sample_aspect: Fraction | None = None,
    audio: bool = False,
    container: str | None = None,
    faststart: bool = False,
) -> Path:
    """Write `n` frames of `draw_frame` and return `path`.

    Args:
        codec: `libx264`, `mpeg4` (part 2), ...; odd sizes are stored as yuv444p in H.264 and as
            yuv420p in MPEG-4 part 2.
        gop, bframes, open_gop: keyframe distance (exact, no scene cuts), B-frames in between.
        pts: one timestamp per frame in `time_base` units, for variable frame rate.
        time_base: seconds per timestamp unit; by default one frame.
        rotation: degrees counter-clockwise by which a player turns the picture (mp4 only).
        sample_aspect: width by height of a pixel.
        audio: add an AAC track of the same length.
        container: muxer name (`matroska`, `mpegts`); by default the suffix decides.
        faststart: write the index in front of the pictures, so a truncated file still opens.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    time_base = time_base or 1 / rate
    times = list(range(n)) if pts is None else list(pts)
    if pts is None and time_base != 1 / rate:
        times = [round(i / (rate * time_base)) for i in range(n)]
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", format=container, options=options) as output:
        options = _codec_options(codec, gop, bframes, open_gop)
        stream: Any = output.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = width, height
        odd = width % 2 or height % 2
        stream.pix_fmt = "yuv444p" if odd and codec == "libx264" else "yuv420p"
        stream.codec_context.time_base = time_base
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        sound = output.add_stream("aac", rate=48_000) if audio else None
        for i, time in zip(range(n), times, strict=True):
            frame = av.VideoFrame.from_ndarray(draw_frame(i, width, height), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            _write_tone(output, sound, seconds=n / float(rate))
    if rotation:
        set_mp4_rotation(path, rotation)
    return path


def _codec_options(codec: str, gop: int, bframes: int, open_gop: bool) -> dict[str, str]:
    options = {"g": str(gop), "bf": str(bframes)}
    if codec == "libx264":
        options |= {"preset": "veryfast", "crf": "20", "threads": "1"}
        options["x264-params"] = f"scenecut=0:keyint={gop}:open-gop={int(open_gop)}"
    elif codec == "libx265":
        options |= {"preset": "ultrafast", "crf": "20"}
        fixed = f"keyint={gop}:min-keyint={gop}:bframes={bframes}:open-gop={int(open_gop)}"
        options["x265-params"] = f"{fixed}:scenecut=0:log-level=error:pools=1"
    else:
        options["b"] = "1000000"
    return options


def _write_tone(output: Any, stream: Any, seconds: float) -> None:
    rate, size = 48_000, 1024
    for start in range(0, int(seconds * rate), size):
        wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(start, start + size) / rate)
        samples = np.repeat(wave[None].astype(np.float32), 2, axis=0)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, start
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def audio_only(path: Path, seconds: float = 1.0) -> Path:
    """Write a file with an AAC track and no picture at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        _write_tone(output, output.add_stream("aac", rate=48_000), seconds)
    return path


def truncate(path: Path, fraction: float) -> Path:
    """Keep only the first `fraction` of the file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def corrupt(path: Path, offset_fraction: float, nbytes: int, seed: int = 0) -> Path:
    """Overwrite `nbytes` with noise, from `offset_fraction` of the file on; its size stays."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * offset_fraction)
    stop = min(len(data), start + nbytes)
    data[start:stop] = np.random.default_rng(seed).bytes(stop - start)
    path.write_bytes(data)
    return path


def set_mp4_rotation(path: Path, degrees: int) -> Path:
    """Make players turn the first video track by `degrees` counter-clockwise (a multiple of 90)."""
    cos, sin = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    # y points down, so a counter-clockwise turn has -sin on top.
    return set_mp4_matrix(path, cos, -sin, sin, cos)


def set_mp4_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Make players show stored (x, y) at (a x + c y, b x + d y): the first video track's matrix.

    Patches the display matrix in the track header, as a phone writes it: the coded pictures stay.
    """
    data = bytearray(path.read_bytes())
    for start in _track_headers(data):
        version = data[start + 4]
        matrix = start + 4 + 4 + (32 if version else 20) + 8 + 8
        if struct.unpack_from(">I", data, matrix + 36)[0] == 0:
            continue  # an audio track: its width is 0
        one = 0x10000  # 16.16 fixed point
        fields = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 0x40000000)
        struct.pack_into(">9i", data, matrix, *fields)
        path.write_bytes(data)
        return path
    raise ValueError(f"{path} has no video track header")


def set_clean_aperture(path: Path, width: int, height: int, right: int, down: int) -> Path:
    """Make players show `width` x `height` px, their middle `right` and `down` of the stored one.

    For H.264 in mp4, its index behind the pictures.
    """
    data = bytearray(path.read_bytes())
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, right, 1, down, 1)
    at = data.index(b"avc1", data.index(b"moov")) - 4
    at += struct.unpack_from(">I", data, at)[0]
    data[at:at] = clap
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        box = data.index(name, data.index(b"moov")) - 4
        struct.pack_into(">I", data, box, struct.unpack_from(">I", data, box)[0] + len(clap))
    path.write_bytes(data)
    return path


def set_pixel_crop(path: Path, left: int, top: int, right: int, bottom: int) -> Path:
    """Make players cut off so many pixels at each edge: Matroska, up to 255x255 stored px."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\xe0\x8a\xb0\x81") + 2  # the size of the picture, behind it room to spare
    crop = ((0x54AA, bottom), (0x54BB, top), (0x54CC, left), (0x54DD, right))
    cropped = b"".join(struct.pack(">HBB", name, 0x81, value) for name, value in crop)
    content = bytes(data[at : at + 6]) + cropped
    data[at - 1] = 0x80 | len(content)
    data[at : at + 25] = content + b"\xec\x81\x00"
    path.write_bytes(data)
    return path


def cut(path: Path, out: Path, first: int, shown_from: int) -> Path:
    """Copy packets without encoding, from the keyframe of frame `first`; play from `shown_from`.

    In mp4 and mov an edit list marks what is in front of it, as `ffmpeg -ss TIME -c copy` does.
    """
    with av.open(str(path)) as source, av.open(str(out), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        times = sorted(packet.pts for packet in packets)
        start = next(i for i, packet in enumerate(packets) if packet.pts == times[first])
        for packet in packets[start:]:
            packet.pts -= times[shown_from]
            packet.dts -= times[shown_from]
            packet.stream = copy
            output.mux(packet)
    return out


def side_by_side(out: Path, *parts: Path, default: int) -> Path:
    """The video streams of several files in one; `default` is the one that players show."""
    with av.open(str(out), "w") as output:
        for i, part in enumerate(parts):
            with av.open(str(part)) as source:
                copy = output.add_stream_from_template(source.streams.video[0])
                copy.disposition = Disposition.default if i == default else Disposition(0)
        for i, part in enumerate(parts):
            with av.open(str(part)) as source:
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = output.streams.video[i]
                        output.mux(packet)
    return out


def join(out: Path, *parts: Path) -> Path:
    """One file behind the other, as `cat` does."""
    out.write_bytes(b"".join(part.read_bytes() for part in parts))
    return out


def _track_headers(data: bytearray) -> list[int]:
    starts, at = [], data.find(b"tkhd")
    while at >= 0:
        starts.append(at)
        at = data.find(b"tkhd", at + 4)
    return starts
