"""Camera shots: cuts and fades are found, flashes and pans are none, and balls stay within."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tracknet
from tests import reels
from tests.runs import run
from tests.test_game import FPS, rows_of, video
from tracknet.jobs.game import game_tables
from tracknet.pipeline.events.scoring import count
from tracknet.pipeline.tracking.choose import choose_balls
from tracknet.pipeline.tracking.engine import DetectorSettings, FrameChunk
from tracknet.pipeline.tracking.link import Candidates
from tracknet.pipeline.tracking.shots import find_cuts, thumbnails_of, views_of
from tracknet.schemas import parquet
from tracknet.schemas.errors import TableError
from tracknet.schemas.tables import TRAJECTORIES

HARD = (0, False)
FADES = [HARD, (12, False), HARD, (25, False), (12, True), HARD, (25, True)]


@pytest.fixture(scope="module")
def rallies():
    return [reels.synthetic(seed) for seed in range(8)]


def thumbnails(pictures):
    chunk = FrameChunk(range(len(pictures)), 0, len(pictures), pictures)
    return np.stack(thumbnails_of(chunk)).reshape(len(pictures), -1)


def cuts_in(pictures, decoded=None, fps=30.0):
    decoded = np.ones(len(pictures), bool) if decoded is None else decoded
    return find_cuts(thumbnails(pictures), decoded, fps)


def score(found, cuts):
    return count(found, cuts, tolerance=2).f1


def test_cuts_and_fades_are_found(rallies):
    shots = [rallies[0], reels.flash(rallies[1], 20, 1), *rallies[2:7]]
    shots.append(reels.pan(rallies[7], 0.4, speed=6))
    reel = reels.join(shots, FADES)
    assert score(cuts_in(reel.pictures), reel.cuts) == 1


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("levels", [60, 255])
def test_a_flash_is_no_cut(rallies, frames, levels):
    assert cuts_in(reels.flash(rallies[0], 25, frames, levels)) == []


@pytest.mark.parametrize("speed", [2, 8, 30, 90])
def test_a_pan_is_no_cut(rallies, speed):
    assert cuts_in(reels.pan(rallies[0], 0.5, speed)) == []


def test_repeated_frames_are_no_cuts(rallies):
    panned = reels.pan(rallies[0], 0.5, 8)
    assert cuts_in(np.repeat(panned, 2, axis=0)) == []
    assert cuts_in(panned[np.arange(70) * 5 // 6]) == []


def test_a_flash_between_two_shots_is_one_cut(rallies):
    lit = reels.flash(rallies[0], 57, 3)
    (cut,) = cuts_in(np.concatenate([lit, rallies[1]]))
    assert 57 <= cut <= 60


@pytest.mark.parametrize("lost", [range(55, 60), range(58, 64), range(60, 61), range(60, 120)])
def test_frames_without_a_picture_are_passed_over(rallies, lost):
    decoded = np.ones(120, bool)
    decoded[list(lost)] = False
    cuts = cuts_in(np.concatenate(rallies[:2]), decoded)
    if lost.stop == 120:
        assert cuts == []
    else:
        assert cuts == [(min(lost.start, 60) + max(lost.stop, 60)) // 2]


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_short_video_is_one_shot(rallies, n):
    small = thumbnails(rallies[0][:5])[:n]
    for decoded in (np.ones(n, bool), np.zeros(n, bool)):
        assert find_cuts(small, decoded, 30.0) == []
        assert views_of(small, decoded, [], decoded) == ["rally"]


def test_long_videos_are_compared_in_pieces(rallies, monkeypatch):
    reel = reels.join(rallies, FADES)
    whole = cuts_in(reel.pictures)
    monkeypatch.setattr("tracknet.pipeline.tracking.shots._BLOCK", 37)
    assert cuts_in(reel.pictures) == whole


def test_the_rally_view_is_the_one_with_most_balls(rallies):
    court, other = rallies[0], reels.pan(rallies[1], 0.3, 2)
    reel = np.concatenate([other, court[:30], reels.pan(rallies[2], 0.3, 2), court[30:]])
    cuts, decoded = [60, 90, 150], np.ones(len(reel), bool)
    seen = np.zeros(len(reel), bool)
    seen[[*range(62, 85), *range(152, 170), *range(10)]] = True
    views = views_of(thumbnails(reel), decoded, cuts, seen)
    assert views == ["other", "rally", "other", "rally"]


FLIGHT = [[(8 * t, 50 - 12 * t + t * t, 0.9)] for t in range(20)]


def test_no_ball_is_bridged_or_linked_behind_a_cut():
    frames = [*FLIGHT[:8], [], [], *FLIGHT[10:]]
    lone = [*frames[:11], *([] for _ in FLIGHT[11:])]  # worth less than a track's beginning costs
    settings, decoded = DetectorSettings(), np.ones(20, bool)
    for cuts, goes_on in (((), True), ((9,), False)):
        balls = choose_balls(Candidates.of(frames), decoded, (512, 288), settings, cuts)
        assert balls.bridged[8:10].tolist() == [goes_on] * 2
        balls = choose_balls(Candidates.of(lone), decoded, (512, 288), settings, cuts)
        assert balls.seen[10] == goes_on


def test_rallies_end_at_a_cut_and_begin_in_the_rally_view():
    from tests.test_events import dribble

    xy, _ = dribble()
    rows = rows_of(xy, cuts=(40, 60))
    view = pa.array(np.where(np.arange(len(xy)) < 60, "rally", "other"))
    rows = rows.set_column(rows.schema.get_field_index("view"), "view", view)
    tables = game_tables(video(), rows)
    spans = [(r["first_frame"], r["last_frame"]) for r in tables["rallies"].to_pylist()]
    assert all(last < 40 or (first >= 40 and last < 60) for first, last in spans)
    shots = tables["shots"].to_pylist()
    assert [(s["shot"], s["first_frame"], s["last_frame"], s["view"]) for s in shots] == [
        (0, 0, 39, "rally"), (1, 40, 59, "rally"), (2, 60, 89, "other"),
    ]  # fmt: skip
    assert shots[1]["start_s"] == pytest.approx(40 / FPS + 7)
    seen = ~np.isnan(xy[:, 0])
    shares = [seen[:40].mean(), seen[40:60].mean(), seen[60:].mean()]
    assert [s["ball_share"] for s in shots] == pytest.approx(shares)


def test_results_of_an_older_version_have_no_shots(tmp_path):
    rows = rows_of(np.full((90, 2), np.nan)).drop_columns(["shot", "view"])
    parquet.write(rows, tmp_path / "old.parquet")
    old = parquet.read(tmp_path / "old.parquet", TRAJECTORIES)
    assert old["shot"].null_count == old["view"].null_count == 90
    assert len(game_tables(video(), old)["shots"]) == 0
    parquet.write(rows.drop_columns("x_px"), tmp_path / "bad.parquet")
    with pytest.raises(TableError, match="'x_px' is missing"):
        parquet.read(tmp_path / "bad.parquet", TRAJECTORIES)


def no_bridge_over(rows, cuts):
    """No run of bridged frames touches a cut: it would have a ball on either side."""
    status = rows["status"].to_list()
    return all("bridged" not in (status[cut - 1], status[cut]) for cut in cuts)


@pytest.fixture(scope="module")
def made(rallies, tmp_path_factory):
    """A reel of 5 s as a video."""
    reel = reels.join(rallies[:3], FADES[:2])
    return reels.write(tmp_path_factory.mktemp("reel") / "reel.mp4", reel.pictures), reel.cuts


def test_shots_do_not_depend_on_shards(made, tiny_weights, tmp_path):
    path, cuts = made
    out = tmp_path / "out"
    done = run("track", path, "--out", out, "--shard-seconds", 2, "--weights", tiny_weights)
    assert done.returncode == 0, done.stderr
    shots, rows = tracknet.read(out, "shots"), tracknet.read(out)
    assert score(shots["first_frame"][1:].tolist(), cuts) >= 0.95
    assert no_bridge_over(rows, shots["first_frame"][1:])
    labels = tmp_path / "cuts.csv"
    labels.write_text("clip,frame\n" + "".join(f"reel,{round(cut)}\n" for cut in cuts))
    done = run("events", "cuts", out, "--labels", labels, "--json")
    assert done.returncode == 0, done.stderr
    assert {(row["labels"], row["f1"] >= 0.95) for row in json.loads(done.stdout)} == {
        (len(cuts), True)
    }
    whole = tracknet.find(path, weights=str(tiny_weights), runtime="torch")  # in one piece
    assert whole[list(rows)].equals(rows)
    (file,) = (out / "shots").glob("*.parquet")
    assert len(pq.read_table(file)) == len(cuts) + 1


def test_cuts_between_real_clips(real_data, tmp_path, tiny_weights):
    names = ("badminton/match2/*/a00002", "padel/match1/*/0_54_5", "badminton/match5/*/*",
             "tennis/match6/*/*", "padel/match2/*/*", "badminton/match8/*/a00031")  # fmt: skip
    clips = [sorted(real_data.glob(f"{name}.mp4")) for name in names]
    clips = [found[0] for found in clips if found]
    shots = [reels.real(path, 10, 45) for path in clips]
    shots[1] = reels.flash(shots[1], 20, 2)
    fades = [HARD, (25, False), (12, True), HARD, (12, False)][: len(shots) - 1]
    reel = reels.join(shots, fades)
    path = reels.write(tmp_path / "reel.mp4", reel.pictures)
    rows = tracknet.find(path, weights=str(tiny_weights), runtime="torch")
    cuts = np.flatnonzero(rows["shot"].diff() == 1).tolist()
    assert score(cuts, reel.cuts) >= 0.95
    assert no_bridge_over(rows, cuts)
