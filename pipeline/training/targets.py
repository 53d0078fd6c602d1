"""Ground-truth masks: 1 on the pixels that belong to the ball, 0 elsewhere (paper equation 5).

Two masks, both a disk, both computed on the device for a whole batch at once:

* `disk_masks`: a disk of any radius at the size of the network.
* `paper_masks`: the paper's own.  Its "radius r = 30" is the half-size of a 61x61 Gaussian kernel
  exp(-(dx^2 + dy^2) / 20) * 255 that the released code casts to uint8 and binarises at > 0: a disk
  of radius sqrt(20 ln 255) = 10.5 px, drawn at source size around the truncated coordinates and
  resized with nearest neighbour (about 4.2 px at 512x288).

>>> disk_masks(torch.tensor([[1.0, 1.0]]), radius=1.0, height=3, width=4)[0].int()
tensor([[0, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 1, 0, 0]], dtype=torch.int32)

A coordinate that is NaN (no ball, or no label) gives an empty mask; which of the two it is, and
whether the frame counts in the loss, is not this module's business.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PAPER_RADIUS_SQUARED = 20 * math.log(255)


def disk_masks(xy: Tensor, *, radius: float, height: int, width: int) -> Tensor:
    """Disks around the ball at network size.

    Args:
        xy: [..., 2] model px (x, y), pixel centres at integers; NaN for no ball.
        radius: in model px; a pixel belongs to the ball if its centre is at most this far away.
        height, width: of the mask.

    Returns:
        float32 [..., height, width] of 0 and 1, on the device of `xy`.
    """
    columns = torch.arange(width, device=xy.device, dtype=torch.float32)
    rows = torch.arange(height, device=xy.device, dtype=torch.float32)
    return _disks(xy.float(), columns, rows, radius * radius)


def paper_masks(
    xy_source: Tensor, *, source_width: int, source_height: int, height: int, width: int
) -> Tensor:
    """The released code's masks, pixel for pixel, without drawing them at source size.

    Nearest-neighbour resizing reads source column floor(j * source_width / width) for column j, so
    testing the disk at those columns and rows gives the resized mask directly.

    Args:
        xy_source: [..., 2] source px (x, y); NaN for no ball.  Truncated to integers here.
        source_width, source_height: of the video, px.
        height, width: of the mask.

    Returns:
        float32 [..., height, width] of 0 and 1, on the device of `xy_source`.
    """
    device = xy_source.device
    columns = torch.arange(width, device=device) * source_width // width
    rows = torch.arange(height, device=device) * source_height // height
    return _disks(xy_source.float().trunc(), columns.float(), rows.float(), PAPER_RADIUS_SQUARED)


def _disks(xy: Tensor, columns: Tensor, rows: Tensor, radius_squared: float) -> Tensor:
    dx2 = (columns - xy[..., 0, None]).square()
    dy2 = (rows - xy[..., 1, None]).square()
    # A comparison with NaN is false, so a missing ball leaves its mask empty.
    return (dy2[..., :, None] + dx2[..., None, :] <= radius_squared).float()
