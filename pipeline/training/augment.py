"""Augmentation that keeps labels exact: crop, zoom, paste, flip, time reversal, light and colour.

Everything that moves the ball moves its coordinates by the same arithmetic, in pixels with centres
at integers.  A crop reads only its own pixels from the clip on disk, and light is not applied here
but handed on as a gain and an offset, so that bytes travel to the device and floats are made there.

    rng = np.random.default_rng((seed, step))
    view = augment(dataset[index], Augment(crop=(144, 256)), rng)

All randomness comes from the generator that is passed in: the same generator, the same view.
Mixing two windows (mixup) is a matter of whole batches, see `pipeline.training.batches`.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from tracknet.pipeline.datasets import Sample
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.synth import paste_ball

_SHARES = (
    *("around_ball", "paste", "rest", "flip", "reverse", "mixup"),
    *("brightness", "contrast", "colour"),
)
_PASTE_CLEARANCE_PX = 12.0  # how far outside the view a labelled ball must be, blur and all
_PASTE_SPEED_PX = 18.0  # mean speed per frame of a pasted ball


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Augment:
    """What may happen to a training window; the default is nothing at all.

    Attributes:
        crop: (height, width) of the view in px, None for the full picture.
        around_ball: probability that a crop is laid around a ball, where the window has one.
        zoom: the view is magnified by a factor between 1 / (1 + zoom) and 1 + zoom, as far as the
            picture reaches.
        paste: probability that a view without a ball gets a drawn one.
        rest: share of the drawn balls that lie still.
        flip: probability of mirroring left and right.
        reverse: probability of playing the window backwards.  It keeps labels exact only where they
            mark the middle of the ball's streak.  Those of the tennis clips lie ahead of where
            models put the ball, by 0.14 to 0.19 of its way per frame.
        brightness: offset, up to this share of full scale either way.
        contrast: gain about mid grey between 1 - contrast and 1 + contrast.
        colour: further gain of each channel, likewise.
        mixup: probability that a batch is mixed with itself.
    """

    crop: tuple[int, int] | None = None
    around_ball: float = 0.85
    zoom: float = 0.0
    paste: float = 0.0
    rest: float = 0.0
    flip: float = 0.0
    reverse: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)}: must lie between 0 and 1")
        if self.zoom < 0:
            raise InputError(f"zoom {self.zoom}: must not be negative")


class View(NamedTuple):
    """An augmented window.

    Attributes:
        pictures: uint8 [P, h, w, 3], contiguous.
        labelled: bool [T].
        xy: float32 [T, 2], px of the view; NaN where no ball is known.  A ball may lie outside.
        gain: float32 [3], and offset: float; a value v in [0, 1] becomes
            (v - 0.5) * gain + 0.5 + offset.
    """

    pictures: NDArray[np.uint8]
    labelled: NDArray[np.bool_]
    xy: NDArray[np.float32]
    gain: NDArray[np.float32]
    offset: float


class Region(NamedTuple):
    """A rectangle of whole pixels."""

    left: int
    top: int
    width: int
    height: int


def augment(sample: Sample, config: Augment, rng: np.random.Generator) -> View:
    """One random view of a window.

    Raises:
        InputError: the crop is larger than the picture.
    """
    height, width = config.crop or sample.pictures.shape[1:3]
    region = choose_region(sample, config, rng)
    pictures, xy = cut(sample.pictures, sample.xy, region, width=width, height=height)
    labelled = sample.labelled
    if rng.random() < config.paste and shows_no_ball(xy, labelled, width=width, height=height):
        pictures, xy = paste(pictures, len(labelled), rng, at_rest=rng.random() < config.rest)
    if rng.random() < config.flip:
        pictures, xy = pictures[:, :, ::-1], mirrored(xy, width)
    if rng.random() < config.reverse:
        extra = len(pictures) - len(labelled)  # a background stays in front
        pictures = np.concatenate([pictures[:extra], pictures[extra:][::-1]])
        xy, labelled = xy[::-1], labelled[::-1]
    contrast = 1 + config.contrast * rng.uniform(-1, 1)
    gain = contrast * (1 + config.colour * rng.uniform(-1, 1, size=3))
    offset = config.brightness * rng.uniform(-1, 1)
    return View(
        np.ascontiguousarray(pictures), labelled.copy(), xy.copy(), gain.astype(np.float32), offset
    )


def choose_region(sample: Sample, config: Augment, rng: np.random.Generator) -> Region:
    """Which part of the picture the view shows; see `Augment` for how it is drawn."""
    full_height, full_width = sample.pictures.shape[1:3]
    height, width = config.crop or (full_height, full_width)
    if height > full_height or width > full_width:
        raise InputError(f"crop {width}x{height} is larger than the {full_width}x{full_height}")
    magnify = np.exp(rng.uniform(-1, 1) * np.log1p(config.zoom))
    # The smaller of both limits, so that a zoom out stops at the border without distortion.
    shrink = min(1 / magnify, full_height / height, full_width / width)
    height, width = round(height * shrink), round(width * shrink)

    corner = rng.uniform(size=2) * (full_width - width, full_height - height)
    balls = np.flatnonzero(~np.isnan(sample.xy[:, 0]))
    if len(balls) and rng.random() < config.around_ball:
        x, y = sample.xy[rng.choice(balls)]
        corner = np.array((x, y)) - rng.uniform(size=2) * (width - 1, height - 1)
    left, top = np.clip(np.rint(corner), 0, (full_width - width, full_height - height)).astype(int)
    return Region(int(left), int(top), width, height)


def cut(
    pictures: NDArray[np.uint8],
    xy: NDArray[np.float32],
    region: Region,
    *,
    width: int,
    height: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a region out and scale it to `width` x `height`.

    Args:
        pictures: uint8 [P, H, W, 3].
        xy: [T, 2], px of the full picture.

    Returns:
        uint8 [P, height, width, 3], and [T, 2] in px of the result.
    """
    left, top = region.left, region.top
    part = pictures[:, top : top + region.height, left : left + region.width]
    moved = xy - np.array((left, top), np.float32)
    if (region.width, region.height) == (width, height):
        return part, moved
    size = (width, height)
    scaled = [cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in part]
    factor = np.divide(size, (region.width, region.height)).astype(np.float32)
    return np.stack(scaled).astype(np.uint8), ((moved + 0.5) * factor - 0.5).astype(np.float32)


