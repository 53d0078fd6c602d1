"""Small files that once came out wrong, each with what is right; skipped where there are none."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import tracknet
from tests.runs import ROOT, run, share_ray
from tracknet.jobs.show import inventory
from tracknet.schemas.store import Store

FOLDER = Path(os.environ.get("TRACKNET_CASES", ROOT.parent / "shared" / "cases")) / "failing"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no odd files at {FOLDER}")

# Rows, width, height, the label of the first row, how labels of 640x360 lie in the picture.
SAME, HALF = (1.0, 0.0, 1.0, 0.0), (0.5, -0.25, 0.5, -0.25)
CASES = {
    "hevc_opengop_cut.mp4": (33, 640, 360, 27, SAME),
    "ts_joined_same_clock.ts": (None, 640, 360, 0, SAME),
    "raw.h264": (60, 640, 360, 0, SAME),
    "hflip_matrix.mp4": (60, 640, 360, 0, (-1.0, 639.0, 1.0, 0.0)),
    "sar2.mp4": (60, 640, 360, 0, SAME),
    "mkv_pixelcrop.mkv": (60, 560, 320, 0, (1.0, -40.0, 1.0, -20.0)),
    "default_is_second_stream.mp4": (60, 640, 360, 0, SAME),
    "cut_in_half.mkv": (None, 640, 360, 0, SAME),
    "portrait_crop.mp4": (60, 540, 960, None, SAME),
    "pics_first_corrupt": (12, 320, 180, 0, HALF),
    "pics_appledouble": (12, 320, 180, 0, HALF),
    "pics_truncated": (12, 320, 180, 0, HALF),
    "whole_but_called_cut_off.ts": (60, 640, 360, None, SAME),
}
DAMAGED = {"cut_in_half.mkv", "pics_first_corrupt", "pics_truncated"}
NO_CLOCK = {"raw.h264", "pics_first_corrupt", "pics_appledouble", "pics_truncated"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    share_ray()
    out = tmp_path_factory.mktemp("odd") / "out"
    done = run("track", *(FOLDER / name for name in CASES), "--out", out, "--json")
    assert done.returncode == 3, done.stderr
    rows = tracknet.read(out)
    rows["name"] = [Path(source).name for source in rows["source"]]
    named = {Path(row["source"]).name for row in inventory(Store(out))["quarantine"]}
    sizes = {Path(v["source"]).name: v for v in Store(out).videos(["source", "width", "height"])}
    return dict(list(rows.groupby("name"))), named, sizes


@pytest.mark.parametrize("name", CASES)
def test_odd_file(tracked, name):
    tables, named, sizes = tracked
    n, width, height, first, (sx, dx, sy, dy) = CASES[name]
    rows = tables[name]
    assert n is None or len(rows) == n
    assert (sizes[name]["width"], sizes[name]["height"]) == (width, height)
    assert (name in named) == (name in DAMAGED)
    assert rows["time_s"].isna().all() == (name in NO_CLOCK)
    seen = rows[rows["visible"].fillna(False).astype(bool)]
    if first is None:
        assert len(seen) >= 0.8 * len(rows) or name != "portrait_crop.mp4"
        return
    labels = np.array(json.loads((FOLDER / "labels.json").read_text("utf-8")))
    at = (seen["frame"].to_numpy() + first) % len(labels)
    truth = labels[at] * (sx, sy) + (dx, dy)
    off = np.hypot(*(seen[["x_px", "y_px"]].to_numpy() - truth).T)
    near = off < 4 * height / 288
    assert len(seen) >= (5 if "pics" in name else 0.8 * len(rows))
    assert near.mean() >= 0.9
