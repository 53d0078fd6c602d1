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
from pathlib import Path
from typing import Any

import av
import numpy as np

NUMBER_BITS = 12
BALL_COLOUR = (255, 255, 40)


def ball_position(i: int, width: int, height: int) -> tuple[float, float]:
    """Centre of the bright disk on frame `i`, in pixels: a Lissajous figure inside the picture."""
    x = width * (0.5 + 0.35 * np.sin(0.11 * i))
    y = height * (0.6 + 0.25 * np.sin(0.23 * i + 1))
    return float(x), float(y)


def draw_frame(i: int, width: int, height: int) -> np.ndarray:
    """Frame `i`, uint8 `[height, width, 3]` RGB: its number on top, a moving disk on a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([40 + 80 * x / width, 60 + 60 * y / height, 70 + 0 * x], axis=2)
    cx, cy = ball_position(i, width, height)
    radius = max(2.5, 0.03 * width)
    picture[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = BALL_COLOUR
    for bit, columns in enumerate(_number_columns(width)):
        picture[: _number_rows(height), columns] = 230 if i >> bit & 1 else 20
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
    """Make players turn the first video track by `degrees` counter-clockwise (a multiple of 90).

    Patches the display matrix in the track header, as a phone writes it: the coded pictures stay.
    """
    data = bytearray(path.read_bytes())
    for start in _track_headers(data):
        version = data[start + 4]
        matrix = start + 4 + 4 + (32 if version else 20) + 8 + 8
        if struct.unpack_from(">I", data, matrix + 36)[0] == 0:
            continue  # an audio track: its width is 0
        cos, sin = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
        # 16.16 fixed point; y points down, so a counter-clockwise turn has -sin on top.
        a, b, c, d = (value * 0x10000 for value in (cos, -sin, sin, cos))
        struct.pack_into(">9i", data, matrix, a, b, 0, c, d, 0, 0, 0, 0x40000000)
        path.write_bytes(data)
        return path
    raise ValueError(f"{path} has no video track header")


def _track_headers(data: bytearray) -> list[int]:
    starts, at = [], data.find(b"tkhd")
    while at >= 0:
        starts.append(at)
        at = data.find(b"tkhd", at + 4)
    return starts