def shows_no_ball(
    xy: NDArray[np.float32], labelled: NDArray[np.bool_], *, width: int, height: int
) -> bool:
    """Whether every frame is labelled and no ball is in, or just outside, the view."""
    margin = _PASTE_CLEARANCE_PX
    near = ((xy > -margin) & (xy < (width - 1 + margin, height - 1 + margin))).all(axis=1)
    return bool(labelled.all() and not near.any())


def paste(
    pictures: NDArray[np.uint8], frames: int, rng: np.random.Generator, *, at_rest: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw a ball that flies a short, nearly straight way through the last `frames` pictures.

    Args:
        at_rest: the ball lies still instead.

    Returns:
        New pictures, and [frames, 2] its positions; NaN where it has left the view.
    """
    size = np.array((pictures.shape[2], pictures.shape[1]))
    direction = rng.uniform(0, 2 * np.pi)
    velocity = rng.exponential(_PASTE_SPEED_PX) * np.array((np.cos(direction), np.sin(direction)))
    bend = rng.normal(0, 1, size=2)
    time = np.arange(frames)[:, None] - (frames - 1) / 2
    moved = (velocity * time + bend * time**2 / 2) * (not at_rest)
    path = rng.uniform(size=2) * (size - 1) + moved
    pasted, xy = paste_ball(pictures[-frames:], path, rng)
    return np.concatenate([pictures[:-frames], pasted]), xy


def mirrored(xy: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Positions after mirroring a picture of `width` left and right.

    >>> mirrored(np.array([[0.0, 7.0]], np.float32), width=512)
    array([[511.,   7.]], dtype=float32)
    """
    return np.stack([width - 1 - xy[:, 0], xy[:, 1]], axis=1)
