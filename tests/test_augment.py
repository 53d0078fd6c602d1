"""Augmentation moves the ball and its label together; batches depend on the step alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_datasets import labelled_clip
from tracknet.pipeline.datasets import Sample, WindowedDataset
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.training.augment import (
    Augment,
    augment,
    choose_region,
    cut,
    paste,
    shows_no_ball,
)
from tracknet.pipeline.training.batches import BatchConfig, Batches

HEIGHT, WIDTH = 72, 128
SPEC = WindowSpec(frames=3, targets=(0, 1, 2), height=4, width=8)


def sample_with_dots(seed: int = 0) -> Sample:
    """Black pictures, each with a bright soft dot where its label is."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform((12, 12), (WIDTH - 12, HEIGHT - 12), (3, 2)).astype(np.float32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    squared = (columns - xy[:, 0, None, None]) ** 2 + (rows - xy[:, 1, None, None]) ** 2
    dots = 255 * np.exp(-squared / 8)
    pictures = np.repeat(dots[..., None], 3, axis=3).round().astype(np.uint8)
    return Sample(pictures, np.ones(3, bool), xy, xy.astype(np.float64), (WIDTH, HEIGHT))


def centroid(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    light = picture[..., 0].astype(float)
    return np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, (36, 64), (48, 48)]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 1.0]),
)
def test_labels_stay_on_the_ball(
    seed: int, crop: tuple[int, int] | None, zoom: float, flip: float, reverse: float
) -> None:
    config = Augment(crop=crop, zoom=zoom, flip=flip, reverse=reverse)
    view = augment(sample_with_dots(seed % 7), config, np.random.default_rng(seed))
    height, width = crop or (HEIGHT, WIDTH)
    assert view.pictures.shape == (3, height, width, 3)
    for picture, (x, y) in zip(view.pictures, view.xy, strict=True):
        if 10 < x < width - 11 and 10 < y < height - 11:
            np.testing.assert_allclose(centroid(picture), (x, y), atol=0.15)


def test_nothing_happens_by_default() -> None:
    sample = sample_with_dots()
    view = augment(sample, Augment(), np.random.default_rng(0))
    np.testing.assert_array_equal(view.pictures, sample.pictures)
    np.testing.assert_array_equal(view.xy, sample.xy)
    assert view.gain.tolist() == [1, 1, 1]
    assert view.offset == 0


def test_crops_hold_a_ball_as_often_as_asked() -> None:
    sample = sample_with_dots()
    rng = np.random.default_rng(0)
    config = Augment(crop=(20, 30), around_ball=0.85)
    held = []
    for _ in range(400):
        region = choose_region(sample, config, rng)
        _, xy = cut(sample.pictures, sample.xy, region, width=30, height=20)
        inside = ((xy > -0.5) & (xy < (29.5, 19.5))).all(axis=1)
        held.append(inside.any())
    assert 0.8 < np.mean(held) < 0.97  # a random crop may hold one by chance


def test_playing_backwards_leaves_the_background_in_front() -> None:
    sample = sample_with_dots()
    background = np.full_like(sample.pictures[:1], 7)
    labelled = np.array([True, False, False])
    sample = replace(
        sample, pictures=np.concatenate([background, sample.pictures]), labelled=labelled
    )
    view = augment(sample, Augment(reverse=1.0), np.random.default_rng(0))
    assert (view.pictures[0] == 7).all()
    np.testing.assert_array_equal(view.pictures[1:], sample.pictures[:0:-1])
    np.testing.assert_array_equal(view.xy, sample.xy[::-1])
    assert view.labelled.tolist() == [False, False, True]


def test_a_pasted_ball_is_where_its_label_says() -> None:
    pictures = np.full((3, 60, 90, 3), 30, np.uint8)
    for seed in range(20):
        pasted, xy = paste(pictures, 3, np.random.default_rng(seed))
        for picture, before, (x, y) in zip(pasted, pictures, xy, strict=True):
            changed = np.abs(picture.astype(int) - before).sum(axis=2)
            assert changed.any() == (not np.isnan(x))
            if changed.any() and 20 < x < 70 and 20 < y < 40 and seed % 2:
                rows, columns = np.nonzero(changed)
                np.testing.assert_allclose((columns.mean(), rows.mean()), (x, y), atol=1.5)


def test_a_ball_at_rest_stays_where_it_is() -> None:
    pictures = np.full((3, 144, 256, 3), 90, np.uint8)
    pasted, xy = paste(pictures, 3, np.random.default_rng(4), at_rest=True)
    assert (xy == xy[0]).all()
    assert (pasted == pasted[0]).all()
    assert (pasted != pictures).any()


