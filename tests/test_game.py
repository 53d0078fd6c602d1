"""Events and rallies as tables: they follow from the rows, and are made again where they lack."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

import tracknet
from tests.bookkeeping import KEY, manifest_of
from tests.runs import run
from tests.test_events import dribble
from tests.videos import make_video
from tracknet.jobs.game import fill, frame_rate, game_tables
from tracknet.jobs.plan import video_row
from tracknet.pipeline.decoding.probe import probe
from tracknet.schemas.store import Store
from tracknet.schemas.tables import DERIVED, TRAJECTORIES

ID = "c" * 32
FPS = 30.0


def video(frames=90, clock=True):
    duration = (frames - 1) / FPS if clock else None
    return {"video_id": ID, "source": "/a.mp4", "width": 1280, "height": 720, "frames": frames,
            "duration_s": duration}  # fmt: skip


def rows_of(xy, clock=True, cuts=()):
    seen = ~np.isnan(xy[:, 0])
    columns = {
        "video_id": [ID] * len(xy),
        "source": ["/a.mp4"] * len(xy),
        "frame": np.arange(len(xy)),
        "pts": np.arange(len(xy)) * 512,
        "time_s": np.arange(len(xy)) / FPS + 7 if clock else [None] * len(xy),
        "status": np.where(seen, "detected", "absent"),
        "visible": seen,
        **{name: pa.array(xy[:, i], from_pandas=True) for i, name in enumerate(("x_px", "y_px"))},
        **dict.fromkeys(("x_norm", "y_norm", "score"), pa.nulls(len(xy), pa.float32())),
        "shot": np.searchsorted(cuts, np.arange(len(xy)), side="right"),
        "view": ["rally"] * len(xy),
    }
    return pa.table({name: columns[name] for name in TRAJECTORIES.names}).cast(TRAJECTORIES)


@pytest.mark.parametrize("clock", [True, False])
def test_times_are_those_of_the_moment_itself(clock):
    xy, bounces = dribble()
    tables = game_tables(video(clock=clock), rows_of(xy, clock))
    events = tables["events"].to_pylist()
    inner = [row for row in events if 10 < row["frame"] < 80]
    assert {row["kind"] for row in inner} == {"bounce"}
    if not clock:
        assert {row["time_s"] for row in events} == {None}
        return
    expected = bounces[(bounces > 10) & (bounces < 80)] / FPS + 7
    assert [row["time_s"] for row in inner] == pytest.approx(expected, abs=0.2 / FPS)
    assert tables["events"].schema.equals(DERIVED["events"])
    assert tables["rallies"].schema.equals(DERIVED["rallies"])


def test_a_video_without_a_ball_has_empty_tables():
    tables = game_tables(video(), rows_of(np.full((90, 2), np.nan)))
    assert {name: len(table) for name, table in tables.items()} == {
        "events": 0, "rallies": 0, "shots": 1,
    }  # fmt: skip


def test_rate_of_a_video_without_a_clock():
    assert frame_rate(video(clock=False)) == frame_rate({"frames": 1, "duration_s": 0.0}) == 30


@pytest.fixture
def store(tmp_path):
    """A folder as an older version left it: rows, and no events."""
    store = Store(tmp_path / "out")
    store.claim(KEY)
    with store.lock():
        store.publish(rows_of(dribble()[0]), manifest_of(ID, "/a.mp4"), {})
    return store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A video of the size and length that `dribble` is made for; nobody writes to it."""
    return make_video(tmp_path_factory.mktemp("made") / "a.mp4", 90, 1280, 720)


@pytest.fixture
def with_row(store, made):
    """Its video was probed."""
    store.write_video(video_row(probe(made, lambda: None), []) | {"video_id": ID})
    return store


