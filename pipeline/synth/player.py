"""People of a synthetic rally: how they are dressed, how they stand, and their picture.

A player is a handful of thick lines in the picture plane: legs that stride, an arm that stretches
the racket towards where it is told to.  Where players run is `pipeline.synth.rally`'s business.

    pose = Pose((640.0, 600.0), 70.0, stride=0.3, reach=np.array([0.4, 0.6]), facing=-1)
    cover = draw_player(picture, random_outfit(rng), pose)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tracknet.pipeline.pictures.draw import FRACTION_BITS, Colour, Cover, blend, fixed


@dataclass(frozen=True)
class Outfit:
    """A player's looks."""

    shirt: Colour
    shorts: Colour
    skin: Colour
    hair: Colour
    left_handed: bool

    def hand(self, facing: int) -> int:
        """The side of the picture where the racket is, -1 or 1, when seen from front or back."""
        return -1 if self.left_handed == (facing < 0) else 1


@dataclass(frozen=True)
class Pose:
    """A player in one frame, in pixels.

    Attributes:
        feet: where they touch the ground; scale: pixels per metre there.
        stride: phase of the legs, radians; reach: where the racket's head is, relative to the
            shoulder in metres (x to the right, y up); None for someone without a racket.
        facing: +1 towards the camera, -1 away from it.
    """

    feet: np.ndarray | tuple[float, float]
    scale: float
    stride: float
    reach: np.ndarray | None
    facing: int


def draw_player(picture: np.ndarray, outfit: Outfit, pose: Pose) -> Cover:
    """Draw a player in place; returns what is covered."""
    half, tall = int(1.7 * pose.scale) + 3, int(3.0 * pose.scale) + 3
    left, top = int(pose.feet[0]) - half, int(pose.feet[1]) - tall
    size = (tall + int(0.3 * pose.scale) + 3, 2 * half + 1)
    mask = np.zeros(size, np.uint8)
    paint = np.empty((*size, 3), np.uint8)
    paint[:] = outfit.shirt
    origin = np.array([pose.feet[0] - left, pose.feet[1] - top])
    _draw_figure(paint, mask, outfit, pose, origin)
    x, y, width, height = cv2.boundingRect(mask)
    used = slice(max(0, y - 1), y + height + 1), slice(max(0, x - 1), x + width + 1)
    alpha = cv2.GaussianBlur(mask[used], (3, 3), 0.6).astype(np.float32) / 255
    cover = Cover(alpha, left + used[1].start, top + used[0].start)
    # Light from one side, so that a body is no flat cut-out.
    shade = np.linspace(1.2, 0.75, alpha.shape[1], dtype=np.float32)[:, None]
    blend(picture, cover, np.minimum(paint[used] * shade, 255))
    return cover


