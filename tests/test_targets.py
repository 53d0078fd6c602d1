"""Masks against the released code's way of drawing them, done slowly."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracknet.pipeline.training.targets import PAPER_RADIUS_SQUARED, disk_masks, paper_masks

HALF = 30


def drawn_at_source_size(
    x: float, y: float, source: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """A 61x61 kernel stamped on a source-sized picture, resized with nearest neighbour."""
    offsets = np.arange(-HALF, HALF + 1)
    squared = offsets[:, None] ** 2 + offsets[None] ** 2
    kernel = (np.exp(-squared / 20) * 255).astype(np.uint8) > 0
    width, height = source
    padded = np.zeros((height + 2 * HALF, width + 2 * HALF), np.uint8)
    column, row = int(x), int(y)
    padded[row : row + 2 * HALF + 1, column : column + 2 * HALF + 1] = kernel
    picture = padded[HALF : HALF + height, HALF : HALF + width]
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("source", [(1280, 720), (1920, 1080), (640, 360)])
@settings(max_examples=15, deadline=None)
@given(across=st.floats(0, 0.999), down=st.floats(0, 0.999))
def test_paper_masks_pixel_for_pixel(source: tuple[int, int], across: float, down: float) -> None:
    x, y = float(np.float32(across * source[0])), float(np.float32(down * source[1]))
    mask = paper_masks(
        torch.tensor([x, y]), source_width=source[0], source_height=source[1], height=288, width=512
    )
    np.testing.assert_array_equal(mask.numpy(), drawn_at_source_size(x, y, source, (512, 288)))


def test_the_papers_radius_is_ten_and_a_half_pixels() -> None:
    assert math.isclose(math.sqrt(PAPER_RADIUS_SQUARED), 10.5, abs_tol=0.03)
    mask = paper_masks(
        torch.tensor([640.0, 360.0]), source_width=1280, source_height=720, height=720, width=1280
    )
    assert mask[360].sum() == 21


def test_disk_is_centred_between_pixels() -> None:
    mask = disk_masks(torch.tensor([1.5, 1.0]), radius=0.6, height=3, width=4)
    assert mask.nonzero().tolist() == [[1, 1], [1, 2]]


def test_no_ball_is_an_empty_mask() -> None:
    xy = torch.tensor([[float("nan"), float("nan")], [2.0, 2.0]])
    assert disk_masks(xy, radius=1, height=5, width=5).sum(dim=(1, 2)).tolist() == [0, 5]
    size = {"source_width": 10, "source_height": 10, "height": 5, "width": 5}
    assert paper_masks(xy[:1], **size).sum() == 0


def test_a_ball_beyond_the_border_shows_its_edge() -> None:
    mask = disk_masks(torch.tensor([-2.0, 2.0]), radius=3, height=5, width=5)
    assert mask[2].tolist() == [1, 1, 0, 0, 0]