def test_results_of_an_older_version_get_events(with_row, monkeypatch):
    assert with_row.lacks_derived(ID)
    assert tracknet.read(with_row.root, "events").empty
    done = run("events", "find", with_row.root)
    assert done.returncode == 0, done.stderr
    assert "events of 1 videos" in done.stdout
    assert not with_row.lacks_derived(ID)
    assert len(tracknet.read(with_row.root, "events")) >= 5
    assert len(tracknet.read(with_row.root)) == 90
    assert "events of 0 videos" in run("events", "find", with_row.root).stdout
    monkeypatch.setattr("tracknet.schemas.courts.DERIVED_VERSION", 99)
    assert with_row.lacks_derived(ID)


def test_cuts_are_scored_in_videos_that_the_labels_name(with_row, tmp_path):
    labels = tmp_path / "cuts.csv"
    labels.write_text("clip,frame\na,\n")
    command = ("events", "cuts", with_row.root, "--labels", labels, "--json")
    missing = run(*command)
    assert (missing.returncode, "no camera shots of a" in missing.stderr) == (2, True)
    with with_row.lock():
        fill(with_row)
    clip, together = json.loads(run(*command).stdout)
    assert (clip["game"], clip["labels"], clip["found"], clip["f1"]) == ("a", 0, 0, None)
    assert together["game"] == "all"
    labels.write_text("clip,frame\na.mp4,7\n")
    clip, _ = json.loads(run(*command).stdout)
    assert (clip["labels"], clip["right"], clip["recall"]) == (1, 0, 0)


def test_damaged_events_are_named_and_made_again(with_row):
    with with_row.lock():
        fill(with_row)
    whole = tracknet.read(with_row.root, "events")
    path = with_row.derived_path("events", ID)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    assert tracknet.read(with_row.root, "events").empty
    document = json.loads(run("inspect", with_row.root, "--json").stdout)
    named = [one["error"] for one in document["damaged"]]
    assert any("events" in error and "checksum" in error for error in named), named
    with with_row.lock():
        assert fill(with_row) == 1
    assert tracknet.read(with_row.root, "events").equals(whole)


def test_a_video_whose_own_row_is_lost_stops_nothing(store, caplog):
    with store.lock():
        assert fill(store) == 1
    assert "no events" in caplog.text
    assert store.is_published(ID)


def test_events_of_a_results_folder_are_scored_against_labels(made, tmp_path):
    clip = tmp_path / "labelled" / "badminton" / "m1" / "video" / "c1.mp4"
    clip.parent.mkdir(parents=True)
    shutil.copy(made, clip)
    labelled = probe(clip, lambda: None)
    labels = clip.parents[1] / "csv" / "c1_ball.csv"
    labels.parent.mkdir()
    labels.write_text("Frame,Visibility,X,Y\n0,1,5,5\n")
    (tmp_path / "hits.csv").write_text("clip,frame\nc1,20\nc1,40\nc1,60\n")
    store = Store(tmp_path / "out")
    store.claim(KEY)
    row = video_row(labelled, [])
    rows = rows_of(np.full((90, 2), np.nan))
    events = [
        {"video_id": labelled.video_id, "source": "c1.mp4", "frame": frame, "kind": "hit",
         "x_px": 1.0, "y_px": 1.0, "score": 0.9, "offset": 0.0}
        for frame in (21, 44, 60, 80)
    ]  # fmt: skip
    derived = {"events": pa.Table.from_pylist(events, DERIVED["events"]),
               **{name: DERIVED[name].empty_table() for name in ("rallies", "shots")}}  # fmt: skip
    command = ("events", "score", tmp_path / "labelled", "--hits", tmp_path / "hits.csv")
    command += ("--tables", store.root, "--json")
    missing = run(*command)
    assert (missing.returncode, "track it" in missing.stderr) == (2, True)
    with store.lock():
        store.write_video(row)
        store.publish(rows, manifest_of(labelled.video_id, "c1.mp4"), {}, derived)
    done = run(*command)
    assert done.returncode == 0, done.stderr
    hits = [one for one in json.loads(done.stdout) if (one["game"], one["kind"]) == ("all", "hit")]
    assert {(one["labels"], one["found"]) for one in hits} == {(3, 4)}
    assert {one["within"]: one["right"] for one in hits} == {1: 2, 3: 2, 5: 3}
