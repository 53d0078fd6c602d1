"""Clips found in every layout, decoded once, cut into windows; nothing unlabelled trains."""

import os
import shutil
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.videos import draw_frame, make_video, read_number
from tracknet.pipeline.datasets import (
    Clip,
    LabelledClip,
    WindowedDataset,
    by_split,
    find_clips,
    hold_out,
    load_clip,
    paper_split,
)
from tracknet.pipeline.datasets.cache import cached_frames
from tracknet.pipeline.datasets.windowed import all_windows
from tracknet.pipeline.errors import InputError, LabelError, VideoError
from tracknet.pipeline.scoring.labels import read_labels
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.training.batches import BatchConfig

REAL_DATA = Path(
    os.environ.get("TRACKNET_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
SPEC = WindowSpec(frames=3, targets=(0, 1, 2), height=36, width=64)
FRAMES = 7


def write_match(folder: Path, name: str, labels: str, suffix: str = "_ball.csv") -> None:
    make_video(folder / "video" / f"{name}.mp4", FRAMES)
    (folder / "csv").mkdir(exist_ok=True)
    (folder / "csv" / f"{name}{suffix}").write_text("Frame,Visibility,X,Y\n" + labels)


def write_pictures(folder: Path, labels: str) -> None:
    folder.mkdir(parents=True)
    for i in range(FRAMES):
        cv2.imwrite(str(folder / f"{i:04}.png"), draw_frame(i, 128, 72)[..., ::-1])
    header = "file name,visibility,x-coordinate,y-coordinate,status\n"
    (folder / "Label.csv").write_text(header + labels)


@pytest.fixture(scope="module")
def written_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_match(root / "badminton" / "match1", "r1", "0,1,64,36\n1,0,0,0\n2,1,63.5,35.5\n")
    write_match(root / "badminton" / "match1", "r2", "0,1,1,1\n", suffix=".csv")
    write_match(root / "badminton" / "match2", "r1", "3,1,1,1\n")
    write_pictures(root / "tennis" / "game1" / "Clip1", "0000.jpg,0,,,\n0003.jpg,3,10,20,0\n")
    return root


@pytest.fixture
def root(written_root: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written_root, tmp_path / "data"))


def labelled_clip(visibility: list[int], name: str = "c", sport: str = "s") -> LabelledClip:
    """A clip whose frames are filled with their own number."""
    n = len(visibility)
    seen = np.array(visibility, np.int8)
    frames = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 8, 3))
    xy = np.where(seen[:, None] > 0, np.stack([np.arange(n) * 2.0, np.ones(n)], axis=1), np.nan)
    clip = Clip(sport, "m", name, Path(name), Path(name), 16, 8, n)
    return LabelledClip(clip, frames, seen, xy)


def test_both_layouts_under_one_root(written_root: Path) -> None:
    clips = find_clips(written_root)
    assert [str(clip) for clip in clips] == [
        "badminton/match1/r1",
        "badminton/match1/r2",
        "badminton/match2/r1",
        "tennis/game1/Clip1",
    ]
    assert {(clip.size, clip.frames) for clip in clips} == {((128, 72), FRAMES)}
    assert clips[1].labels.name == "r2.csv"


def test_a_single_match_is_a_root_too(written_root: Path) -> None:
    assert len(find_clips(written_root / "badminton" / "match1")) == 2


