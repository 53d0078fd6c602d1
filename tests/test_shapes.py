"""Pictures that are not 16:9: cropped validation clips score as the whole ones do."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import tracknet
from tests.runs import run
from tracknet.pipeline.datasets import Clip, by_split, find_clips
from tracknet.pipeline.scoring.labels import read_labels

TOLERANCE_PX = 10  # of a picture 1280 wide, 4 px at 512; crops keep the scale
SHAPES = {"9-16": Fraction(9, 16), "4-3": Fraction(4, 3)}


def crop(clip: Clip, shape: Fraction, folder: Path) -> None:
    """Write `whole/` and `cropped/`, each a labelled clip; both have labels of the same frames.

    The crop has the clip's height and stands where half of the balls are left of its middle.
    Frames whose ball lies outside of it have no label in either.
    """
    width, height = clip.size
    part = min(width, round(height * shape / 2) * 2)
    labels = read_labels(clip.labels, n_frames=clip.frames, size=clip.size)
    middle = float(np.median([label.x_px for label in labels if label.visibility]))
    left = int(np.clip(middle - part / 2, 0, width - part))
    kept = [one for one in labels if not one.visibility or left + 8 <= one.x_px < left + part - 8]
    for name, first, wide in (("whole", 0, width), ("cropped", left, part)):
        root = folder / name / clip.sport / clip.match
        rewrite(clip.source, root / "video" / f"{clip.name}.mp4", first, wide)
        (root / "csv").mkdir(exist_ok=True)
        with (root / "csv" / f"{clip.name}_ball.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("Frame", "Visibility", "X", "Y"))
            for one in kept:
                x = one.x_px - first if one.visibility else 0
                rows.writerow((one.frame, one.visibility, x, one.y_px if one.visibility else 0))


def rewrite(source: Path, path: Path, left: int, width: int) -> None:
    """The columns from `left` of a video, encoded almost without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        video = old.streams.video[0]
        stream: Any = new.add_stream(
            "libx264", rate=video.average_rate, options={"crf": "10", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = width, video.height, "yuv420p"
        for number, frame in enumerate(old.decode(video)):
            picture = np.ascontiguousarray(frame.to_ndarray(format="rgb24")[:, left : left + width])
            part = av.VideoFrame.from_ndarray(picture, format="rgb24")
            part.pts, part.time_base = number, 1 / Fraction(video.average_rate)
            new.mux(stream.encode(part))
        new.mux(stream.encode(None))


def f1_of(root: Path, out: Path) -> float:
    done = run("track", root, "--out", out)
    assert done.returncode == 0, done.stderr
    found = tracknet.evaluate(out, root, space="source", tolerance=TOLERANCE_PX)
    (row,) = found.rows("all")
    return float(row["f1"])


@pytest.mark.slow
def test_cropped_clips_score_as_whole_ones(real_data: Path, tmp_path: Path) -> None:
    clips = [clip for clip in by_split(find_clips(real_data), "val") if clip.source.is_file()]
    for name, shape in SHAPES.items():
        for clip in clips:
            crop(clip, shape, tmp_path / name)
        whole = f1_of(tmp_path / name / "whole", tmp_path / name / "tables-whole")
        cropped = f1_of(tmp_path / name / "cropped", tmp_path / name / "tables-cropped")
        print(f"{name}: F1 {whole:.4f} whole, {cropped:.4f} cropped")
        assert abs(whole - cropped) <= 0.02
