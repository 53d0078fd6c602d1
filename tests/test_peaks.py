"""Peaks by hand-made heatmaps, and the coordinate convention."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.runtimes.device_peaks import device_peaks
from tracknet.pipeline.tracking.peaks import PEAK_MODES, Peak, find_candidates, find_peak, to_source


def heatmap(*pixels, shape=(20, 30)):
    """A heatmap from (x, y, probability)."""
    picture = np.zeros(shape, np.float32)
    for x, y, p in pixels:
        picture[y, x] = p
    return picture


def blob(left, top, width, height, p):
    return [(x, y, p) for x in range(left, left + width) for y in range(top, top + height)]


@pytest.mark.parametrize("mode", ["contour", "centroid"])
@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([], None),
        ([(3, 4, 0.49)], None),
        ([(3, 4, 0.9)], (3, 4)),
        (blob(10, 5, 3, 3, 0.8), (11, 6)),
        (blob(0, 0, 3, 3, 0.8), (1, 1)),
        (blob(27, 17, 3, 3, 0.8), (28, 18)),
        (blob(4, 4, 5, 5, 0.8) + blob(20, 10, 3, 3, 0.8), (6, 6)),
    ],
)
def test_both_modes_agree_on_clear_cases(mode, pixels, expected):
    peak = find_peak(heatmap(*pixels), mode, 0.5)
    assert (peak and (peak.x, peak.y)) == expected


def test_contour_truncates_and_centroid_weighs():
    picture = heatmap((10, 5, 0.6), (11, 5, 0.9), (10, 6, 0.6), (11, 6, 0.9))
    assert find_peak(picture, "contour", 0.5)[:2] == (10, 5)
    x, y, score = find_peak(picture, "centroid", 0.5)
    assert (round(x, 3), y, round(score, 3)) == (10.6, 5.5, 0.9)


def test_modes_choose_differently_between_large_and_certain():
    large_and_faint = blob(2, 2, 4, 4, 0.52)
    small_and_certain = blob(20, 10, 3, 3, 0.99)
    picture = heatmap(*large_and_faint, *small_and_certain)
    assert find_peak(picture, "contour", 0.5)[:2] == (3, 3)
    assert round(find_peak(picture, "centroid", 0.5).x) == 21


@pytest.mark.parametrize(("p", "seen"), [(128 / 255, True), (127.9 / 255, False)])
def test_contour_compares_in_eight_bits_as_published(p, seen):
    # Published: uint8(p * 255) > 127.
    picture = heatmap(*blob(5, 5, 3, 3, np.nextafter(np.float32(p), np.float32(1))))
    assert (find_peak(picture, "contour", 0.5) is not None) == seen


@pytest.mark.parametrize(("mode", "order"), [("contour", [3, 21, 10]), ("centroid", [21, 3, 10])])
def test_candidates_come_strongest_first(mode, order):
    picture = heatmap(*blob(2, 2, 4, 4, 0.52), *blob(20, 10, 3, 3, 0.99), *blob(10, 14, 2, 2, 0.7))
    found = find_candidates(picture, mode, 0.5, limit=5)
    assert [int(peak.x) for peak in found] == order
    assert find_candidates(picture, mode, 0.5, limit=2) == found[:2]
    assert find_peak(picture, mode, 0.5) == found[0]


@pytest.mark.parametrize("mode", ["contour", "centroid"])
def test_faint_blobs_follow_and_are_no_part_of_clear_ones(mode):
    halo = blob(0, 0, 9, 9, 0.3)
    clear = blob(3, 4, 3, 3, 0.8)
    faint = blob(20, 10, 3, 3, 0.4)
    picture = heatmap(*halo, *clear, *faint)
    found = find_candidates(picture, mode, 0.5, 4, floor=0.2)
    assert [(round(p.x), round(p.y)) for p in found] == [(4, 5), (21, 11)]
    assert found[:1] == find_candidates(picture, mode, 0.5, 4)
    assert find_candidates(heatmap(*faint), mode, 0.5, 1, floor=0.2) == found[1:]


@pytest.mark.parametrize("mode", PEAK_MODES)
@pytest.mark.parametrize(("left", "top"), [(0, 0), (41, 0), (7, 9), (90, 60)])
def test_peaks_are_found_wherever_they_lie(mode, left, top):
    noise = np.random.default_rng(3).random((20, 30), np.float32)
    noise[[0, -1]] = noise[:, [0, -1]] = 0.6  # so that all of it is looked through
    whole = np.zeros((80, 120), np.float32)
    whole[top : top + 20, left : left + 30] = noise
    found = find_candidates(whole, mode, 0.9, 4, floor=0.5)
    expected = find_candidates(noise, mode, 0.9, 4, floor=0.5)
    assert len(expected) == 4
    moved = [(x + left, y + top, score) for x, y, score in expected]
    np.testing.assert_allclose(found, moved, atol=1e-9)


def test_unknown_mode_names_the_modes():
    with pytest.raises(InputError, match="contour, centroid"):
        find_peak(heatmap(), "moments", 0.5)


@given(
    x=st.integers(0, 511), y=st.integers(0, 287), size=st.sampled_from([(1280, 720), (1920, 1080)])
)
def test_source_pixel_covers_the_network_pixels_centre(x, y, size):
    px, py = to_source(Peak(x, y, 1.0), (512, 288), size)
    assert (px + 0.5) / size[0] == pytest.approx((x + 0.5) / 512)
    assert (py + 0.5) / size[1] == pytest.approx((y + 0.5) / 288)
    assert -0.5 < px < size[0] - 0.5


@given(
    seed=st.integers(0, 2**32 - 1),
    smooth=st.sampled_from([1, 5, 11]),
    share=st.sampled_from([0.8, 0.99, 0.999]),
    floor=st.sampled_from([None, 0.9]),
    mode=st.sampled_from(PEAK_MODES),
)
def test_peaks_of_a_device_are_those_of_the_pictures(seed, smooth, share, floor, mode):
    noise = np.random.default_rng(seed).random((4, 40, 60), np.float32)
    heatmaps = np.stack([cv2.GaussianBlur(picture, (smooth, smooth), 0) for picture in noise])
    heatmaps[0] = 0
    threshold = float(np.quantile(heatmaps[1:], share))
    rest = (mode, threshold, 3, floor and threshold * floor)
    found = device_peaks(torch.from_numpy(heatmaps), *rest)
    expected = [find_candidates(heatmap, *rest) for heatmap in heatmaps]
    assert found[0] == expected[0] == []
    assert [len(peaks) for peaks in found] == [len(peaks) for peaks in expected]
    for ours, plain in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_a_heatmap_that_is_no_number_is_an_error():
    heatmaps = torch.zeros(2, 20, 30)
    heatmaps[1, 3, 4] = torch.nan
    with pytest.raises(InputError, match="torch-bf16"):
        device_peaks(heatmaps, "centroid", 0.5, 1)


@pytest.mark.parametrize("mode", PEAK_MODES)
def test_a_heatmap_that_is_no_numbers_is_an_error(mode):
    with pytest.raises(InputError, match="no numbers"):
        find_candidates(heatmap((3, 4, np.nan), (9, 9, 0.9)), mode, 0.5, limit=1)
