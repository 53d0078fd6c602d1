"""Label files of both layouts, and what is said of broken ones."""

from pathlib import Path

import pytest

from tracknet.pipeline.errors import LabelError
from tracknet.pipeline.scoring.labels import BallLabel, read_labels

TRACKNETV2 = "Frame,Visibility,X,Y\n"
TENNIS = "file name,visibility,x-coordinate,y-coordinate,status\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_tracknetv2_layout(tmp_path: Path) -> None:
    path = written(tmp_path, TRACKNETV2 + "2,1,12.5,7\n0,0,0,0\n")
    assert read_labels(path) == (BallLabel(0, 0, None, None), BallLabel(2, 1, 12.5, 7.0))


def test_tennis_layout_with_empty_coordinates(tmp_path: Path) -> None:
    path = written(tmp_path, TENNIS + "0000.jpg,0,,,\n0001.jpg,2,599,423,0\n0002.jpg,3,1,2,1\n")
    assert read_labels(path, n_frames=3, size=(1280, 720)) == (
        BallLabel(0, 0, None, None),
        BallLabel(1, 2, 599.0, 423.0),
        BallLabel(2, 3, 1.0, 2.0),
    )


def test_unlabelled_frames_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, TRACKNETV2 + "2,1,5,5\n4,1,6,6\n")
    assert [label.frame for label in read_labels(path, n_frames=10)] == [2, 4]


def test_byte_order_mark_and_further_columns_are_fine(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffFrame,Visibility,X,Y,note\n0,1,5,5,serve\n")
    assert read_labels(path) == (BallLabel(0, 1, 5.0, 5.0),)


def test_a_pixel_reaches_half_a_pixel_around_its_centre(tmp_path: Path) -> None:
    path = written(tmp_path, TRACKNETV2 + "0,1,-0.5,719.3\n")
    assert read_labels(path, size=(1280, 720))[0].y_px == 719.3


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "columns"),
        ("frame,x,y\n0,1,1\n", 1, "columns"),
        (TRACKNETV2 + "0,1,5,5\n0,1,6,6\n", 3, "labelled twice"),
        (TRACKNETV2 + "10,1,5,5\n", 2, "outside the clip (0..9)"),
        (TRACKNETV2 + "-1,1,5,5\n", 2, "outside the clip"),
        (TRACKNETV2 + "0,1,100,5\n", 2, "outside the 100x50 picture"),
        (TRACKNETV2 + "0,1,5,-1\n", 2, "outside the 100x50 picture"),
        (TRACKNETV2 + "0,1,left,5\n", 2, "x 'left' is not a number"),
        (TRACKNETV2 + "0,1,nan,5\n", 2, "not a finite number"),
        (TRACKNETV2 + "0,1,5,\n", 2, "y '' is not a number"),
        (TRACKNETV2 + "0.5,1,5,5\n", 2, "frame '0.5' is not a whole number"),
        (TRACKNETV2 + "0,4,5,5\n", 2, "visibility 4"),
        (TRACKNETV2 + "0,1,5,5\n1,1,5\n", 3, "another number of columns"),
        (TRACKNETV2 + "0,1,5,5,5\n", 2, "another number of columns"),
        (TENNIS + "first.jpg,1,5,5,0\n", 2, "frame 'first' is not a whole number"),
        (TENNIS + "0000.jpg,1,,,0\n", 2, "x '' is not a number"),
    ],
)
def test_broken_labels_name_file_and_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LabelError, match=r"labels\.csv") as caught:
        read_labels(path, n_frames=10, size=(100, 50))
    assert caught.value.line == line
    assert problem in caught.value.problem


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(LabelError, match="not UTF-8"):
        read_labels(path)
