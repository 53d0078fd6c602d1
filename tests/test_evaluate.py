"""Scoring: labels meet rows by content, every labelled frame is judged once, figures follow."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from tests.bookkeeping import manifest_of
from tests.videos import make_video
from tracknet.commands import main as cli
from tracknet.commands.scores import plot_evaluation
from tracknet.jobs.evaluate import MIN_SCORES, Protocol, evaluate
from tracknet.jobs.worst import write_pictures
from tracknet.pipeline.datasets import clip_id, find_clips
from tracknet.pipeline.errors import InputError, LabelError
from tracknet.pipeline.scoring.errors import KINDS
from tracknet.pipeline.scoring.metrics import Counts
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store
from tracknet.schemas.tables import EVAL_ERRORS, EVAL_FRAMES, EVAL_METRICS, TRAJECTORIES

FRAMES, WIDTH, HEIGHT = 8, 1280, 720
# Frame 0 and 1 are unlabelled; 2..7 are: hit, hit, too far, missed, false alarm, rightly nothing.
LABELS = [(2, 1, 100, 100), (3, 2, 200, 100), (4, 1, 300, 100), (5, 3, 400, 100), (6, 0, 0, 0),
          (7, 0, 0, 0)]  # fmt: skip
FOUND = {
    0: (9, 9, 0.9),
    2: (101, 101, 0.9),
    3: (205, 100, 0.55),
    4: (330, 100, 0.9),
    6: (50, 50, 0.65),
}
COUNTS = Counts(tp=2, fp1=1, fp2=1, tn=1, fn=1)


def write_labels(path: Path, labels: list[tuple[int, int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("Frame", "Visibility", "X", "Y"), *labels])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one match, and one of another."""
    root = tmp_path_factory.mktemp("made") / "labelled"
    for match, name, seed in (("m1", "a", 1), ("m1", "b", 2), ("m2", "c", 3)):
        folder = root / "badminton" / match
        (folder / "video").mkdir(parents=True, exist_ok=True)
        make_video(folder / "video" / f"{name}.mp4", FRAMES, width=WIDTH, height=HEIGHT, gop=seed)
        write_labels(folder / "csv" / f"{name}_ball.csv", LABELS)
    with (root / "clips.csv").open("w", newline="") as file:
        rows = [("sport", "match", "clip", "split", "test_set", "frames", "width", "height")]
        for match, name in (("m1", "a"), ("m1", "b"), ("m2", "c")):
            rows.append(("badminton", match, name, "test", "published", FRAMES, WIDTH, HEIGHT))
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy, for a test that breaks it."""
    return Path(shutil.copytree(made, tmp_path / "labelled"))


def publish(store: Store, video_id: str, found: dict[int, tuple[float, float, float]]) -> None:
    rows = []
    for frame in range(FRAMES):
        x, y, score = found.get(frame, (None, None, None))
        status = "undecodable" if frame == 5 else "detected" if x is not None else "absent"
        rows.append({"video_id": video_id, "source": "s", "frame": frame, "pts": frame,
                     "status": status, "visible": None if frame == 5 else x is not None,
                     "x_px": x, "y_px": y, "score": score})  # fmt: skip
    table = pa.Table.from_pylist(rows, TRAJECTORIES)
    store.publish(table, manifest_of(video_id, "s"), {})


@pytest.fixture
def store(tmp_path: Path, root: Path) -> Store:
    store = Store(tmp_path / "out")
    store.claim(ResultKey("abc", {}))
    for clip in find_clips(root)[:2]:
        publish(store, clip_id(clip), FOUND)
    return store


def counts_of(row: dict[str, object]) -> Counts:
    return Counts(*(row[name] for name in ("tp", "fp1", "fp2", "tn", "fn")))  # type: ignore[arg-type]


def test_every_labelled_frame_is_judged_once(store: Store, root: Path) -> None:
    found = evaluate(store, find_clips(root), Protocol())
    table = pq.read_table(store.root / "eval_frames" / "model-4px")
    assert table.schema.equals(EVAL_FRAMES)
    assert len(table) == 2 * len(LABELS)
    by_frame = {row["frame"]: row for row in table.to_pylist()}
    outcomes = [by_frame[frame]["outcome"] for frame in range(2, 8)]
    assert outcomes == ["TP", "TP", "FP1", "FN", "FP2", "TN"]
    errors = [by_frame[frame]["error"] for frame in range(2, 8)]
    assert errors == [None, None, "far", "missed_moving", "false_alarm", None]
    assert by_frame[5]["error_px"] is None
    assert by_frame[6]["label_x_px"] is None
    assert {row["tolerance_px"] for row in by_frame.values()} == {4.0}
    assert {row["space"] for row in by_frame.values()} == {"model"}
    assert [str(clip) for clip in found.missing] == ["badminton/m2/c"]


def test_errors_are_counted_by_kind(store: Store, root: Path) -> None:
    found = evaluate(store, find_clips(root), Protocol())
    written = pq.read_table(store.root / "eval_errors" / "model-4px.parquet")
    assert written.schema.equals(EVAL_ERRORS)
    assert written.to_pylist() == found.errors
    kinds = {row["error"]: row["frames"] for row in found.errors if row["grouping"] == "all"}
    wrong = {"missed_moving": 2, "far": 2, "false_alarm": 2}
    assert kinds == {**dict.fromkeys(KINDS, 0), **wrong}


@pytest.mark.slow
def test_wrong_frames_are_drawn(store: Store, root: Path, tmp_path: Path) -> None:
    files = write_pictures(store, evaluate(store, find_clips(root), Protocol()), tmp_path)
    names = ["missed_moving-1", "missed_moving-2", "far-1", "far-2", "false_alarm-1"]
    assert [path.stem for path in files] == [*names, "false_alarm-2"]
    for path in files:
        assert cv2.imread(str(path)).shape == (HEIGHT + 256, WIDTH, 3)


def test_metrics_are_sums_of_frames(store: Store, root: Path) -> None:
    found = evaluate(store, find_clips(root), Protocol())
    written = pq.read_table(found.file)
    assert written.schema.equals(EVAL_METRICS)
    assert pq.read_schema(found.file).metadata[b"weights_hash"] == b"abc"
    (everything,) = found.rows("all")
    assert counts_of(everything) == COUNTS + COUNTS
    assert everything["f1"] == pytest.approx(4 / 7)
    assert everything["f1_low"] == everything["f1_high"] == everything["f1"]  # equal clips
    for grouping in ("split", "test_set", "sport", "match", "clip", "visibility"):
        rows = found.rows(grouping)
        total = sum((counts_of(row) for row in rows), Counts())
        assert total == counts_of(everything), grouping
    assert [row["group"] for row in found.rows("test_set")] == ["badminton/published"]
    assert all(row["f1_low"] is None for row in found.rows("clip"))


def test_a_higher_least_score_drops_balls(store: Store, root: Path) -> None:
    found = evaluate(store, find_clips(root)[:1], Protocol())
    sweep = {least: counts_of(found.rows("all", least)[0]) for least in MIN_SCORES}
    assert sweep[0.0] == COUNTS
    assert sweep[0.6] == Counts(tp=1, fp1=1, fp2=1, tn=1, fn=2)  # frame 3 is not found any more
    assert sweep[0.7] == Counts(tp=1, fp1=1, fp2=0, tn=2, fn=2)  # nor is the false alarm
    assert sweep[0.95] == Counts(tn=2, fn=4)


@pytest.mark.parametrize(
    ("protocol", "hits"),
    [
        (Protocol(4.0, "model"), 2),
        (Protocol(1.0, "model"), 1),
        (Protocol(4.0, "source"), 1),
        (Protocol(5.0, "source"), 1),  # exactly 5 px is no hit
        (Protocol(5.01, "source"), 2),
        (Protocol(40.0, "source"), 3),
    ],
)
def test_tolerance_and_space(store: Store, root: Path, protocol: Protocol, hits: int) -> None:
    (row,) = evaluate(store, find_clips(root)[:1], protocol).rows("all")
    assert (row["tp"], row["space"], row["tolerance_px"]) == (
        hits, protocol.space, protocol.tolerance,
    )  # fmt: skip


def test_protocols_stand_side_by_side_and_are_replaced_whole(store: Store, root: Path) -> None:
    clips = find_clips(root)
    evaluate(store, clips[:2], Protocol())
    evaluate(store, clips[:2], Protocol(10, "source"))
    evaluate(store, clips[:1], Protocol())
    assert len(list((store.root / "eval_frames" / "model-4px").glob("*.parquet"))) == 1
    assert len(list((store.root / "eval_frames" / "source-10px").glob("*.parquet"))) == 2


def test_what_cannot_be_scored_says_what_to_do(store: Store, root: Path, tmp_path: Path) -> None:
    earlier = evaluate(store, find_clips(root), Protocol())
    with pytest.raises(InputError, match="track them first"):
        evaluate(store, find_clips(root)[2:], Protocol())
    assert earlier.file.exists()
    with pytest.raises(InputError, match="tolerance"):
        Protocol(0)
    write_labels(root / "badminton" / "m1" / "csv" / "a_ball.csv", [(FRAMES, 1, 5, 5)])
    with pytest.raises(LabelError, match=r"a_ball\.csv:2"):
        evaluate(store, find_clips(root), Protocol())


def test_picture(store: Store, root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "scores.png"
    plot_evaluation(evaluate(store, find_clips(root), Protocol()), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def tracknet(*arguments: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def test_commands(store: Store, root: Path) -> None:
    done = tracknet("clips", root, "--split", "test", "--paths")
    assert done.exit_code == 0
    assert [Path(line).name for line in done.stdout.split()] == ["a.mp4", "b.mp4", "c.mp4"]
    done = tracknet("clips", root)
    assert "3 clips, 18 labelled frames" in done.stdout
    done = tracknet("evaluate", store.root, "--labels", root, "--json")
    assert done.exit_code == 3, done.stderr
    assert "not tracked: badminton/m2/c" in done.stderr
    rows = json.loads(done.stdout)["metrics"]
    assert rows[0]["frames"] == 12
    done = tracknet("evaluate", store.root, "--labels", root)
    assert "57.14" in done.stdout  # F1 of all
    assert "93.68" in done.stdout  # beside what others published on this set
