"""Archives and results in an object store: the same rows as on a disk, and nothing left over."""

import json
import os
import signal
import socket
import threading
import time

import pyarrow.compute as pc
import pytest

import tracknet
from tests.bookkeeping import KEY, Archive, make_contents
from tests.runs import ARCHIVE, check_one_row_per_frame, run, start, wait_for
from tests.videos import make_video
from tracknet.jobs.sources import find_sources
from tracknet.pipeline.decoding import scratch
from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.errors import InputError, MachineError
from tracknet.schemas.errors import ForeignFolder, Locked, NotWritable
from tracknet.schemas.files import files_below, place
from tracknet.schemas.lock import FolderLock
from tracknet.schemas.store import Store


@pytest.fixture(scope="session")
def remote_archive(bucket, archive):
    """The videos of `archive`, uploaded; and a text that is called like a video."""
    for path in files_below(archive):
        (place(f"{bucket}/in") / path.relative_to(archive).as_posix()).write_bytes(
            path.read_bytes()
        )
    return f"{bucket}/in"


def rows_of(out):
    """The published rows by file name, without what a source is called."""
    table = tracknet.read(out, arrow=True)
    names = pc.list_element(pc.split_pattern(table["source"], "/", max_splits=1, reverse=True), 1)
    kept = table.drop_columns("source")
    found = pc.unique(names).to_pylist()
    return {name: kept.filter(pc.equal(names, name)).combine_chunks() for name in found}


def names_in(out):
    return [path.relative_to(place(out)).as_posix() for path in files_below(place(out))]


@pytest.mark.slow
def test_rows_are_those_of_a_local_run(remote_archive, undisturbed, tiny_weights, bucket):
    out = f"{bucket}/out"
    command = ("track", remote_archive, "--out", out, "--weights", tiny_weights, "--json")
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert rows_of(out) == rows_of(undisturbed[0])
    assert json.loads(run(*command).stdout)["skipped"] == len(ARCHIVE)
    shown = json.loads(run("inspect", out, "--deep", "--json").stdout)
    assert shown["totals"] == json.loads(run("status", out, "--json").stdout)["totals"]
    assert all(video["source"].startswith("s3://") for video in shown["videos"])
    events = tracknet.read(undisturbed[0], "events").drop(columns="source")
    assert tracknet.read(out, "events").drop(columns="source").equals(events)
    derived = {"events", "rallies", "shots"}
    folders = {"manifests", "trajectories", "videos", "runs", "result.json", *derived}
    assert {name.split("/")[0] for name in names_in(out)} == folders
    assert not [*scratch._folder().glob("*.partial"), *scratch._folder().glob("*.room")]


@pytest.mark.slow
def test_a_driver_killed_twice(remote_archive, undisturbed, tiny_weights, bucket, tmp_path):
    out = f"{bucket}/killed"
    command = ("track", remote_archive, "--out", out, "--weights", tiny_weights)
    command += ("--shard-seconds", 1)
    for staged in (1, 4):
        victim = start(*command, log=tmp_path / "log")
        ended = victim.poll
        wait_for(lambda n=staged, ended=ended: len(names_in(f"{out}/staging")) >= n or ended())
        assert victim.poll() is None, (tmp_path / "log").read_text()
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        assert len(Store(place(out)).manifests()) < len(ARCHIVE)
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] < sum(ARCHIVE.values())  # it did not start over
    assert rows_of(out) == rows_of(undisturbed[0])
    check_one_row_per_frame(rows_of(out), ARCHIVE)
    assert not [n for n in names_in(out) if n.startswith(("staging", ".")) or "partial" in n]


@pytest.mark.slow
def test_fresh_replaces_our_objects_and_no_others(bucket, tmp_path):
    archive = Archive(tmp_path, make_contents(tmp_path))
    archive.out = root = place(f"{bucket}/fresh")
    archive.put("a.mp4", "one")
    archive.put("b.mp4", "two")
    archive.run()
    assert {name: len(table) for name, table in rows_of(root).items()} == {"a.mp4": 4, "b.mp4": 7}
    theirs = {"notes.txt", "staging/notes.txt"}
    for name in theirs:
        (root / name).write_text("a person's")
    archive.put("b.mp4", "three")
    for fresh in (True, False):
        archive.run(fresh=fresh)
        lengths = {name: len(table) for name, table in rows_of(root).items()}
        assert lengths == {"a.mp4": 4, "b.mp4": 40}
    assert {name for name in names_in(root) if name.endswith(".txt")} == theirs
    assert not [name for name in names_in(root) if name.startswith(".")]


