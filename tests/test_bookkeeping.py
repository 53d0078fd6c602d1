"""The tables are right after anything that an archive, a machine or a person does.

The faults that were seen, one test each; `test_any_order` looks for more.
"""

import json
import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from tests.bookkeeping import Archive, Killed, detect, make_contents, published
from tracknet.jobs.commit import WorkError
from tracknet.jobs.notes import WorkNotes
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.show import inventory
from tracknet.jobs.stages import FRAME_ROW, DetectStage
from tracknet.jobs.track import track
from tracknet.pipeline.errors import InputError, StoppedEarly, WeightsError
from tracknet.schemas.errors import ForeignFolder
from tracknet.schemas.store import Store


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    return make_contents(tmp_path_factory.mktemp("contents"))


@pytest.fixture
def archive(tmp_path, contents):
    made = Archive(tmp_path, contents)
    made.put("a.mp4", "one")
    return made


def names_of(archive):
    return {archive.folder.joinpath(s).name for t in published(archive.out).values()
            for s in set(t["source"].to_pylist())}  # fmt: skip


def test_what_is_left_of_a_swap_deletes_nothing_later(archive, monkeypatch):
    archive.run()
    with monkeypatch.context() as storage:  # that does not let go of a folder
        storage.setattr("tracknet.schemas.folder.remove_tree", lambda folder: None)
        archive.check(archive.run(fresh=True))
        archive.put("b.mp4", "two")
        archive.check(archive.run())
    again = archive.run()
    archive.check(again)
    assert again.skipped == 2


def test_fresh_checks_before_it_replaces(archive):
    archive.run()
    before = published(archive.out)
    with pytest.raises(WeightsError):
        track([archive.folder / "a.mp4"], archive.out, TrackSettings("no-such-weights"), fresh=True)
    assert published(archive.out) == before


def test_fresh_replaces_our_files_and_no_others(archive):
    archive.put("b.mp4", "two")
    archive.run()
    theirs = ["videos/c0.mp4", "videos/notes.txt", "runs/training.log", "trajectories/my.parquet"]
    for name in theirs:
        (archive.out / name).write_text("a person's")
    (archive.folder / "b.mp4").unlink()
    archive.run(fresh=True)
    for name in theirs:
        assert (archive.out / name).read_text() == "a person's"
        (archive.out / name).unlink()
    archive.check(archive.run())
    assert len(published(archive.out)) == 1
    assert len(list(archive.out.glob("runs/*"))) == 2
    assert not list(archive.out.glob(".fresh*"))


def test_fresh_deletes_nothing_where_the_marker_is_not(archive):
    row = archive.out / "videos" / f"{'0' * 32}.parquet"
    row.parent.mkdir(parents=True)
    row.write_text("looks like ours")
    with pytest.raises(ForeignFolder, match="no marker"):
        archive.run(fresh=True)
    assert row.read_text() == "looks like ours"


def test_old_results_stay_until_a_fresh_run_is_complete(archive):
    archive.put("b.mp4", "two")
    archive.run()
    before = {path: path.read_bytes() for path in archive.out.glob("[!.]*/*.*")}

    def dies(store, shards):
        yield from detect(store, shards[:1])
        raise Killed

    with pytest.raises(Killed):
        archive.run(fresh=True, work=dies)
    assert {path: path.read_bytes() for path in archive.out.glob("[!.]*/*.*")} == before
    assert archive.run(fresh=True).videos == 1  # it goes on
    archive.check(archive.run())
    with pytest.raises(Killed):
        archive.run(fresh=True, work=dies)
    assert archive.run().frames == 0  # it gives that up
    assert archive.run(fresh=True).videos == 2


def test_fresh_is_not_swapped_in_while_the_machine_fails(archive):
    archive.run()
    (archive.folder / "a.mp4").rename(archive.folder / "gone")
    (archive.folder / "list.txt").write_text("a.mp4\n")
    report = archive.run("list.txt", fresh=True)
    assert [bad["error"] for bad in report.failed] == ["no such file"]
    assert names_of(archive) == {"a.mp4"}


def test_replaced_file_leaves_one_version(archive):
    archive.run()
    (old,) = archive.out.glob("trajectories/*")
    archive.put("a.mp4", "two")
    archive.check(archive.run())
    assert len(published(archive.out)) == 1
    assert [path.name for path in archive.out.glob("superseded/*")] == [old.name]
    archive.put("a.mp4", "text")
    archive.check(archive.run())
    assert published(archive.out) == {}
    archive.put("a.mp4", "one")
    archive.check(archive.run())
    assert old.exists()
    assert old.name not in {path.name for path in archive.out.glob("superseded/*")}


