"""From stored to displayed pixels: each way a file can ask for it, drawn and looked at."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.videos import draw_frame, make_video, set_clean_aperture, set_mp4_matrix, set_pixel_crop
from tracknet.pipeline.datasets.cache import cached_frames
from tracknet.pipeline.datasets.clips import Clip
from tracknet.pipeline.datasets.windowed import LabelledClip
from tracknet.pipeline.decoding import decoder as decoder_module
from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.pictures.render import decode_upright
from tracknet.pipeline.spec import fit
from tracknet.pipeline.tracking.peaks import Peak, to_source

SIZE = (128, 72)
TURNS = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]
MIRRORS = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


def read(decoder, path, size=None):
    """The video and its pictures, at its displayed size unless another is given."""
    video = decoder.probe(path)
    reader = decoder.read(video, range(video.frames), *(size or (video.width, video.height)))
    pictures = [picture.copy() for batch in reader for picture in batch.pictures]
    return video, pictures, reader.report.decoders


def difference(picture, expected):
    assert picture.shape == expected.shape
    return np.abs(picture.astype(int) - expected).mean()


def shown_by_matrix(picture, a, b, c, d):
    """Each pixel moved to where the matrix sends it, one by one."""
    height, width, _ = picture.shape
    y, x = np.mgrid[0:height, 0:width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    shown = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    shown[to_y, to_x] = picture
    return shown


@pytest.mark.parametrize("matrix", TURNS + MIRRORS)
@pytest.mark.parametrize("use_decord", [True, False])
def test_display_matrix(decoder, tmp_path, monkeypatch, matrix, use_decord):
    monkeypatch.setattr(decoder_module, "decord_available", lambda: use_decord)
    path = set_mp4_matrix(make_video(tmp_path / "v.mp4", 6), *matrix)
    expected = shown_by_matrix(draw_frame(5, *SIZE), *matrix)
    video, pictures, decoders = read(decoder, path)
    assert (video.height, video.width) == expected.shape[:2]
    assert difference(pictures[5], expected) < 8
    assert decoders == ["decord" if use_decord else "pyav"]


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2), 256), (Fraction(8, 9), 114)])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_pixels_that_are_not_square(decoder, tmp_path, aspect, width, name):
    path = make_video(tmp_path / name, 6, sample_aspect=aspect)
    video, pictures, _ = read(decoder, path)
    assert (video.width, video.height) == (width, 72)
    assert difference(pictures[5], cv2.resize(draw_frame(5, *SIZE), (width, 72))) < 8


def test_stretched_and_turned(decoder, tmp_path):
    path = make_video(tmp_path / "v.mp4", 6, sample_aspect=Fraction(2), rotation=90)
    video, pictures, _ = read(decoder, path)
    assert (video.width, video.height) == (72, 256)
    assert difference(pictures[5], np.rot90(cv2.resize(draw_frame(5, *SIZE), (256, 72)))) < 8


def test_pixel_crop(decoder, tmp_path):
    path = set_pixel_crop(make_video(tmp_path / "v.mkv", 6), left=20, top=10, right=8, bottom=12)
    video, pictures, _ = read(decoder, path)
    assert (video.width, video.height, list(video.crop)) == (100, 50, [20, 10, 100, 50])
    assert difference(pictures[5], draw_frame(5, *SIZE)[10:60, 20:120]) < 8


def test_clean_aperture(decoder, tmp_path):
    path = set_clean_aperture(make_video(tmp_path / "v.mp4", 6), 100, 50, right=6, down=-1)
    video, pictures, _ = read(decoder, path)
    assert (video.width, video.height, list(video.crop)) == (100, 50, [20, 10, 100, 50])
    assert difference(pictures[5], draw_frame(5, *SIZE)[10:60, 20:120]) < 8


@pytest.mark.parametrize("aperture", [(300, 50, 0, 0), (100, 50, 40, 0), (0, 0, 0, 0)])
def test_a_part_that_is_not_in_the_picture_is_not_followed(decoder, tmp_path, aperture):
    path = set_clean_aperture(make_video(tmp_path / "v.mp4", 3), *aperture)
    video, pictures, _ = read(decoder, path)
    assert (video.width, video.height, video.crop, len(pictures)) == (*SIZE, None, 3)


def test_the_shape_is_kept_for_the_network(decoder, tmp_path):
    path = make_video(tmp_path / "v.mp4", 6, 64, 96)
    _, (*_, picture), _ = read(decoder, path, SIZE)
    box = fit((64, 96), SIZE)
    assert box == (40, 0, 48, 72)
    inside = picture[:, 40:88]
    assert difference(inside, cv2.resize(draw_frame(5, 64, 96), (48, 72))) < 8
    assert not picture[:, :40].any()
    assert not picture[:, 88:].any()


def test_render_and_training_see_what_tracking_sees(decoder, tmp_path):
    path = set_mp4_matrix(
        make_video(tmp_path / "v.mp4", 6, sample_aspect=Fraction(1, 2)), *MIRRORS[2]
    )
    video, pictures, _ = read(decoder, path)
    shown = [frame.picture for frame in decode_upright(path)]
    np.testing.assert_array_equal(shown, pictures)
    clip = Clip("s", "m", "c", path, path, video.width, video.height, 6)
    cached = cached_frames(clip, tmp_path / "cache", width=96, height=54)
    _, by_tracking, _ = read(decoder, path, (96, 54))
    assert difference(cached, np.array(by_tracking)) < 1


@pytest.mark.parametrize("size", [(1280, 720), (540, 960), (640, 480), (2048, 858)])
def test_labels_and_peaks_move_with_the_picture(size):
    frames = np.zeros((1, 288, 512, 3), np.uint8)
    clip = Clip("s", "m", "c", None, None, *size, 1)
    labelled = LabelledClip(clip, frames, np.ones(1, np.int8), np.array([[100.25, 200.5]]))
    x, y = labelled.xy[0]
    assert to_source(Peak(x, y, 1.0), (512, 288), size) == pytest.approx((100.25, 200.5), abs=1e-3)
