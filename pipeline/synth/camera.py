"""The camera that sees a rally: metres to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracknet.pipeline.synth.rally import Sport


@dataclass(frozen=True)
class Camera:
    """A pinhole camera behind the near baseline, looking along +y and down.

    Attributes:
        y, z: where it stands (x is 0); pitch: how far it looks down, radians; focal: pixels.
        cx, cy: where the optical axis meets the picture, pixels.
    """

    y: float
    z: float
    pitch: float
    focal: float
    cx: float
    cy: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """World `[..., 3]` to pixels and depth `[..., 3]`: x_px, y_px, metres along the axis."""
        x = points[..., 0]
        forward, up = points[..., 1] - self.y, points[..., 2] - self.z
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        depth = forward * cos - up * sin
        down = -(up * cos + forward * sin)
        scale = self.focal / depth
        return np.stack([self.cx + x * scale, self.cy + down * scale, depth], axis=-1)


def place_camera(rng: np.random.Generator, sport: Sport, width: int, height: int) -> Camera:
    """A broadcast view: both baselines in the picture, room above for lobs."""
    y = -sport.half_length * rng.uniform(*sport.camera_back)
    z = -(y + sport.half_length) * rng.uniform(*sport.camera_up)
    pitch = float(np.arctan2(z, -y))
    unit = Camera(y, z, pitch, 1.0, 0.0, 0.0)
    near = unit.project(np.array([sport.half_width, -sport.half_length, 0.0]))
    far = unit.project(np.array([sport.half_width, sport.half_length, 0.0]))
    near_row = height * rng.uniform(0.84, 0.92)
    far_row = height * rng.uniform(*sport.far_row)
    widest = width * rng.uniform(0.34, 0.43)
    focal = min((near_row - far_row) / (near[1] - far[1]), widest / near[0])
    cx = width * rng.uniform(0.48, 0.52)
    return Camera(y, z, pitch, float(focal), cx, float(near_row - focal * near[1]))