def test_growing_file_leaves_one_version(archive, contents):
    archive.put("a.mp4", contents["three"][:-300])
    archive.run()
    archive.put("a.mp4", "three")
    archive.check(archive.run())
    assert len(published(archive.out)) == 1


def test_file_that_changes_while_it_is_tracked_is_not_published(archive):
    def grows(store, shards):
        yield from detect(store, shards)
        archive.put("a.mp4", "two")

    archive.put("b.mp4", "three")
    report = archive.run(work=lambda store, shards: list(grows(store, shards)))
    assert [bad["error"] for bad in report.failed] == ["changed while it was tracked; run again"]
    assert names_of(archive) == {"b.mp4"}
    archive.check(archive.run())


def test_renamed_file_gets_its_new_name_in_all_tables(archive):
    archive.run()
    (archive.folder / "a.mp4").rename(archive.folder / "new.mp4")
    report = archive.run("new.mp4")
    assert (report.frames, report.skipped) == (0, 1)
    archive.check(report)
    assert names_of(archive) == {"new.mp4"}


def test_copies_are_one_video_and_outlive_each_other(archive):
    archive.put("b.mp4", "one")
    archive.check(archive.run())
    archive.put("a.mp4", "two")
    assert archive.run().videos == 1
    assert names_of(archive) == {"a.mp4", "b.mp4"}


def test_other_runs_keep_their_videos(archive):
    archive.run("a.mp4")
    archive.put("b.mp4", "two")
    archive.run("b.mp4")
    (archive.folder / "a.mp4").unlink()
    archive.run("b.mp4")
    assert names_of(archive) == {"a.mp4", "b.mp4"}


def test_every_run_names_the_problems_of_its_own_sources(archive):
    archive.put("a.mp4", "cut")
    archive.check(archive.run())
    archive.put("copy.mp4", "cut")
    report = archive.run("copy.mp4")
    assert report.frames == 0
    assert {Path(row["source"]).name for row in report.quarantined} == {"copy.mp4"}
    archive.put("a.mp4", "three")
    archive.put("copy.mp4", "text")
    archive.check(archive.run())
    archive.put("copy.mp4", "three")
    assert archive.run().quarantined == []
    assert list(archive.out.glob("quarantine/*")) == []


def test_unreadable_source_that_is_gone_is_forgotten(archive):
    archive.put("bad.mp4", "text")
    archive.run()
    (archive.folder / "bad.mp4").unlink()
    archive.run()
    assert Store(archive.out).quarantine() == []


@pytest.mark.parametrize("folder", ["trajectories", "manifests", "videos"])
def test_lost_results_are_named_and_forgotten_with_their_source(archive, folder):
    archive.run()
    (path,) = archive.out.glob(f"{folder}/*")
    path.unlink()
    (bad,) = inventory(Store(archive.out))["damaged"]
    assert (bad["video_id"], bad["source"]) == (path.stem, str(archive.folder / "a.mp4"))
    archive.put("a.mp4", "two")
    archive.check(archive.run())
    assert inventory(Store(archive.out))["damaged"] == []


