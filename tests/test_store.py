"""The output folder: atomic, one result, one writer, manifests last."""

import errno
import os
import socket
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from tests.bookkeeping import KEY, manifest_of
from tests.runs import wait_for
from tracknet.schemas import lock as locks
from tracknet.schemas import parquet
from tracknet.schemas.errors import ForeignFolder, Locked, MixedResults, NotWritable, TableError
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store
from tracknet.schemas.tables import QUARANTINE, RUNS, STAGED, TRAJECTORIES, VIDEOS

V = "0123456789abcdef" * 2
TABLES = {
    "trajectories": TRAJECTORIES,
    "videos": VIDEOS,
    "quarantine": QUARANTINE,
    "runs": RUNS,
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def trajectory(n, video_id=V):
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


def manifest(source="v.mp4", problems=()):
    return manifest_of(V, source, problems)


def staged_rows(frames):
    rows = [{"frame": f, "decoded": True, "candidates": []} for f in frames]
    return pa.Table.from_pylist(rows, STAGED)


@pytest.mark.parametrize("name", TABLES)
def test_every_field_says_what_it_is(name):
    for field in TABLES[name]:
        assert field.metadata[b"description"], field.name
        assert b"unit" in field.metadata


def test_published_video_reads_back(store):
    store.publish(trajectory(5), manifest(), {"weights": "w"})
    assert store.is_published(V)
    table = store.read_trajectory(V)
    assert table["frame"].to_pylist() == [0, 1, 2, 3, 4]
    path = store.trajectory_path(V)
    assert parquet.file_metadata(path)["weights"] == "w"
    assert table.schema.field("x_px").metadata[b"unit"] == b"px"
    assert store.trajectory_files() == [path]


@pytest.mark.parametrize("frames", [[0, 1, 1, 2], [0, 2, 1], [1, 2, 3]])
def test_rows_that_are_not_one_per_frame_are_refused(store, frames):
    table = trajectory(len(frames)).set_column(
        2, TRAJECTORIES.field("frame"), pa.array(frames, pa.int32())
    )
    with pytest.raises(ValueError, match="frames are not"):
        store.publish(table, manifest(), {})
    with pytest.raises(ValueError, match="not one per frame"):
        store.stage(V, range(frames[0], frames[0] + len(frames) + 1), staged_rows(frames), {})


def test_table_without_manifest_does_not_count(store):
    store.publish(trajectory(5), manifest(), {})
    (store.root / "manifests" / f"{V}.json").unlink()
    assert not store.is_published(V)
    assert store.trajectory_files() == []


def test_table_that_is_not_the_manifests_does_not_count(store):
    store.publish(trajectory(5), manifest(), {})
    with store.trajectory_path(V).open("ab") as file:
        file.write(b"more")
    assert not store.is_published(V)


def test_staged_shards_come_back_in_order_and_go_with_publication(store):
    for owned in (range(3, 5), range(3)):
        store.stage(V, owned, staged_rows(owned), {"decoders": ["decord"]})
    assert store.is_staged(V, range(3))
    assert not store.is_staged(V, range(4))
    rows, reports = store.staged(V, [range(3), range(3, 5)])
    assert rows["frame"].to_pylist() == [0, 1, 2, 3, 4]
    assert [report["decoders"] for report in reports] == [["decord"], ["decord"]]
    store.publish(trajectory(5), manifest(), {})
    assert not store.is_staged(V, range(3))


@pytest.mark.parametrize("cut", [True, False])
def test_damaged_table_does_not_count(store, cut):
    store.publish(trajectory(500), manifest(), {})
    path = store.trajectory_path(V)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content[: len(content) // 2] if cut else content)
    assert store.is_published(V) != cut
    assert not store.is_sound(V)
    with pytest.raises((TableError, KeyError)):
        store.read_trajectory(V)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"video_id": "other"}'])
def test_damaged_manifest_is_as_if_it_were_not_there(store, content):
    store.publish(trajectory(5), manifest(), {})
    (store.root / "manifests" / f"{V}.json").write_text(content)
    assert store.fault(V) == "its manifest is damaged"
    assert store.manifests() == store.trajectory_files() == []


def test_damaged_shard_is_as_if_it_were_not_there(store):
    store.stage(V, range(3), staged_rows(range(3)), {"damage": None})
    (path,) = store.root.glob("staging/*/*.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    assert not store.is_staged(V, range(3))


def test_one_folder_holds_one_result(store):
    store.claim(KEY)
    store.claim(KEY)
    other = ResultKey("b" * 64, {"stride": 1})
    with pytest.raises(MixedResults, match="stride: 3 -> 1, weights_hash: aaaa"):
        store.claim(other)


def test_lost_marker_is_made_again_only_for_the_same_result(store):
    store.claim(KEY)
    store.publish(trajectory(5), manifest(), {})
    marker = store.root / "result.json"
    for content in (b"", b"{", b"\xff"):
        marker.write_bytes(content)
        with pytest.raises(ForeignFolder):
            store.claim(ResultKey("b" * 64, {}))
        store.claim(KEY)
        assert KEY.matches(store.marker)


def test_a_folder_of_somebody_else_is_left_alone(store):
    store.root.joinpath("result.json").write_text('{"accuracy": 0.9}')
    with pytest.raises(ForeignFolder, match=r"result\.json"):
        store.claim(KEY)
    assert store.root.joinpath("result.json").read_text() == '{"accuracy": 0.9}'


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
    with pytest.raises(Locked, match=f"process {holder.pid} on .* since 20"), store.lock(take=True):
        pass
    holder.kill()
    holder.communicate()
    with store.lock():  # the kernel let go of it
        pass


def test_lock_of_another_machine_counts_while_it_shows_life(store):
    with store.lock():
        line = (store.root / ".lock").read_text()
    assert (store.root / ".lock").read_text() == ""  # released
    (store.root / ".lock").write_text(line.replace(socket.gethostname(), "elsewhere"))
    with pytest.raises(Locked, match=r"elsewhere.* 0 s ago; .*--take-lock"), store.lock():
        pass
    with store.lock(take=True):
        pass
    (store.root / ".lock").write_text(line.replace(socket.gethostname(), "elsewhere"))
    silent = time.time() - locks.DEAD_AFTER_S - 1
    os.utime(store.root / ".lock", (silent, silent))
    with store.lock():
        pass
    (store.root / ".lock").write_text("1234")  # by an older version, which left it there
    with store.lock():
        pass


def test_a_run_that_was_taken_over_from_publishes_nothing(store):
    with store.lock():
        (store.root / ".lock").write_text('{"host": "elsewhere", "process": 1, "started": "now"}')
        with pytest.raises(Locked, match="taken over by process 1 on elsewhere"):
            store.publish(trajectory(5), manifest(), {})
        with pytest.raises(Locked, match="taken over"):
            store.stage(V, range(2), staged_rows(range(2)), {})
    assert not store.trajectory_path(V).exists()
    assert not (store.root / "staging").exists()


def test_a_run_shows_life_while_it_holds_the_lock(store, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.01)
    with store.lock():
        os.utime(store.root / ".lock", (0, 0))
        wait_for(lambda: (store.root / ".lock").stat().st_mtime > 0)


@pytest.mark.parametrize("problem", ["a file", "full"])
def test_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, problem):
    store = Store(tmp_path / "out")
    if problem == "a file":
        store.root.write_text("")
        with pytest.raises(NotWritable, match=r"out/\.lock: cannot be written"), store.lock():
            pass
    else:
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(NotWritable, match=r"result\.json: .*No space left"):
            store.claim(KEY)


def test_killed_run_is_told_as_interrupted_with_what_it_published(store):
    row = dict.fromkeys(RUNS.names, 0) | {"run_id": "r", "status": "running", "started": 0}
    text = ("result_key", "weights", "weights_hash", "settings", "versions")
    store.write_run({**row, **dict.fromkeys(text, ""), "finished": None})
    store.publish(trajectory(5), manifest(), {})
    store.settle_runs()
    (run,) = store.runs()
    assert (run["status"], run["videos"], run["frames"]) == ("interrupted", 1, 5)
    (store.root / "runs" / "r.parquet").write_bytes(b"damaged")
    assert store.runs() == []


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    parquet.write(trajectory(3), path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(NotWritable, match="disk full"):
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


def test_quarantine_follows_from_the_manifest(store):
    bad = {"stage": "probe", "error": "cut", "attempts": 1, "shard_first": None, "shard_stop": None}
    store.publish(trajectory(5), {**manifest(problems=[bad]), "copies": ["b.mp4"]}, {})
    assert [(r["source"], r["video_id"]) for r in store.quarantine()] == [
        ("b.mp4", V),
        ("v.mp4", V),
    ]
    (copy,) = store.root.glob("quarantine/*.parquet")
    assert parquet.read(copy, QUARANTINE)["source"].to_pylist() == ["v.mp4", "b.mp4"]
    store.publish(trajectory(5), manifest(), {})
    assert store.quarantine() == list(store.root.glob("quarantine/*.parquet")) == []
