"""Reels: shots joined by hard cuts and fades, with flashes, and where the picture changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tracknet.pipeline.pictures.encode import EncodeConfig, VideoWriter
from tracknet.pipeline.synth import SynthConfig, synthesize_clip

SIZE = (512, 288)


class Reel(NamedTuple):
    """Pictures uint8 [N, H, W, 3], and the frames where they change: a half one in a fade."""

    pictures: np.ndarray
    cuts: list[float]


def join(shots: Sequence[np.ndarray], fades: Sequence[tuple[int, bool]]) -> Reel:
    """Shots behind each other.

    Args:
        shots: uint8 [n, H, W, 3] each, longer than the fades beside it.
        fades: of each join how many frames are mixed, 0 for a hard cut, and whether through black.
    """
    parts, cuts, done = [shots[0]], [], len(shots[0])
    for shot, (frames, black) in zip(shots[1:], fades, strict=True):
        if frames:
            weight = (np.arange(1, frames + 1) / (frames + 1))[:, None, None, None]
            out, into = (1 - 2 * weight, 2 * weight - 1) if black else (1 - weight, weight)
            mixed = parts[-1][-frames:] * out.clip(0) + shot[:frames] * into.clip(0)
            parts[-1] = parts[-1][:-frames]
            parts.append(mixed.round().astype(np.uint8))
        cuts.append(done - frames / 2)
        parts.append(shot[frames:])
        done += len(shot) - frames
    return Reel(np.concatenate(parts), cuts)


def flash(shot: np.ndarray, at: int, frames: int, levels: float = 255) -> np.ndarray:
    """The shot with some frames brightened by so many levels."""
    lit = shot.copy()
    brighter = lit[at : at + frames] * 1.5 + levels
    lit[at : at + frames] = brighter.clip(0, 255).astype(np.uint8)
    return lit


def pan(shot: np.ndarray, width: float, speed: float) -> np.ndarray:
    """A part of the pictures, `width` of theirs, that moves on by `speed` px per frame."""
    tall, wide = shot.shape[1:3]
    w, h = round(width * wide), round(width * tall)
    turned = 2 * (wide - w)  # there and back
    lefts = [round(abs((i * speed + turned / 2) % turned - turned / 2)) for i in range(len(shot))]
    parts = [p[-h:, x : x + w] for p, x in zip(shot, lefts, strict=True)]
    return np.stack([cv2.resize(part, (wide, tall)) for part in parts])


def synthetic(seed: int, frames: int = 60) -> np.ndarray:
    """A rally at network size, uint8 [frames, 288, 512, 3]."""
    config = SynthConfig(*SIZE, frames=(frames, frames))
    return np.stack([picture for picture, _ in synthesize_clip(config, seed)])


def real(video: Path, first: int, frames: int) -> np.ndarray:
    """Frames of a video at network size, uint8 [frames, 288, 512, 3]."""
    reader = cv2.VideoCapture(str(video))
    pictures = [reader.read()[1] for _ in range(first + frames)][first:]
    small = [cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.stack(small)[..., ::-1]


def write(path: Path, pictures: np.ndarray, gop: int = 30) -> Path:
    """As a video of 30 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures.shape[1:3]
    with VideoWriter(path, width, height, fps=30, config=EncodeConfig(crf=23, gop=gop)) as video:
        for picture in pictures:
            video.write(np.ascontiguousarray(picture))
    return path
