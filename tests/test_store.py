"""The output folder: atomic, one result, one writer, manifests last."""

import os
import subprocess
import sys

import pyarrow as pa
import pytest

from tracknet.schemas import parquet
from tracknet.schemas.errors import Locked, MixedResults, TableError
from tracknet.schemas.store import ResultKey, Store
from tracknet.schemas.tables import QUARANTINE, RUNS, STAGED, TRAJECTORIES, VIDEOS

KEY = ResultKey("a" * 64, {"stride": 3, "peak": "centroid"})
TABLES = {
    "trajectories": TRAJECTORIES,
    "videos": VIDEOS,
    "quarantine": QUARANTINE,
    "runs": RUNS,
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def trajectory(n, video_id="v"):
    rows = [
        {
            "video_id": video_id,
            "source": "v.mp4",
            "frame": i,
            "pts": i,
            "time_s": i / 30,
            "status": "absent",
            "visible": False,
        }
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, TRAJECTORIES)


def staged_rows(frames):
    rows = [{"frame": f, "decoded": True, "candidates": []} for f in frames]
    return pa.Table.from_pylist(rows, STAGED)


@pytest.mark.parametrize("name", TABLES)
def test_every_field_says_what_it_is(name):
    for field in TABLES[name]:
        assert field.metadata[b"description"], field.name
        assert b"unit" in field.metadata


def test_published_video_reads_back(store):
    store.publish(trajectory(5), {"video_id": "v", "source": "v.mp4"}, {"weights": "w"})
    assert store.is_published("v")
    table = store.read_trajectory("v")
    assert table["frame"].to_pylist() == [0, 1, 2, 3, 4]
    path = store.trajectory_path("v")
    assert parquet.file_metadata(path)["weights"] == "w"
    assert table.schema.field("x_px").metadata[b"unit"] == b"px"
    assert store.trajectory_files() == [path]


@pytest.mark.parametrize("frames", [[0, 1, 1, 2], [0, 2, 1], [1, 2, 3]])
def test_rows_that_are_not_one_per_frame_are_refused(store, frames):
    table = trajectory(len(frames)).set_column(
        2, TRAJECTORIES.field("frame"), pa.array(frames, pa.int32())
    )
    with pytest.raises(ValueError, match="frames are not"):
        store.publish(table, {"video_id": "v", "source": "s"}, {})
    with pytest.raises(ValueError, match="not one per frame"):
        store.stage("v", range(frames[0], frames[0] + len(frames) + 1), staged_rows(frames), {})


def test_table_without_manifest_does_not_count(store):
    store.publish(trajectory(5), {"video_id": "v", "source": "s"}, {})
    (store.root / "manifests" / "v.json").unlink()
    assert not store.is_published("v")
    assert store.trajectory_files() == []


def test_table_that_is_not_the_manifests_does_not_count(store):
    store.publish(trajectory(5), {"video_id": "v", "source": "s"}, {})
    with store.trajectory_path("v").open("ab") as file:
        file.write(b"more")
    assert not store.is_published("v")


def test_staged_shards_come_back_in_order_and_go_with_publication(store):
    for owned in (range(3, 5), range(3)):
        store.stage("v", owned, staged_rows(owned), {"decoders": ["decord"]})
    assert store.is_staged("v", range(3))
    assert not store.is_staged("v", range(4))
    rows, reports = store.staged("v", [range(3), range(3, 5)])
    assert rows["frame"].to_pylist() == [0, 1, 2, 3, 4]
    assert [report["decoders"] for report in reports] == [["decord"], ["decord"]]
    store.publish(trajectory(5), {"video_id": "v", "source": "s"}, {})
    assert not store.is_staged("v", range(3))


def test_one_folder_holds_one_result(store):
    store.claim(KEY)
    store.claim(KEY)
    other = ResultKey("b" * 64, {"stride": 1, "peak": "centroid"})
    with pytest.raises(MixedResults, match="stride: 3 -> 1, weights_hash: aaaa"):
        store.claim(other)
    store.clear()
    store.claim(other)


def test_second_writer_is_told_who_the_first_is(store):
    code = (
        "import sys; from pathlib import Path; from tracknet.schemas.store import Store\n"
        "with Store(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Locked, match=f"process {holder.pid}"), store.lock():
        pass
    holder.kill()
    holder.communicate()
    with store.lock():  # the kernel let go of it
        pass


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    parquet.write(trajectory(3), path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        parquet.write(trajectory(9), path)
    assert len(parquet.read(path, TRAJECTORIES)) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_and_broken_tables_are_named(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(TableError, match=r"t\.parquet: cannot be read"):
        parquet.read(path, TRAJECTORIES)
    parquet.write(pa.table({"frame": [1.5]}), path)
    with pytest.raises(TableError, match="'video_id' is missing"):
        parquet.read(path, TRAJECTORIES)
    with pytest.raises(TableError, match="'frame' is double, must be int32"):
        parquet.read(path, TRAJECTORIES, ["frame"])


def test_quarantine_is_per_source_and_can_be_lifted(store):
    row = {"source": "b.mp4", "stage": "probe", "error": "empty", "attempts": 1}
    store.write_quarantine("b.mp4", [row])
    store.write_quarantine("a.mp4", [{**row, "source": "a.mp4"}])
    assert [r["source"] for r in store.quarantine()] == ["a.mp4", "b.mp4"]
    store.write_quarantine("b.mp4", [])
    assert [r["source"] for r in store.quarantine()] == ["a.mp4"]