def test_index_names_clips_and_splits(root: Path) -> None:
    (root / "clips.csv").write_text(
        "sport,match,clip,split,test_set\n"
        "badminton,match1,r1,train,\nbadminton,match2,r1,test,unseen_venue\n"
    )
    clips = find_clips(root)
    assert [clip.name for clip in by_split(clips, "train")] == ["r1"]
    assert [clip.match for clip in by_split(clips, "test")] == ["match2"]
    assert clips[1].test_set == "unseen_venue"
    with pytest.raises(InputError, match="no clip is in split 'val'"):
        by_split(clips, "val")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sport,match,clip\n", "clips.csv:1: lacks the column"),
        ("sport,match,clip,split\nbadminton,match9,r1,train\n", "clips.csv:2: .* is not there"),
        (
            "sport,match,clip,split\nbadminton,match1,r1,train\nbadminton,match1,r1,val\n",
            "clips.csv:3: .* is listed twice",
        ),
    ],
)
def test_broken_index(root: Path, text: str, problem: str) -> None:
    (root / "clips.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        find_clips(root)


def test_nothing_to_find(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_clips(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no labelled clip"):
        find_clips(tmp_path / "empty")
    (root / "badminton" / "match1" / "csv" / "r1_ball.csv").unlink()
    with pytest.raises(InputError, match=r"r1\.mp4: no label file"):
        find_clips(root)


def test_holding_out_whole_matches_or_clips(written_root: Path) -> None:
    clips = find_clips(written_root)
    for unit, of in (("match", lambda c: c.key[:2]), ("clip", lambda c: c.key)):
        marked = hold_out(clips, unit)  # type: ignore[arg-type]
        sides = {split: {of(c) for c in marked if c.split == split} for split in ("train", "val")}
        assert sides["train"]
        assert sides["val"]
        assert not sides["train"] & sides["val"]
        assert marked == hold_out(clips, unit)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="only 1"):
        hold_out(clips[:2], "match")


def test_decoded_once_in_order_at_network_size(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    clip = find_clips(root / "badminton" / "match1")[0]
    frames = cached_frames(clip, cache, width=96, height=56)
    assert frames.shape == (FRAMES, 56, 96, 3)
    assert frames.dtype == np.uint8
    assert not frames.flags.writeable
    assert [read_number(np.asarray(picture)) for picture in frames] == list(range(FRAMES))
    (kept,) = cache.iterdir()
    stamp = kept.stat().st_mtime_ns
    renamed = replace(clip, source=clip.source.rename(clip.source.with_name("other.mp4")))
    cached_frames(renamed, cache, width=96, height=56)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [stamp]
    cached_frames(renamed, cache, width=48, height=28)
    assert len(list(cache.iterdir())) == 2


def test_pictures_are_decoded_like_videos(written_root: Path, tmp_path: Path) -> None:
    clip = find_clips(written_root / "tennis")[0]
    frames = cached_frames(clip, tmp_path, width=64, height=36)
    assert [read_number(np.asarray(picture)) for picture in frames] == list(range(FRAMES))


def test_a_rotated_video_is_cached_as_displayed(tmp_path: Path) -> None:
    video = make_video(tmp_path / "r.mp4", 3, rotation=90)
    clip = Clip("s", "m", "r", video, video, 72, 128, 3)
    frames = cached_frames(clip, tmp_path / "cache", width=36, height=64)
    assert frames.shape == (3, 64, 36, 3)


def test_two_processes_may_fill_the_cache_at_once(written_root: Path, tmp_path: Path) -> None:
    clip = find_clips(written_root / "badminton" / "match1")[0]
    context = get_context("spawn")
    workers = [context.Process(target=_fill, args=(clip, tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def _fill(clip: Clip, cache: Path) -> None:
    cached_frames(clip, cache, width=64, height=36)


def test_missing_frames_would_shift_labels(root: Path, tmp_path: Path) -> None:
    clip = find_clips(root / "badminton" / "match1")[0]
    with pytest.raises(VideoError, match="7 frames decode, the container presents 9"):
        cached_frames(replace(clip, frames=9), tmp_path / "cache", width=64, height=36)
    assert list((tmp_path / "cache").iterdir()) == []
    pictures = find_clips(root / "tennis")[0]
    (pictures.source / "0002.png").unlink()
    with pytest.raises(InputError, match="expected frame number 2"):
        cached_frames(pictures, tmp_path / "cache", width=64, height=36)


def test_labels_meet_frames(written_root: Path, tmp_path: Path) -> None:
    clip = load_clip(find_clips(written_root)[0], tmp_path, width=64, height=36)
    assert clip.visibility.tolist() == [1, 0, 1, -1, -1, -1, -1]
    assert clip.labelled.tolist() == [True] * 3 + [False] * 4
    np.testing.assert_allclose(clip.xy[[0, 2]], [(31.75, 17.75), (31.5, 17.5)])
    assert np.isnan(clip.xy[[1, 3]]).all()


def test_a_label_beyond_the_clip_names_its_line(root: Path, tmp_path: Path) -> None:
    clip = find_clips(root)[0]
    clip.labels.write_text("Frame,Visibility,X,Y\n0,1,1,1\n7,1,1,1\n")
    with pytest.raises(LabelError, match=r"r1_ball\.csv:3: frame 7 lies outside"):
        load_clip(clip, tmp_path, width=64, height=36)


def test_windows_without_a_labelled_target_are_left_out() -> None:
    clip = labelled_clip([-1, -1, -1, 0, 1, -1, -1, -1])
    assert all_windows([clip], SPEC) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    looking_back = WindowSpec(frames=3, targets=(2,))
    assert all_windows([clip], looking_back) == [(0, 1), (0, 2)]
    with pytest.raises(InputError, match="no window"):
        WindowedDataset([labelled_clip([-1] * 5)], SPEC)
    with pytest.raises(InputError, match="no window"):
        WindowedDataset([labelled_clip([1, 1])], SPEC)


def test_a_sample_is_three_consecutive_frames_and_their_labels() -> None:
    dataset = WindowedDataset([labelled_clip([1, 1, 1]), labelled_clip([0, 1, -1, 1])], SPEC)
    assert len(dataset) == 3
    sample = dataset[2]
    assert sample.pictures[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert sample.labelled.tolist() == [True, False, True]
    np.testing.assert_allclose(sample.xy[:, 0], [0.75, np.nan, 2.75])
    np.testing.assert_allclose(sample.xy_source[:, 0], [2, np.nan, 6])
    assert sample.source_size == (16, 8)


def test_background_stands_in_front() -> None:
    spec = WindowSpec(frames=3, targets=(0, 1, 2), background=True)
    sample = WindowedDataset([labelled_clip([1] * 5)], spec)[0]
    assert sample.pictures[:, 0, 0, 0].tolist() == [2, 0, 1, 2]
    assert len(sample.xy) == 3


def test_balance_gives_small_sports_their_share() -> None:
    clips = [labelled_clip([1] * 102, sport="big"), labelled_clip([1] * 3, sport="small")]
    dataset = WindowedDataset(clips, SPEC)
    for power, share in ((1.0, 1 / 101), (0.5, 1 / 11), (0.0, 1 / 2)):
        weights = dataset.balanced(power)
        assert weights.sum() == pytest.approx(1)
        assert weights[-1] == pytest.approx(share)


def test_emphasis_multiplies_a_sports_share() -> None:
    clips = [labelled_clip([1] * 102, sport="big"), labelled_clip([1] * 3, sport="small")]
    dataset = WindowedDataset(clips, SPEC)
    assert dataset.balanced(0.5, {"small": 10})[-1] == pytest.approx(10 / 20)
    with pytest.raises(InputError, match=r"'tiny'; there are big, small"):
        dataset.balanced(0.5, {"tiny": 2})
    for wrong in ({"balance": None}, {"balance": 0.5, "emphasis": {"small": 0}}):
        with pytest.raises(InputError, match="emphasis"):
            BatchConfig(**{"emphasis": {"small": 2}} | wrong)


def test_slow_balls_are_drawn_more_often() -> None:
    slow = labelled_clip([1, 1, 1, 1], sport="tennis")
    fast = replace(slow, xy_source=slow.xy_source * 40)
    unseen = labelled_clip([1, 0, 1, 1], sport="tennis")
    dataset = WindowedDataset([slow, fast, unseen], SPEC)
    assert dataset.slow().tolist() == [True, True, False, False, False, False]
    assert dataset.balanced(0.5, slow=3.0) == pytest.approx(np.array([3, 3, 1, 1, 1, 1]) / 10)
    for wrong in ({"balance": None, "slow": 2}, {"balance": 0.5, "slow": 0}):
        with pytest.raises(InputError, match="slow"):
            BatchConfig(**wrong)


def test_paper_split_shuffles_windows_and_leaks() -> None:
    clips = [labelled_clip([1] * 52, "a"), labelled_clip([1] * 52, "b")]
    train, val = paper_split(clips, SPEC)
    assert (len(train), len(val)) == (70, 30)
    assert sorted(train.starts + val.starts) == all_windows(clips, SPEC)
    assert train.starts == paper_split(clips, SPEC)[0].starts
    seen = {(clip, first + i) for clip, first in train.starts for i in range(3)}
    leaked = [(clip, first + i) in seen for clip, first in val.starts for i in range(3)]
    assert np.mean(leaked) > 0.5


@pytest.fixture(scope="module")
def real_clips() -> list[Clip]:
    if not (REAL_DATA / "clips.csv").exists():
        pytest.skip(f"needs real clips: no clips.csv in {REAL_DATA}; set TRACKNET_DATA")
    return find_clips(REAL_DATA)


def test_real_splits_share_no_clip(real_clips: list[Clip]) -> None:
    held = {clip.key for clip in real_clips if clip.split in ("val", "test")}
    assert held
    assert not held & {clip.key for clip in by_split(real_clips, "train")}


def test_real_labels_are_sound(real_clips: list[Clip]) -> None:
    total = sum(
        len(read_labels(clip.labels, n_frames=clip.frames, size=clip.size)) for clip in real_clips
    )
    assert total > 19_000


def test_a_real_clip_whose_first_frames_are_unlabelled(
    real_clips: list[Clip], tmp_path: Path
) -> None:
    clip = next(c for c in real_clips if c.sport == "tennis" and c.split == "val")
    loaded = load_clip(clip, tmp_path, width=128, height=72)
    assert len(loaded.frames) == clip.frames
    assert loaded.labelled[:3].tolist() == [False, False, True]
    # The ball is a small bright spot: where the label says, something stands out.
    brightness = loaded.frames.astype(np.float32).sum(axis=3)
    still = np.median(brightness, axis=0)
    hits = []
    for frame in np.flatnonzero(loaded.visibility == 1):
        x, y = np.rint(loaded.xy[frame]).astype(int)
        change = np.abs(brightness[frame] - still)
        near = change[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].max()
        hits.append(near > np.quantile(change, 0.9))
    assert np.mean(hits) > 0.8
