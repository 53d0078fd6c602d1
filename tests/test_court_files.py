"""Court files and commands, where a court is kept, and which tables follow from it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

import tracknet
from tests.bookkeeping import KEY, Archive, make_contents, manifest_of
from tests.runs import run
from tests.test_court import CORNERS, COURT, SIZE, T
from tests.test_events import dribble
from tests.test_game import ID, rows_of
from tests.videos import make_video
from tracknet.jobs.courts import CourtEntry, court_at, entry_of, read_courts
from tracknet.jobs.game import fill
from tracknet.jobs.plan import video_row
from tracknet.pipeline.decoding.probe import probe
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.standards import STANDARDS
from tracknet.schemas.courts import courts_of
from tracknet.schemas.store import Store
from tracknet.schemas.tables import DERIVED

# ---- court files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "cannot be read as JSON"),
        ("[]", "must hold"),
        ('{"courts": 3}', "must hold"),
        ('{"courts": [3]}', "court 1"),
        (json.dumps({"courts": [COURT, COURT | {"sport": "chess"}]}), "court 2: no court of"),
        (json.dumps({"courts": [{k: v for k, v in COURT.items() if k != "size"}]}), "size"),
        (json.dumps({"courts": [COURT | {"size": [0, 720]}]}), "width and height"),
        (json.dumps({"courts": [COURT | {"colour": "red"}]}), "colour"),
        (json.dumps({"courts": [COURT | {"points": {}}]}), "needs four"),
    ],
)  # fmt: skip
def test_broken_court_files_are_named(tmp_path, text, message):
    path = tmp_path / "court.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_courts(path)
    assert str(path) in str(caught.value)


def test_the_last_court_that_fits_a_frame_counts_and_points_are_scaled():
    rows = [COURT, COURT | {"sport": "tennis-singles", "frames": [10, 19]}]
    found = court_at(rows, (2560, 1440))
    assert [found(frame).sport for frame in (9, 10, 19, 20)] == ["tennis", *["tennis-singles"] * 2,
                                                                 "tennis"]  # fmt: skip
    assert found(9) is found(20)
    small, large = entry_of(COURT).fit(), found(0)
    at = np.array([[640.0, 500.0]])
    assert large.to_metres(2 * at + 0.5) == pytest.approx(small.to_metres(at), abs=1e-6)
    assert court_at([], SIZE)(0) is None


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("made") / "final.mp4", 5, *SIZE)


def words(points):
    return [word for n, (x, y) in points.items() for word in ("--point", f"{n}={x},{y}")]


def test_a_person_writes_a_court_file(video, tmp_path):
    guide, file, check = tmp_path / "guide.png", tmp_path / "court.json", tmp_path / "check.png"
    assert run("court", video, "--picture", guide).returncode == 0
    assert cv2.imread(str(guide)).shape[1] > 1280
    done = run("court", video, *words(CORNERS | T), "--out", file, "--picture", check)
    assert done.returncode == 0, done.stderr
    assert "near-T" in done.stdout
    drawn = cv2.imread(str(check))
    assert drawn.shape == (720, 1280, 3)
    assert (np.abs(drawn - np.array([200.0, 60.0, 255.0])).max(2) < 90).sum() > 500
    assert read_courts(file) == [json.loads(json.dumps(COURT | {"video": "final.mp4"}))]
    run("court", video, *words(CORNERS), "--out", file)
    assert [len(row["points"]) for row in read_courts(file)] == [4]
    run("court", video, *words(CORNERS), "--out", file, "--for", "*", "--frames", "5-9")
    assert [row.get("frames") for row in read_courts(file)] == [None, [5, 9]]


def test_a_small_picture_is_enlarged_for_reading(tmp_path):
    small = make_video(tmp_path / "small.mp4", 3, 320, 180)
    assert run("court", small, "--sport", "padel", "--picture", tmp_path / "g.png").returncode == 0
    assert cv2.imread(str(tmp_path / "g.png")).shape[0] == 720


@pytest.mark.parametrize("sport", STANDARDS)
def test_landmarks_are_listed(sport):
    done = run("court", "--list", "--sport", sport)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in STANDARDS[sport].landmarks)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "--picture alone"),
        (("--out", "c.json"), "give --point"),
        (("--point", "near-left"), "is not NAME=X,Y"),
        (("--point", "near-left=1,2", "--point", "near-left=1,3"), "twice"),
        (("--point", "near-left=1,2"), "needs four"),
        (("--sport", "chess"), "known are"),
        (("--frames", "9-5"), "is not FIRST-LAST"),
        (("--picture", "c.jpg"), "ends in .png"),
        (("--picture", "c.png", "--frame", "900"), "900"),
    ],
)
def test_mistakes_get_one_line(video, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    done = run("court", video, *more)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


# ---- where it is kept -------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    """Two published videos with events, made without a court."""
    store = Store(tmp_path / "out")
    store.claim(KEY)
    with store.lock():
        for video_id, name in ((ID, "a"), ("d" * 32, "b")):
            made = make_video(tmp_path / f"{name}.mp4", 90, 64, 48)
            of_court = {"video_id": video_id, "width": SIZE[0], "height": SIZE[1]}
            row = video_row(probe(made, lambda: None), []) | of_court
            store.write_video(row)
            rows = rows_of(dribble()[0])
            for column, value in (("video_id", video_id), ("source", row["source"])):
                at = rows.schema.get_field_index(column)
                rows = rows.set_column(at, rows.schema.field(at), pa.array([value] * len(rows)))
            store.publish(rows, manifest_of(video_id, row["source"]), {})
        assert fill(store) == 2
    return store


def events_of(store):
    rows = tracknet.read(store.root, "events")
    return {Path(source).stem: group for source, group in rows.groupby("source")}


def write(path, *rows):
    path.write_text(json.dumps({"courts": rows}))
    return path


def test_events_are_made_again_where_the_court_changes_and_only_there(results, tmp_path):
    assert tracknet.read(results.root, "events")["x_m"].isna().all()
    command = ("events", "find", results.root, "--court")
    done = run(*command, write(tmp_path / "c.json", COURT | {"video": "a.mp4"}))
    assert "events of 1 videos" in done.stdout, done.stderr
    events = events_of(results)
    bounces = events["a"][events["a"]["kind"] == "bounce"]
    assert bounces["in_court"].all()
    assert bounces["y_m"].between(-11, -9).all()
    assert events["b"]["x_m"].isna().all()
    assert "events of 0 videos" in run(*command, tmp_path / "c.json").stdout
    assert "events of 0 videos" in run("events", "find", results.root).stdout
    assert "events of 2 videos" in run(*command, write(tmp_path / "d.json", COURT)).stdout
    assert events_of(results)["b"]["x_m"].notna().any()
    assert "events of 2 videos" in run(*command, write(tmp_path / "e.json")).stdout
    assert tracknet.read(results.root, "events")["x_m"].isna().all()


def test_until_they_are_made_again_there_are_none(results):
    with results.lock():
        results.write_courts([COURT])
    assert tracknet.read(results.root, "events").empty
    with results.lock():
        assert fill(results) == 2
    assert tracknet.read(results.root, "events")["x_m"].notna().any()


def test_a_video_that_is_renamed_may_have_another_court(results, tmp_path):
    with results.lock():
        results.write_courts([COURT | {"video": "a.mp4"}])
        fill(results)
        (tmp_path / "a.mp4").rename(tmp_path / "c.mp4")
        results.rename(ID, str(tmp_path / "c.mp4"), [])
        assert fill(results) == 1
    assert events_of(results)["c"]["x_m"].isna().all()


def test_tables_without_the_columns_of_today_are_made_again(results):
    """As of a folder that an older version made."""
    path = results.derived_path("events", ID)
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(path).drop_columns(["x_m", "speed_kmh"]), path)
    document = json.loads(results._manifest_path(ID).read_text())
    for name in ("check", "derived_from"):
        del document[name]
    with results.lock():
        del document["derived"]["rallies"]
        results._write_manifest({**document, "derived": ["events", "rallies"]})
        assert results.lacks_derived(ID)
        assert fill(results) == 1
    assert set(tracknet.read(results.root, "events").columns) == set(DERIVED["events"].names)


def test_patterns_name_videos():
    rows = [COURT, COURT | {"video": "final*.mp4"}, COURT | {"video": "/archive/*/b.mp4"}]
    assert [row["video"] for row in courts_of(rows, "/archive/x/y/b.mp4")] == [
        "*",
        rows[2]["video"],
    ]
    assert [row["video"] for row in courts_of(rows, "/v/final 2.mp4")] == ["*", "final*.mp4"]


def test_runs_keep_the_court(tmp_path):
    archive = Archive(tmp_path, make_contents(tmp_path))
    archive.put("a.mp4", "three")
    store = Store(archive.out)
    small = entry_of(COURT)
    points = {n: (x / 40, y / 22.5) for n, (x, y) in small.points.items()}
    row = CourtEntry("*", "tennis", (32, 32), points).row()
    archive.run(courts=[row])
    assert store.courts() == [row]
    key = store.manifests()[0]["derived_from"]
    archive.run()
    assert (store.courts(), store.manifests()[0]["derived_from"]) == ([row], key)
    archive.run(fresh=True)
    assert (store.courts(), store.manifests()[0]["derived_from"]) == ([row], key)
    archive.run(fresh=True, courts=[])
    assert store.courts() == []
    assert not store.lacks_derived(store.manifests()[0]["video_id"])
    assert store.manifests()[0]["derived_from"] != key


def test_a_court_reaches_find_and_track(tiny_weights, tmp_path):
    source = make_video(tmp_path / "a.mp4", 31, 320, 180)
    file = write(tmp_path / "court.json", COURT)
    options = {"weights": str(tiny_weights), "runtime": "torch"}
    rows = tracknet.find(source, court=file, **options)
    assert {"event", "x_m", "y_m", "in_court", "speed_kmh"} <= set(rows.columns)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        tracknet.track(source, tmp_path / "out", court=source, **options)


def test_the_report_has_the_court(results, tmp_path):
    out = tmp_path / "report.html"
    assert run("report", results.root, "--out", out).returncode == 0
    assert "Bounces on the court" not in out.read_text("utf-8")
    with results.lock():
        results.write_courts([COURT | {"video": "a.mp4"}])
        fill(results)
    assert run("report", results.root, "--out", out).returncode == 0
    text = out.read_text("utf-8")
    assert text.count("Bounces on the court (tennis)") == 1
    assert "#2a9d5c" in text.split("Bounces on the court")[1]