@pytest.mark.parametrize("folder", ["trajectories", "manifests", "videos"])
def test_damaged_results_are_made_again_and_named(archive, folder, caplog):
    archive.put("b.mp4", "two")
    archive.run()
    (path, _) = sorted((archive.out / folder).iterdir())
    content = bytearray(path.read_bytes())
    # A video's row is mostly description of its columns; what it says is protected page by page.
    content[40 if folder == "videos" else len(content) // 3] ^= 0x10
    path.write_bytes(content)
    store = Store(archive.out)
    (bad,) = inventory(store, deep=True)["damaged"]
    assert bad["video_id"] == path.stem
    archive.check(archive.run())
    assert (
        path.stem in caplog.text or Path(store.read_video(path.stem)["source"]).name in caplog.text
    )
    assert inventory(store, deep=True)["damaged"] == []


def test_name_that_is_not_utf8(archive, contents):
    for name, content in ((b"\xff.mp4", "two"), (b"\xfe.mp4", "cut"), (b"\xfd.mp4", "text")):
        path = Path(os.fsdecode(os.fsencode(archive.folder) + b"/" + name))
        path.write_bytes(contents[content])
    report = archive.run()
    assert report.videos == 3
    uri = archive.folder.as_uri()
    assert {row["source"] for row in report.quarantined} == {f"{uri}/%FE.mp4", f"{uri}/%FD.mp4"}
    sources = {table["source"][0].as_py() for table in published(archive.out).values()}
    assert sources == {str(archive.folder / "a.mp4"), f"{uri}/%FE.mp4", f"{uri}/%FF.mp4"}
    assert archive.run().frames == 0


def test_machine_trouble_is_tried_again_and_is_no_damage(archive):
    archive.put("b.mp4", "two")
    tries = Counter()

    def trouble(times):
        def work(store, shards):
            for table in detect(store, shards):
                row = table.to_pylist()[0]
                video = store.read_video(row["video_id"])
                if row["report"] and video["source"].endswith("b.mp4") and tries["b"] < times:
                    tries["b"] += 1
                    end = {**row, "report": '{"answered": 7, "decode_s": 0, "machine": "no disk"}'}
                    table = pa.Table.from_pylist([end], FRAME_ROW)
                yield table

        return work

    report = archive.run(work=trouble(100))
    assert tries["b"] == 3
    assert report.failed == [
        {"source": str(archive.folder / "b.mp4"), "error": "frames 0-6: no disk"}
    ]
    assert report.quarantined == []
    assert (report.videos, report.frames) == (1, 4)
    assert names_of(archive) == {"a.mp4"}
    tries.clear()
    report = archive.run(work=trouble(2))
    assert (report.failed, report.videos, report.frames) == ([], 1, 7)
    archive.check(archive.run())


def test_parts_that_never_come_back_are_named(archive):
    archive.put("b.mp4", "three")

    def loses(store, shards):
        yield from detect(store, [s for s in shards if s["first"] != 12])

    report = archive.run(work=loses)
    assert [bad["error"] for bad in report.failed] == ["frames 12-20: its worker process died"]
    archive.check(archive.run())


def test_model_that_always_fails_ends_the_run(archive):
    def fails(store, shards):
        for shard in shards * 20:
            row = {"video_id": shard["video_id"], "shard_first": shard["first"]}
            row["report"] = '{"model_error": "NaN"}'
            yield pa.Table.from_pylist([row], FRAME_ROW)

    with pytest.raises(
        WorkError, match=r"failed 9 times; last: NaN; while processing .*a\.mp4: frames"
    ):
        archive.run(work=fails)
    assert Store(archive.out).runs()[-1]["status"] == "failed"
    archive.check(archive.run())


def test_work_that_kills_its_worker_is_given_up(archive):
    """A worker that dies tells nobody, so it notes on disk what it is at."""
    archive.out.mkdir()
    notes = WorkNotes(archive.out / ".working")
    stage = DetectStage.__new__(DetectStage)
    stage.notes, stage._detect = notes, lambda row, _: row["first"]
    row = {"video_id": "v", "shard_first": 0, "first": 24}
    for _ in range(2):
        assert notes.begin("detect-v-0-24") < 2  # and dies
    assert stage._detect_or_say_why({**row, "first": 48}, None) == 48
    assert stage._detect_or_say_why(row, None) == 24
    for _ in range(3):
        notes.begin("detect-v-0-24")
    for _ in range(2):
        (end,) = stage._detect_or_say_why(row, None).to_pylist()
        assert json.loads(end["report"])["model_error"].startswith("its process died")
    archive.run()
    assert not list(archive.out.glob(".working/*"))


def test_disk_that_disappears_takes_no_rows_away(archive):
    archive.put("list.txt", b"a.mp4\nlink.mp4\n")
    (archive.folder / "link.mp4").symlink_to("/nowhere/x.mp4")
    archive.run("a.mp4")
    (archive.folder / "a.mp4").rename(archive.folder / "elsewhere")
    report = archive.run("list.txt")
    assert [(Path(bad["source"]).name, bad["error"]) for bad in report.failed] == [
        ("a.mp4", "no such file"),
        ("link.mp4", "a link to what is not there"),
    ]
    assert names_of(archive) == {"a.mp4"}


def test_inspect_refuses_what_is_no_results_folder(tmp_path):
    with pytest.raises(InputError, match="not a results folder"):
        inventory(Store(tmp_path))


def test_a_run_stops_at_its_deadline_and_goes_on(archive):
    archive.put("b.mp4", "two")
    past = datetime.now() - timedelta(seconds=1)
    with pytest.raises(StoppedEarly, match="stopped at the deadline"):
        archive.run(deadline=past.isoformat())
    assert not published(archive.out)
    (run,) = Store(archive.out).runs()
    assert run["status"] == "interrupted"
    soon = datetime.now() + timedelta(hours=1)
    archive.check(archive.run(deadline=soon.isoformat()))


@pytest.mark.parametrize(
    ("allowed", "stops"), [("0", True), ("1", True), ("2", False), ("60%", False)]
)
def test_a_run_stops_when_too_many_sources_have_trouble(archive, allowed, stops):
    """Two of four: one is no video, one is cut short."""
    archive.put("b.mp4", "text")
    archive.put("c.mkv", "cut")
    archive.put("z.mp4", "two")
    if stops:
        with pytest.raises(StoppedEarly, match="sources have trouble, more than --max-failures"):
            archive.run(max_failures=allowed)
        archive.check(archive.run())
    else:
        archive.check(archive.run(max_failures=allowed))
