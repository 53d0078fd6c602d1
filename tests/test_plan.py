"""Inputs, probing and planning."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.runs import run
from tests.videos import make_video
from tracknet.jobs.plan import bind, make_plan, video_from_row, video_row
from tracknet.jobs.sources import find_sources, source_path
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.spec import WindowSpec
from tracknet.schemas.store import Store

SPEC = WindowSpec(3, (0, 1, 2))


@pytest.fixture
def tree(tmp_path):
    for name in ("a.mp4", "sub/b.MKV", "sub/.hidden.mp4", "notes.txt.bak", "pics/0.jpg",
                 "sub/._b.MKV", "raw/c.h264", "raw/d.hevc", "raw/e.gif"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "list.txt").write_text("# the finals\na.mp4\nsub/b.MKV \n\ngone #2.mp4\n")
    (tmp_path / "all.lst").write_bytes(b"\xef\xbb\xbfsub\r\nraw/*.h*\r\nlist.txt\r\n")
    return tmp_path


RAW = ["raw/c.h264", "raw/d.hevc", "raw/e.gif"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["."], ["a.mp4", "pics", *RAW, "sub/b.MKV"]),
        (["sub"], ["sub/b.MKV"]),
        (["a.mp4", "."], ["a.mp4", "pics", *RAW, "sub/b.MKV"]),
        (["**/*.M*"], ["sub/b.MKV"]),
        (["list.txt"], ["a.mp4", "sub/b.MKV", "gone #2.mp4"]),
        (["all.lst"], [*RAW[:2], "a.mp4", "sub/b.MKV", "gone #2.mp4"]),
        (["~/sub"], ["sub/b.MKV"]),
        (["notes.txt.bak"], ["notes.txt.bak"]),
    ],
)
def test_inputs(tree, monkeypatch, inputs, expected):
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree))
    found = [str(path.relative_to(tree)) for path in find_sources(inputs)]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.mp4", "no such file"), ("empty", "no videos in this folder")],
)
def test_inputs_that_name_nothing(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_sources([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.mp4\nB\u00e4lle.mp4\n".encode("latin-1"), r"list\.txt:2: not UTF-8"),
        ("a.mp4\n".encode("utf-16"), r"list\.txt:1: not UTF-8"),
        ("a.mp4\n".encode("utf-16-le"), r"list\.txt:1: not text"),
        (b"a.mp4\nlist.txt\n", r"list\.txt:2: .*list\.txt: names itself"),
        (b"empty\n", r"list\.txt:1: .*empty: no videos in this folder"),
    ],
)
def test_manifest_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        find_sources([str(tmp_path / "list.txt")])


def test_links_are_followed_and_each_folder_is_searched_once(tmp_path):
    deep = tmp_path / "archive" / "deep"
    deep.mkdir(parents=True)
    (deep / "a.mp4").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.mp4").write_bytes(b"x")
    (deep / "loop").symlink_to(tmp_path / "archive")
    (deep / "loop2").symlink_to(deep)
    (deep / "more").symlink_to(tmp_path / "other")
    (deep / "broken.mp4").symlink_to("nowhere")
    (deep / "self").symlink_to("self")
    found = [path.name for path in find_sources([str(tmp_path / "archive")])]
    assert found == ["a.mp4", "broken.mp4", "b.mp4"]


def test_what_is_no_file_is_named_and_stops_nothing(tmp_path, monkeypatch):
    inputs = tmp_path / "in"
    good = make_video(inputs / "good.mp4", 10)
    os.mkfifo(inputs / "pipe.mp4")
    (inputs / "broken.mp4").symlink_to("nowhere")
    for name in ("closed", "lost+found"):  # root may read everything: refuse in its place
        (inputs / name).mkdir()
    iterdir = Path.iterdir

    def guarded(path):
        if path.name in ("closed", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", guarded)
    sources = find_sources([str(inputs)])
    assert inputs / "closed" in sources
    plan = plan_of([source for source in sources if source.name != "closed"])
    assert [video.source for video in plan.videos] == [str(good)]
    assert {Path(bad.source).name: (bad.error, bad.machine) for bad in plan.unreadable} == {
        "broken.mp4": ("a link to what is not there", True),
        "pipe.mp4": ("a pipe, socket or device, not a file", False),
    }


def plan_of(sources, store=None, seconds=1.0):
    return make_plan(sources, SPEC, 3, seconds, DecoderLimits(), store)


def test_plan_shards_copies_and_unreadable(tmp_path):
    first = make_video(tmp_path / "a.mp4", 120, gop=30)
    copy = tmp_path / "b.mp4"
    copy.write_bytes(first.read_bytes())
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.mp4"))
    bad.write_text("no video")
    store = Store(tmp_path / "out")
    plan = plan_of([first, copy, bad], store)
    (video,) = plan.videos
    assert [shard.start for shard in video.shards] == [0, 30, 60, 90]
    assert video.copies == [str(copy)]
    bind(plan, store)
    assert store.read_video(video.video_id)["copies"] == [str(copy)]
    ((source, error),) = [(u.source, u.error) for u in plan.unreadable]
    assert (source, source_path(source)) == (f"{tmp_path.as_uri()}/bad%FF.mp4", bad)
    error.encode()


def test_unchanged_file_is_not_probed_again(tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", 30)
    store = Store(tmp_path / "out")
    first = plan_of([path], store)
    monkeypatch.setattr(Decoder, "probe", lambda *_: pytest.fail("probed again"))
    assert plan_of([path], store) == first


def test_probed_video_survives_its_table(tmp_path):
    path = make_video(tmp_path / "a.mp4", 30)
    with Decoder() as decoder:
        video = decoder.probe(path)
    store = Store(tmp_path / "out")
    store.write_video(video_row(video, []))
    again = video_from_row(store.read_video(video.video_id))
    assert again.pts.tolist() == video.pts.tolist()
    assert again.keyframes.tolist() == video.keyframes.tolist()
    assert again.time_base == video.time_base
    assert (again.video_id, again.width, again.seekable) == (
        video.video_id,
        video.width,
        video.seekable,
    )


def test_plan_command_decodes_nothing_and_names_the_unreadable(tmp_path, tiny_weights):
    make_video(tmp_path / "a.mp4", 60)
    (tmp_path / "bad.mp4").write_bytes(b"")
    done = run("plan", tmp_path, "--weights", tiny_weights, "--json")
    assert done.returncode == 3
    found = json.loads(done.stdout)
    assert [Path(v["source"]).name for v in found["videos"]] == ["a.mp4"]
    assert found["videos"][0]["frames"] == 60
    assert found["unreadable"][0]["error"] == "the file is empty"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "bad.mp4"]