def _draw_figure(
    paint: np.ndarray, mask: np.ndarray, outfit: Outfit, pose: Pose, origin: np.ndarray
) -> None:
    s = pose.scale

    def at(x: float, y: float) -> np.ndarray:
        return origin + s * np.array([x, -y])

    def limb(points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        line = [fixed(np.array([at(*p) for p in points]))]
        thick = max(1, round(width * s))
        # Wider than the mask, or the shirt's colour would shine through the soft edges.
        cv2.polylines(paint, line, False, colour, thick + 2, cv2.LINE_8, FRACTION_BITS)
        cv2.polylines(mask, line, False, 255, thick, cv2.LINE_AA, FRACTION_BITS)

    def disk(x: float, y: float, radius: float, colour: Colour) -> None:
        centre, r = tuple(fixed(at(x, y)).tolist()), int(radius * s * (1 << FRACTION_BITS))
        cv2.circle(paint, centre, r + (1 << FRACTION_BITS), colour, -1, cv2.LINE_8, FRACTION_BITS)
        cv2.circle(mask, centre, r, 255, -1, cv2.LINE_AA, FRACTION_BITS)

    swing = np.sin(pose.stride)
    for side in (-1, 1):
        knee = (side * (0.15 + 0.08 * swing * side), 0.50 + 0.06 * max(0.0, swing * side))
        foot = (side * (0.20 + 0.16 * swing * side), 0.05 + 0.12 * max(0.0, swing * side))
        limb([(side * 0.09, 0.92), knee], 0.15, outfit.skin)
        limb([knee, foot], 0.11, outfit.skin)
        limb([foot, (foot[0] + 0.05 * side, 0.03)], 0.11, (235, 235, 235))
        limb([(side * 0.09, 0.95), (0.6 * knee[0] + 0.04 * side, 0.68)], 0.20, outfit.shorts)
    hand_side = outfit.hand(pose.facing)
    limb(
        [(-hand_side * 0.19, 1.40), (-hand_side * 0.34, 1.14), (-hand_side * 0.22, 0.98)],
        0.08,
        outfit.skin,
    )
    limb([(0, 1.02), (0, 1.36)], 0.34, outfit.shirt)
    limb([(-0.17, 1.40), (0.17, 1.40)], 0.13, outfit.shirt)
    shoulder = (hand_side * 0.19, 1.42)
    if pose.reach is None:
        limb([shoulder, (hand_side * 0.30, 1.14), (hand_side * 0.24, 0.90)], 0.08, outfit.skin)
    else:
        distance = max(0.35, float(np.hypot(*pose.reach)))
        direction = pose.reach / distance
        hand = np.array(shoulder) + direction * min(0.6, 0.55 * distance)
        limb([shoulder, tuple(hand)], 0.08, outfit.skin)
        limb([tuple(hand), tuple(hand + 0.28 * direction)], 0.03, (40, 40, 45))
        _draw_racket(paint, mask, at(*(hand + 0.43 * direction)), direction, s)
    disk(0, 1.66, 0.125, outfit.skin if pose.facing > 0 else outfit.hair)
    disk(0, 1.72, 0.105, outfit.hair)


def _draw_racket(
    paint: np.ndarray, mask: np.ndarray, centre: np.ndarray, direction: np.ndarray, scale: float
) -> None:
    """The frame of a racket and, faintly, its strings."""
    axes = tuple(fixed(np.array([0.17, 0.13]) * scale).tolist())
    angle = float(np.degrees(np.arctan2(-direction[1], direction[0])))
    middle = tuple(fixed(centre).tolist())
    for thickness, value in ((-1, 40), (max(1, round(0.03 * scale)), 255)):
        shape = (middle, axes, angle, 0, 360)
        cv2.ellipse(paint, *shape, (60, 60, 66), thickness, cv2.LINE_AA, FRACTION_BITS)
        fresh = np.zeros_like(mask)
        cv2.ellipse(fresh, *shape, value, thickness, cv2.LINE_AA, FRACTION_BITS)
        np.maximum(mask, fresh, out=mask)


def ball_colour(shuttle: bool) -> Colour:
    """A shuttlecock's off-white, or optic yellow."""
    return (244, 243, 234) if shuttle else (232, 248, 110)


def random_outfit(rng: np.random.Generator) -> Outfit:
    """Clothes, skin and hair of one person."""

    tones: tuple[Colour, ...] = ((224, 180, 150), (190, 140, 105), (120, 82, 60))
    hair: tuple[Colour, ...] = ((24, 20, 18), (60, 42, 28), (120, 92, 56), (230, 230, 230))
    white: Colour = (238, 238, 238)
    return Outfit(
        shirt=white if rng.random() < 0.25 else muted(rng, 15, 240),
        shorts=white if rng.random() < 0.3 else muted(rng, 10, 90),
        skin=tones[int(rng.integers(len(tones)))],
        hair=hair[int(rng.integers(len(hair)))],
        left_handed=bool(rng.random() < 0.12),
    )


def muted(rng: np.random.Generator, low: int, high: int) -> Colour:
    """A random colour between grey and garish: cloth and paint are seldom pure."""
    colour = rng.integers(low, high, 3)
    r, g, b = (colour.mean() + rng.uniform(0.1, 0.75) * (colour - colour.mean())).astype(int)
    return (int(r), int(g), int(b))
