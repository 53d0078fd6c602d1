"""Exports come back from the tools that they are for, and what was not seen is no place."""

import json
import warnings

import pytest

from tests.bookkeeping import two_results
from tests.runs import run
from tracknet.commands.export import FORMATS
from tracknet.jobs import export
from tracknet.pipeline.scoring.labels import read_labels


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return two_results(tmp_path_factory.mktemp("made"))


def exported(tables, out, to):
    done = run("export", tables, "--to", to, "--out", out, "--box", 8)
    assert done.returncode == 0, done.stderr
    assert "2 videos exported" in done.stdout
    first, second = sorted(out.iterdir())
    assert (first.name[:14], second.name[:14]) == ("final-aaaaaaaa", "final-bbbbbbbb")
    return first


def test_the_command_knows_all_formats():
    assert FORMATS == export.FORMATS


def test_tracknet_csv(tables, tmp_path):
    path = exported(tables, tmp_path, "tracknet-csv")
    labels = {label.frame: label for label in read_labels(path, n_frames=5, size=(64, 48))}
    assert labels.keys() == {0, 1, 2, 4}
    assert [labels[f].visibility for f in (0, 1, 2, 4)] == [1, 0, 3, 1]
    assert [(labels[f].x_px, labels[f].y_px) for f in (0, 2, 4)] == [
        (10.5, 20.25),
        (14.5, 22.25),
        (0, 0),
    ]
    assert path.read_text().splitlines()[2] == "1,0,,"


def test_mot(tables, tmp_path):
    motmetrics = pytest.importorskip("motmetrics")
    path = exported(tables, tmp_path, "mot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pandas says of that loader
        found = motmetrics.io.loadtxt(str(path), fmt="mot15-2D", min_confidence=0.5)
    assert list(found.index) == [(1, 1), (5, 1)]
    # The loader makes left and top 0-based again; the middle of the box is the ball's.
    middle = found[["X", "Y"]].to_numpy() + (8 - 1) / 2
    assert middle.tolist() == [[10.5, 20.25], [0, 0]]
    assert set(found["Width"]) == {8.0}


def test_coco(tables, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    path = exported(tables, tmp_path, "coco")
    found = coco.COCO(str(path))
    assert len(found.getImgIds()) == 5
    balls = found.loadAnns(found.getAnnIds(catIds=found.getCatIds(["ball"])))
    assert [ball["image_id"] for ball in balls] == [1, 5]
    assert [ball["keypoints"] for ball in balls] == [[10.5, 20.25, 2], [0, 0, 2]]
    x, y, width, height = balls[0]["bbox"]
    assert (x + (width - 1) / 2, y + (height - 1) / 2) == (10.5, 20.25)
    assert found.loadImgs(1)[0]["width"] == 64


def test_label_studio(tables, tmp_path):
    (task,) = json.loads(exported(tables, tmp_path, "label-studio").read_text())
    assert task["data"]["video"].endswith("one/final.mp4")
    (result,) = task["predictions"][0]["result"]
    assert result["type"] == "videorectangle"
    sequence = result["value"]["sequence"]
    assert [(one["frame"], one["enabled"]) for one in sequence] == [(1, False), (5, False)]
    assert sequence[0]["x"] + sequence[0]["width"] / 2 == pytest.approx(100 * 11 / 64)
    assert result["value"]["framesCount"] == 5


def test_what_is_no_results_folder_is_refused(tmp_path):
    done = run("export", tmp_path, "--to", "mot", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "not a results folder" in done.stderr
