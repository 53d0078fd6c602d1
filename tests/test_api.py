"""The Python API: the same rows, settings and errors as the command line."""

import subprocess
import sys

import pandas as pd
import pytest

import tracknet
from tests.videos import make_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("video") / "rally.mp4", 31)


def test_import_is_cheap():
    code = "import sys, tracknet; sys.exit(bool({'torch', 'ray', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_find_gives_the_rows_of_track(undisturbed, tiny_weights):
    out, _ = undisturbed
    published = tracknet.read(out)
    for source, rows in published.groupby("source"):
        found = tracknet.find(source, weights=str(tiny_weights), runtime="torch")
        events = found.pop("event")
        of_court = [found.pop(name) for name in ("x_m", "y_m", "in_court", "speed_kmh")]
        assert all(column.isna().all() for column in of_court)  # no court was given
        pd.testing.assert_frame_equal(found, rows.reset_index(drop=True))
        table = tracknet.read(out, "events").query("source == @source")
        assert events.dropna().to_dict() == dict(zip(table["frame"], table["kind"], strict=True))
    assert len(published) == 341
    assert tracknet.read(out, arrow=True).num_rows == 341


def test_options_have_the_names_of_the_command_line(video, tiny_weights):
    options = {"weights": str(tiny_weights), "threshold": 0.9, "link": False, "runtime": "torch"}
    few = tracknet.find(video, **options)
    same = tracknet.find(video, tracknet.TrackSettings.of(**options))
    pd.testing.assert_frame_equal(few, same)
    assert len(few) == 31
    assert (
        few["visible"].sum() < tracknet.find(video, **options | {"threshold": 0.4})["visible"].sum()
    )


def test_progress_is_told(video, tiny_weights):
    steps = []
    options = {"weights": str(tiny_weights), "runtime": "torch"}
    tracknet.find(video, **options, on_progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(24, 31), (31, 31)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": "huge"}, tracknet.WeightsError, "huge"),
        ({"treshold": 0.4}, tracknet.InputError, "no option 'treshold'; there are: .*threshold"),
        ({"threshold": 2}, tracknet.InputError, "threshold 2"),
        (
            {"settings": tracknet.TrackSettings(), "peak": "contour"},
            tracknet.InputError,
            "not both",
        ),
    ],
)
def test_mistakes_are_named(video, options, error, words):
    with pytest.raises(error, match=words):
        tracknet.find(video, **options)


def test_a_file_that_is_no_video(tmp_path, tiny_weights):
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(tracknet.VideoError, match=r"notes\.mp4"):
        tracknet.find(tmp_path / "notes.mp4", weights=str(tiny_weights))