def test_balls_are_pasted_only_where_there_is_none() -> None:
    far = np.full((3, 2), 500, np.float32)
    labelled = np.ones(3, bool)
    assert shows_no_ball(far, labelled, width=90, height=60)
    assert shows_no_ball(far * np.nan, labelled, width=90, height=60)
    assert not shows_no_ball(far, ~labelled, width=90, height=60)
    just_outside = np.array([[95, 30], [500, 500], [500, 500]], np.float32)
    assert not shows_no_ball(just_outside, labelled, width=90, height=60)


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"zoom": -1.0}, {"mixup": -0.1}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augment(**wrong)  # type: ignore[arg-type]


def test_crop_larger_than_the_picture() -> None:
    with pytest.raises(InputError, match="larger than"):
        augment(sample_with_dots(), Augment(crop=(100, 100)), np.random.default_rng(0))


def dataset() -> WindowedDataset:
    return WindowedDataset([labelled_clip([1, 0, -1, 1, 1, 1, 1]), labelled_clip([1] * 5)], SPEC)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    config = BatchConfig(batch=3, balance=0.5, mask="disk", augment=Augment(flip=0.5, colour=0.2))
    first, again = Batches(dataset(), config), Batches(dataset(), config)
    first.draw(0)
    for left, right in zip(first.draw(5)[:5], again.draw(5)[:5], strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
    other = Batches(dataset(), replace(config, seed=1)).draw(5)
    assert not torch.equal(other.gain, first.draw(5).gain)


def test_processes_share_a_batch_and_change_nothing_in_it() -> None:
    light = Augment(flip=0.5, reverse=0.5, brightness=0.2, mixup=0.5)
    config = BatchConfig(batch=4, balance=0.5, mask="disk", augment=light)
    whole = Batches(dataset(), config).draw(3)
    parts = [Batches(dataset(), config, rank=rank, world=2).draw(3) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        torch.testing.assert_close(part.pictures, whole.pictures[rank::2], rtol=0, atol=0)
        torch.testing.assert_close(part.gain, whole.gain[rank::2], rtol=0, atol=0)
        assert part.share == whole.share
    with pytest.raises(InputError, match="cannot be shared by 3"):
        Batches(dataset(), config, rank=0, world=3)


def test_an_epoch_sees_every_window_once() -> None:
    batches = Batches(dataset(), BatchConfig(batch=2))
    assert batches.per_epoch == 4
    rng = np.random.default_rng(0)
    epochs = [
        [int(i) for step in range(4 * epoch, 4 * epoch + 4) for i in batches.indices(step, rng)]
        for epoch in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(8))
    assert epochs[0] != epochs[1]


def test_tensors_for_model_and_loss() -> None:
    batches = Batches(dataset(), BatchConfig(batch=8, mask="disk", radius=1.0))
    frames, targets, weight = batches.tensors(batches.draw(0), torch.device("cpu"))
    assert frames.shape == (8, 3, 3, 4, 8)
    assert 0 <= frames.min() <= frames.max() <= 1
    assert targets.shape == (8, 3, 4, 8)
    assert set(targets.unique().tolist()) == {0, 1}
    assert weight.shape == (8, 3)
    assert (weight == 0).sum() == 3  # frame 2 of the first clip is unlabelled, in three windows


def test_light_is_applied_on_the_device() -> None:
    config = BatchConfig(
        batch=8, mask="disk", augment=Augment(brightness=0.3, contrast=0.3, colour=0.2)
    )
    batches = Batches(dataset(), config)
    batch = batches.draw(0)
    frames, _, _ = batches.tensors(batch, torch.device("cpu"))
    raw = batch.pictures.permute(0, 1, 4, 2, 3) / 255
    gain, offset = batch.gain[:, None, :, None, None], batch.offset[:, None, None, None, None]
    torch.testing.assert_close(frames, ((raw - 0.5) * gain + 0.5 + offset).clamp(0, 1))


def test_mixing_keeps_only_frames_that_both_windows_know() -> None:
    config = BatchConfig(batch=8, mask="disk", augment=Augment(mixup=1.0))
    batches = Batches(dataset(), config)
    batch = batches.draw(0)
    assert 0 <= batch.share < 1
    _, targets, weight = batches.tensors(batch, torch.device("cpu"))
    _, plain, known = batches.tensors(batch._replace(share=1.0), torch.device("cpu"))
    share = batch.share
    torch.testing.assert_close(targets, share * plain + (1 - share) * plain.roll(1, 0))
    assert torch.equal(weight, known * known.roll(1, 0))


def test_paper_masks_come_from_source_pixels_and_exclude_augmentation() -> None:
    batches = Batches(dataset(), BatchConfig(batch=2))
    _, targets, _ = batches.tensors(batches.draw(0), torch.device("cpu"))
    assert targets.shape == (2, 3, 4, 8)
    with pytest.raises(InputError, match="without augmentation"):
        BatchConfig(augment=Augment(flip=0.5))
    with pytest.raises(InputError, match="fewer than a batch"):
        Batches(dataset(), BatchConfig(batch=9))