def test_results_are_not_written_over_other_objects(bucket):
    root = place(f"{bucket}/foreign")
    (root / "trajectories" / f"{'0' * 32}.parquet").write_bytes(b"a person's")
    with pytest.raises(ForeignFolder, match="choose another --out"):
        Store(root).claim(KEY)


def test_one_writer_at_a_time(bucket, monkeypatch):
    path = place(f"{bucket}/locked/.lock")
    with FolderLock(path).hold():
        with pytest.raises(Locked, match=r"s3://archive/locked is being written by process \d+"):
            FolderLock(path).hold().__enter__()
        assert FolderLock(path).holder()["process"] == os.getpid()
    assert not path.exists()
    # Another machine's run, which shows life; it is taken over, notices it, and leaves the lock.
    with monkeypatch.context() as there:
        there.setattr("socket.gethostname", lambda: "other")
        first = FolderLock(path)
        held = first.hold()
        held.__enter__()
    with pytest.raises(Locked, match="--take-lock"):
        FolderLock(path).hold().__enter__()
    with FolderLock(path).hold(take=True):
        with pytest.raises(Locked, match="taken over"):
            first.check()
        held.__exit__(None, None, None)
        assert path.exists()
    # One of this host whose process is dead.
    path.write_text(json.dumps({"host": socket.gethostname(), "process": 2**22 + 1}))
    with FolderLock(path).hold():
        assert FolderLock(path).holder()["process"] == os.getpid()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://archive/list", ["a.mp4", "below/b.MKV"]),
        ("s3://archive/list/", ["a.mp4", "below/b.MKV"]),
        ("s3://archive/list/*.mp4", ["a.mp4"]),
        ("s3://archive/list/**/*.MKV", ["below/b.MKV"]),
        ("s3://archive/list/a.mp4", ["a.mp4"]),
        ("s3://archive/list/all.txt", ["below/b.MKV", "a.mp4", "gone.mp4"]),
    ],
)
def test_inputs(bucket, text, found):
    for name in ("a.mp4", "below/b.MKV", "below/notes.txt", "below/.c.mp4"):
        place(f"{bucket}/list/{name}").write_bytes(b"x")
    place(f"{bucket}/list2/other.mp4").write_bytes(b"x")
    names = "below/b.MKV\n# none\ns3://archive/list/a.mp4\ngone.mp4\n"
    place(f"{bucket}/list/all.txt").write_text(names)
    assert [str(path) for path in find_sources([text])] == [f"{bucket}/list/{n}" for n in found]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://archive/nothing", "no such object, and no videos below it or matching it"),
        ("s3://no-such-bucket/x.mp4", "no such object"),
        ("nosuch://x/y.mp4", "pip install 'tracknet"),
    ],
)
def test_inputs_that_are_not_there(bucket, text, message):
    with pytest.raises(InputError, match=message):
        find_sources([text])


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises(NotWritable, match=r"s3://no-such-bucket/out/.+: cannot be written"):
        Store(place("s3://no-such-bucket/out")).claim(KEY)


def test_copies_are_shared_bounded_and_removed(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_folder", lambda: tmp_path)
    video = make_video(tmp_path / "v.mp4", 20).read_bytes()
    for name in "abc":
        place(f"{bucket}/copies/{name}.mp4").write_bytes(video)
    a, b, c = (f"{bucket}/copies/{name}.mp4" for name in "abc")
    limit = 2 * len(video) + 10
    with scratch.local_copy(a, limit) as one, scratch.local_copy(a, limit) as same:
        assert one == same
        assert one.read_bytes() == video
        with scratch.local_copy(b, limit) as two:
            waiting = threading.Thread(target=lambda: scratch.local_copy(c, limit).__enter__())
            waiting.start()
            time.sleep(1)
            assert waiting.is_alive()  # nobody makes room for it yet
            assert two.exists()
        waiting.join(10)
        assert not waiting.is_alive()
        assert (one.exists(), two.exists()) == (True, False)
    with pytest.raises(MachineError, match="more than all local copies may take"):
        scratch.local_copy(a, 10).__enter__()
    scratch.remove_unread()
    assert not list(tmp_path.glob("*.mp4.*"))
    with Decoder() as decoder:
        found = decoder.probe(place(a))
        assert (found.source, found.frames) == (a, 20)
        place(a).unlink()
        with pytest.raises(MachineError, match=r"s3://archive/copies/a.mp4: cannot be reached"):
            list(decoder.read(found, range(20), 64, 64))
